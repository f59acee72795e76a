from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_bundle import make_bundle, small_network, vessel_image

from minivess.config.deploy import Variant
from minivess.data.geometry import Geometry
from minivess.data.volume import Volume
from minivess.deploy.segment import open_session, segment
from minivess.deploy.variants import make_variant
from minivess.types import Float32Array


def windows() -> list[Float32Array]:
    random = np.random.default_rng(0)
    return [random.normal(size=(2, 16, 16, 8)).astype(np.float32) * 2 for _ in range(3)]


@pytest.mark.parametrize(("variant", "least", "most"), [("fp16", 0, 2e-3), ("int8", 1e-6, 0.05)])
def test_a_variant_runs_on_the_cpu_and_is_near(
    tmp_path: Path, variant: Variant, least: float, most: float
) -> None:
    made = make_variant(small_network(), variant, windows())
    assert made == make_variant(small_network(), variant, windows()), "the same bytes again"
    one, two = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", model=made)
    array = vessel_image()
    x, y, z = array.shape
    volume = Volume(array, Geometry((x, y, z), np.diag([1, 1, 5, 1])))
    full = segment(open_session(one), one, volume).probability
    found = segment(open_session(two), two, volume).probability
    assert found.dtype == np.float32
    assert least <= float(np.abs(full - found).max()) <= most


def test_bfloat16_is_refused_by_the_runtime(tmp_path: Path) -> None:
    """Why there is no such variant."""
    import onnx
    from onnx import TensorProto

    model = onnx.load_from_string(small_network())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    weight = model.graph.initializer[0]
    weight.raw_data = np.zeros(9, dtype=np.uint16).tobytes()
    weight.data_type = TensorProto.BFLOAT16
    from minivess.errors import MinivessError

    with pytest.raises(MinivessError, match="bfloat16"):
        open_session(make_bundle(tmp_path, model=model.SerializeToString()))
