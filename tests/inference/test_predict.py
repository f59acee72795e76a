from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from minivess import output, paths
from minivess.config.schema import ComputeConfig, InferenceConfig, ModelConfig
from minivess.data.geometry import Geometry, same_grid
from minivess.data.preprocess import PreparedCase
from minivess.data.volume import read_volume
from minivess.errors import MinivessError
from minivess.inference.predict import TrainedNetwork, load_network, predict_case, write_prediction
from minivess.models import build_adapter
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import FloatArray, Shape

CPU = ComputeConfig(device="cpu")
MODEL = ModelConfig(filters=(4, 8, 8))


def rotated(spacing: tuple[float, float, float], degrees: float) -> FloatArray:
    """Affine of a grid turned about z, moved from the origin; in float32 as headers have it."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, -1]]) * spacing
    affine[:3, 3] = (-12.5, 30.25, 7.0)
    return affine.astype(np.float32).astype(np.float64)


GEOMETRIES = {
    "um": Geometry((18, 14, 6), np.diag([1.0, 1.0, 5.0, 1.0])),
    "rotated": Geometry((18, 14, 6), rotated((0.99, 0.99, 5.0), 33.0)),
    "mm": Geometry((18, 14, 6), rotated((0.00497, 0.00497, 0.005), -90.0), 1000.0),
}


def make_case(geometry: Geometry) -> PreparedCase:
    image = np.random.default_rng(0).normal(size=geometry.shape).astype(np.float32)
    label = (image > 1).astype(np.uint8)
    return PreparedCase("mv01", "mv01", image, label, np.flatnonzero(label), geometry)


def write_run(run: Path, patch_size: Shape = (8, 8, 4)) -> Path:
    """The files of a trained run, as far as predicting needs them."""
    from safetensors.torch import save_file

    adapter = build_adapter(MODEL, (1.0, 1.0, 5.0))
    with torch_seeded(0, "test"):
        network = adapter.build()
    run.mkdir(parents=True)
    save_file(weights_of(network), paths.weights(run))
    facts: dict[str, Any] = {
        "config": MODEL.model_dump(mode="json"),
        "spacing_um": [1.0, 1.0, 5.0],
        "patch_size": list(patch_size),
    }
    output.write_json({"network": facts}, paths.run_record(run))
    return run


@pytest.mark.parametrize("name", sorted(GEOMETRIES))
def test_a_prediction_lies_where_its_source_lies(tmp_path: Path, name: str) -> None:
    geometry, run = GEOMETRIES[name], write_run(tmp_path / "run")
    case = make_case(geometry)
    probability, mask = predict_case(load_network(run), case, InferenceConfig(), CPU)
    write_prediction(run, case, probability, mask)
    for path, array in (
        (paths.probability(run, "mv01"), probability),
        (paths.prediction(run, "mv01"), mask),
    ):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, array)
        assert volume.unit == ("mm" if geometry.unit_um == 1000.0 else "um")
        assert volume.affine is not None
        np.testing.assert_array_equal(volume.affine, geometry.affine)
        found = Geometry(volume.array.shape, volume.affine, geometry.unit_um)
        assert same_grid(found, geometry, 0.0)
        assert found.spacing_um == geometry.spacing_um
    assert read_volume(paths.prediction(run, "mv01")).array.dtype == np.uint8
    assert read_volume(paths.probability(run, "mv01")).array.dtype == np.float32


def test_the_mask_is_what_lies_above_the_threshold(tmp_path: Path) -> None:
    trained, case = load_network(write_run(tmp_path / "run")), make_case(GEOMETRIES["um"])
    probability, mask = predict_case(trained, case, InferenceConfig(), CPU)
    assert mask.dtype == np.bool_
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, probability > 0.5)
    # Just at the threshold is not above it.
    at = float(probability.max())
    again, none = predict_case(trained, case, InferenceConfig(probability_threshold=at), CPU)
    np.testing.assert_array_equal(again, probability)
    assert not none.any()


def test_dropout_is_drawn_from_the_seed_and_only_where_it_is_asked_for() -> None:
    model = ModelConfig(filters=(4, 8, 8), dropout=0.5)
    with torch_seeded(0, "test"):
        network = build_adapter(model, (1.0, 1.0, 5.0)).build()
    trained, case = TrainedNetwork(network, (8, 8, 4), (4, 4, 1)), make_case(GEOMETRIES["um"])

    def drawn(number: int, dropout: bool) -> Any:
        with torch_seeded(number, "dropout"):
            return predict_case(trained, case, InferenceConfig(), CPU, dropout)[0]

    one, again, other = (drawn(number, True) for number in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    # Afterwards the network predicts as before: every unit counts.
    np.testing.assert_array_equal(drawn(1, False), drawn(2, False))
    assert not np.allclose(one, drawn(1, False))


def test_without_dropout_the_network_is_what_it_was() -> None:
    import torch

    networks = []
    for dropout in (0.0, 0.5):
        with torch_seeded(0, "test"):
            adapter = build_adapter(
                ModelConfig(filters=(4, 8, 8), dropout=dropout), (1.0, 1.0, 5.0)
            )
            networks.append(adapter.build())
    layers = [
        sum(isinstance(layer, torch.nn.Dropout) for layer in network.modules())
        for network in networks
    ]
    assert layers[0] == 0 < layers[1]
    plain, other = (weights_of(network) for network in networks)
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_the_window_is_the_patch_unless_set_and_rounded_up(tmp_path: Path) -> None:
    trained, case = load_network(write_run(tmp_path / "run")), make_case(GEOMETRIES["um"])
    assert trained.patch_size == (8, 8, 4)
    assert trained.divisor == (4, 4, 1)
    default, _ = predict_case(trained, case, InferenceConfig(), CPU)
    same, _ = predict_case(trained, case, InferenceConfig(window_size=(7, 5, 4)), CPU)
    larger, _ = predict_case(trained, case, InferenceConfig(window_size=(16, 16, 6)), CPU)
    np.testing.assert_array_equal(default, same)
    assert not np.allclose(default, larger, atol=1e-4)


def test_files_have_the_same_bytes_twice(tmp_path: Path) -> None:
    run, case = write_run(tmp_path / "run"), make_case(GEOMETRIES["rotated"])
    contents = []
    for _ in range(2):
        write_prediction(run, case, *predict_case(load_network(run), case, InferenceConfig(), CPU))
        files = sorted((run / "predictions").iterdir())
        assert len(files) == 2
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]


def test_a_network_is_loaded_for_evaluation(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    run = write_run(tmp_path / "run")
    trained = load_network(run)
    assert not trained.network.training
    expected, found = load_file(paths.weights(run)), weights_of(trained.network)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("missing", ["weights", "run_record"])
def test_an_unfinished_run_is_an_earlier_step(tmp_path: Path, missing: str) -> None:
    run = write_run(tmp_path / "run")
    getattr(paths, missing)(run).unlink()
    with pytest.raises(MinivessError) as caught:
        load_network(run)
    assert caught.value.code == "MV-STATE-002"


@pytest.mark.parametrize("content", [b"", b"not weights at all", None])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes | None) -> None:
    run = write_run(tmp_path / "run")
    path = paths.weights(run)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(MinivessError) as caught:
        load_network(run)
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == str(path)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    run = write_run(tmp_path / "run")
    other = build_adapter(ModelConfig(filters=(4, 8, 16)), (1.0, 1.0, 5.0)).build()
    save_file(weights_of(other), paths.weights(run))
    with pytest.raises(MinivessError) as caught:
        load_network(run)
    assert caught.value.code == "MV-STATE-003"
