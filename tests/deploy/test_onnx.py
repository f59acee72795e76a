"""Every network of the registry, exported: the same numbers as in torch, the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from forked import forked
from small_bundle import make_bundle, vessel_image
from small_networks import SMALL, TRAINED_HERE

from minivess.config.schema import ModelConfig, PreprocessConfig
from minivess.data.geometry import Geometry
from minivess.data.preprocess import normalise
from minivess.data.volume import Volume
from minivess.deploy.onnx import export_network
from minivess.deploy.segment import open_session, segment
from minivess.errors import MinivessError
from minivess.inference.sliding_window import predict_probability
from minivess.inference.windows import window_for
from minivess.models import build_adapter
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    import torch

    from minivess.models.adapter import ModelAdapter
    from minivess.types import Shape

SPACING = (1.0, 1.0, 5.0)
ELSEWHERE = """
import hashlib
from minivess.config.schema import ModelConfig
from minivess.deploy.onnx import export_network
from minivess.models import build_adapter
from minivess.seeding import torch_seeded
adapter = build_adapter(ModelConfig(filters=(4, 8, 8)), (1.0, 1.0, 5.0))
with torch_seeded(0, "test"):
    network = adapter.build()
print(hashlib.sha256(export_network(network, (16, 16, 8), adapter.any_window())).hexdigest())
"""


@dataclass(frozen=True)
class Exported:
    """A network, the window it is used with, and its file."""

    adapter: ModelAdapter
    network: torch.nn.Module
    window: Shape
    model: bytes


@pytest.fixture(scope="module", params=TRAINED_HERE)
def exported(request: pytest.FixtureRequest) -> Exported:
    config = {"architecture": request.param, **SMALL[request.param]}
    adapter = build_adapter(ModelConfig.model_validate(config), SPACING)
    with torch_seeded(0, "test"):
        network = adapter.build()
    window = window_for((16, 16, 8), adapter.patch_divisor())
    model = forked(export_network, network, window, adapter.any_window())
    return Exported(adapter, network.eval(), window, model)


def in_torch(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return np.asarray(torch.softmax(network(torch.from_numpy(images)), 1)[:, 1:].numpy())


def test_any_batch_and_every_window_that_the_adapter_allows(
    exported: Exported, tmp_path: Path
) -> None:
    session = open_session(make_bundle(tmp_path, model=exported.model))
    x, y, z = exported.window
    shapes = [(1, x, y, z), (3, x, y, z)]
    if exported.adapter.any_window():
        dx, dy, dz = exported.adapter.patch_divisor()
        shapes.append((2, x + 2 * dx, y + dy, z + dz))
    for batch, *size in shapes:
        images = np.random.default_rng(0).normal(size=(batch, 1, *size)).astype(np.float32)
        (found,) = session.run(["probability"], {"image": images})
        np.testing.assert_allclose(found, in_torch(exported.network, images), atol=1e-5)


def test_a_whole_volume_is_what_the_dag_predicts(exported: Exported, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, model=exported.model, window=exported.window)
    array = vessel_image()
    x, y, z = array.shape
    found = segment(
        open_session(bundle), bundle, Volume(array, Geometry((x, y, z), np.diag([1, 1, 5, 1])))
    )
    image, _ = normalise(array, PreprocessConfig())
    expected = predict_probability(exported.network, image, exported.window, 0.5, 4)
    assert float(np.ptp(expected)) > 0.01
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    near = np.abs(expected - 0.5) < 1e-5
    np.testing.assert_array_equal(found.mask[~near], (expected > 0.5)[~near])


def test_nothing_of_the_machine_is_in_the_file(exported: Exported) -> None:
    for word in (b"site-packages", b"monai", b"torch", b".py", str(Path.cwd()).encode()):
        assert word not in exported.model
    import onnx

    model = onnx.load_from_string(exported.model)
    onnx.checker.check_model(model, full_check=True)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert model.producer_name == "minivess"


def test_the_same_bytes_again_and_from_another_folder(exported: Exported, tmp_path: Path) -> None:
    if exported.adapter.config.architecture != "dynunet":
        pytest.skip("one architecture stands for the exporter")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == hashlib.sha256(exported.model).hexdigest(), done.stderr


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("minivess.deploy.onnx.EXPORTER", ("onnx", "no_such_exporter"))
    with pytest.raises(MinivessError) as caught:
        export_network(torch.nn.Conv3d(1, 2, 1), (4, 4, 4), any_window=False)
    assert caught.value.code == "MV-SYSTEM-004"
    assert caught.value.found == "no no_such_exporter"
    assert "--extra serve" in caught.value.fix


def test_a_network_that_onnx_cannot_say_is_an_error() -> None:
    import torch

    class Odd(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if float(image.sum()) > 0:
                return torch.cat([image, image], 1)
            return torch.cat([image, -image], 1)

    def refused() -> dict[str, str] | None:
        try:
            export_network(Odd(), (4, 4, 4), any_window=False)
        except MinivessError as error:
            return asdict(error)
        return None

    error = forked(refused)
    assert error is not None
    assert error["code"] == "MV-DEPLOY-001"
    assert error["found"]
