from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_bundle import make_bundle, vessel_image

from minivess.config.schema import PreprocessConfig
from minivess.data.geometry import Geometry
from minivess.data.preprocess import normalise
from minivess.data.volume import Volume
from minivess.deploy.segment import Segmentation, open_session, segment
from minivess.errors import MinivessError
from minivess.types import Array, Shape


def volume(array: Array) -> Volume:
    x, y, z = array.shape
    return Volume(array, Geometry((x, y, z), np.diag([0.5, 0.5, 2.0, 1.0])))


def segmented(folder: Path, array: Array, **changes: object) -> Segmentation:
    bundle = make_bundle(folder, **changes)
    return segment(open_session(bundle), bundle, volume(array))


def expected(array: Array, gain: float = 2.0) -> Array:
    """What the small network says of a whole volume at once, away from the borders of windows."""
    image, _ = normalise(array, PreprocessConfig())
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    x, y, _ = image.shape
    total = sum(padded[i : i + x, j : j + y] for i in range(3) for j in range(3))
    return np.asarray(1 / (1 + np.exp(-gain * total / 9)))


def test_the_mask_is_what_lies_above_the_threshold(tmp_path: Path) -> None:
    array = vessel_image()
    found = segmented(tmp_path, array)
    assert found.mask.dtype == np.uint8
    assert found.probability.dtype == np.float32
    np.testing.assert_array_equal(found.mask, found.probability > 0.5)
    assert found.mask[:, 16, 5].all()
    assert found.mask[:, 2, 1].mean() < 0.2
    assert found.geometry.spacing_um == (0.5, 0.5, 2.0)


def test_one_window_over_the_volume_is_the_network_itself(tmp_path: Path) -> None:
    array = vessel_image((40, 33, 11))
    found = segmented(tmp_path, array, window=(40, 33, 11))
    np.testing.assert_allclose(found.probability, expected(array), atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_every_type_of_voxel_is_taken(tmp_path: Path, kind: type) -> None:
    array = np.clip(vessel_image(), 0, 250).astype(kind)
    found = segmented(tmp_path, array, window=(40, 33, 11))
    np.testing.assert_allclose(found.probability, expected(array), atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 33, 11), (5, 40, 3), (1, 1, 1), (16, 16, 8)])
def test_the_shape_is_that_of_the_volume(tmp_path: Path, shape: Shape) -> None:
    found = segmented(tmp_path, np.random.default_rng(0).normal(size=shape))
    assert found.mask.shape == found.probability.shape == shape
    assert np.isfinite(found.probability).all()


def test_progress_rises_to_one_and_may_stop_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    session, seen = open_session(bundle), list[float]()
    segment(session, bundle, volume(vessel_image()), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 3

    class Stop(Exception):
        pass

    def stop(part: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        segment(session, bundle, volume(vessel_image()), stop)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    array = vessel_image()
    array[3, 4, 5] = value
    with pytest.raises(MinivessError) as caught:
        segmented(tmp_path, array)
    assert caught.value.code == "MV-DATA-006"
    assert "1 NaN" in caught.value.found


def test_a_volume_of_almost_one_intensity_is_refused(tmp_path: Path) -> None:
    sparse = np.zeros((32, 33, 11), dtype=np.uint16)
    sparse[3, 4, 5] = 500  # clipping takes it away
    with pytest.raises(MinivessError) as caught:
        segmented(tmp_path, sparse)
    assert caught.value.code == "MV-UPLOAD-007"
    assert "clip_percentiles" not in str(caught.value), "of no use to who uploads a volume"


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        open_session(make_bundle(tmp_path, model=b"no network"))
    assert caught.value.code == "MV-STATE-003"


def test_a_graph_that_keeps_its_weights_in_another_file_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx.external_data_helper import set_external_data
    from small_bundle import small_network

    model = onnx.load_from_string(small_network())
    set_external_data(model.graph.initializer[0], "../../etc/passwd")
    model.graph.initializer[0].ClearField("raw_data")
    with pytest.raises(MinivessError) as caught:
        open_session(make_bundle(tmp_path, model=model.SerializeToString()))
    assert caught.value.code == "MV-STATE-003"


def test_neither_torch_nor_monai_is_needed(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    program = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from minivess.data.geometry import Geometry\n"
        "from minivess.data.volume import Volume\n"
        "from minivess.deploy.bundle import read_bundle\n"
        "from minivess.deploy.segment import open_session, segment\n"
        f"bundle = read_bundle(Path({str(tmp_path)!r}))\n"
        "volume = Volume(np.zeros((4, 4, 4)), Geometry((4, 4, 4), np.eye(4)))\n"
        "segment(open_session(bundle), bundle, volume)\n"
        "print(sorted({'torch', 'monai', 'torchio', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
