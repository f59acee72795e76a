from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivess.config.schema import DataConfig, PreprocessConfig
from minivess.data.geometry import Geometry, same_grid
from minivess.data.preprocess import CASE, FOREGROUND, IMAGE, LABEL, normalise, open_case
from minivess.data.preprocess import preprocess_case as run_preprocess
from minivess.data.skeletons import write_label_skeleton
from minivess.data.volume import write_volume
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import Array

AFFINE = np.array(
    [[0.0, -0.99, 0.0, 12.5], [0.99, 0.0, 0.0, -3.0], [0.0, 0.0, 5.0, 100.0], [0.0, 0.0, 0.0, 1.0]],
    dtype=np.float32,
).astype(np.float64)
SHAPE = (12, 10, 6)


def kind(normalisation: str, clip: tuple[float, float] = (0.5, 99.5)) -> PreprocessConfig:
    return PreprocessConfig.model_validate(
        {"normalisation": normalisation, "clip_percentiles": clip}
    )


def make_row(folder: Path, image: Array, label: Array, unit_um: float = 1.0) -> dict[str, Any]:
    """Files of a case and what the manifest says of them."""
    geometry = Geometry(SHAPE, AFFINE, unit_um)
    write_volume(image, folder / "image.nii.gz", geometry)
    write_volume(label, folder / "label.nii.gz", geometry)
    return {
        "case": "mv01",
        "group": "mouse7",
        "locked": False,
        "image": str(folder / "image.nii.gz"),
        "label": str(folder / "label.nii.gz"),
        "shape": list(SHAPE),
        "affine": AFFINE.ravel().tolist(),
        "unit_um": unit_um,
        "image_sha256": "aa",
        "label_sha256": "bb",
    }


@pytest.fixture
def image() -> Array:
    return np.random.default_rng(0).gamma(2.0, 300.0, SHAPE).astype(np.uint16)


@pytest.fixture
def label(image: Array) -> Array:
    return (image > 900).astype(np.uint8)


def test_zscore_is_what_numpy_says(image: Array) -> None:
    found, how = normalise(image, kind("zscore", (1.0, 98.0)))
    low, high = np.percentile(image, [1.0, 98.0])
    clipped = np.clip(image.astype(np.float64), low, high)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (clipped - clipped.mean()) / clipped.std(), atol=2e-6)
    assert (how.low, how.high) == (low, high)
    assert (how.shift, how.scale) == pytest.approx((clipped.mean(), clipped.std()))


def test_minmax_is_what_numpy_says(image: Array) -> None:
    found, _ = normalise(image, kind("minmax", (5.0, 95.0)))
    low, high = np.percentile(image, [5.0, 95.0])
    expected = (np.clip(image.astype(np.float64), low, high) - low) / (high - low)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found.min(), found.max()) == (0.0, 1.0)


def test_none_only_clips(image: Array) -> None:
    found, _ = normalise(image, kind("none"))
    low, high = np.percentile(image, [0.5, 99.5])
    np.testing.assert_array_equal(found, np.clip(image, low, high).astype(np.float32))
    unclipped, _ = normalise(image, kind("none", (0.0, 100.0)))
    np.testing.assert_array_equal(unclipped, image.astype(np.float32))


def test_the_input_is_left_alone(image: Array) -> None:
    floating = image.astype(np.float32)
    normalise(floating, kind("zscore"))
    np.testing.assert_array_equal(floating, image)


@pytest.mark.parametrize("normalisation", ["zscore", "minmax", "none"])
def test_a_volume_that_clipping_makes_constant_is_an_error(normalisation: str) -> None:
    sparse = np.zeros((10, 10, 10), dtype=np.uint16)
    sparse[0, 0, :3] = 4000
    with pytest.raises(MinivessError) as caught:
        normalise(sparse, kind(normalisation), "case a")
    assert (caught.value.code, caught.value.where) == ("MV-DATA-014", "case a")
    assert "from 0 to 4000" in caught.value.found
    assert "preprocess.clip_percentiles" in caught.value.fix
    found, _ = normalise(sparse, kind(normalisation, (0.0, 100.0)))
    assert len(np.unique(found)) == 2


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["zscore", "minmax"]),
    st.floats(-1e6, 1e6, width=32) | st.sampled_from([1e-42, 0.1, 65535.0]),
)
def test_a_constant_image_becomes_zeros(normalisation: str, value: float) -> None:
    image = np.full((5, 7, 3), value, dtype=np.float32)
    found, how = normalise(image, kind(normalisation))
    assert np.array_equal(found, np.zeros_like(found))
    assert how.scale > 0


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["zscore", "minmax", "none"]),
    st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]).flatmap(
        lambda dtype: hnp.arrays(dtype, (4, 3, 2), elements=st.integers(0, 200))
    ),
)
def test_the_result_is_finite_and_keeps_the_order(normalisation: str, image: Array) -> None:
    found, _ = normalise(image, kind(normalisation))
    assert np.isfinite(found).all()
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(found.ravel()[order]) >= 0).all()


def test_values_smaller_than_float32_can_divide_by_stay_finite() -> None:
    image = np.zeros((4, 4, 4))
    image[0] = 1e-200
    found, _ = normalise(image, kind("zscore", (0.0, 100.0)))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("unit_um", [1.0, 1000.0])
def test_a_case_is_written_and_opened_as_it_was(
    tmp_path: Path, image: Array, label: Array, unit_um: float
) -> None:
    row = make_row(tmp_path / "raw", image, label, unit_um)
    run_preprocess(row, DataConfig(), kind("zscore"), tmp_path / "mv01")
    case = open_case(tmp_path / "mv01")
    assert (case.case, case.group, case.shape) == ("mv01", "mouse7", SHAPE)
    assert same_grid(case.geometry, Geometry(SHAPE, AFFINE, unit_um), 0.0)
    assert case.geometry.unit_um == unit_um
    expected = (0.99 * unit_um, 0.99 * unit_um, 5.0 * unit_um)
    assert case.spacing_um == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(case.image, normalise(image, kind("zscore"))[0])
    np.testing.assert_array_equal(case.label, label)
    np.testing.assert_array_equal(case.foreground, np.flatnonzero(label))
    assert (case.image.dtype, case.label.dtype) == (np.float32, np.uint8)
    facts = json.loads((tmp_path / "mv01" / CASE).read_text(encoding="utf-8"))
    assert facts["normalisation"]["kind"] == "zscore"
    assert (facts["image_sha256"], facts["label_sha256"]) == ("aa", "bb")


def test_label_values_are_mapped(tmp_path: Path, image: Array, label: Array) -> None:
    row = make_row(tmp_path / "raw", image, label * np.uint8(7))
    run_preprocess(row, DataConfig(vessel_labels=(7,)), kind("zscore"), tmp_path / "mv01")
    np.testing.assert_array_equal(open_case(tmp_path / "mv01").label, label)
    with pytest.raises(MinivessError) as caught:
        run_preprocess(row, DataConfig(), kind("zscore"), tmp_path / "other")
    assert caught.value.code == "MV-DATA-007"


def test_arrays_are_memory_maps_that_cannot_be_written(
    tmp_path: Path, image: Array, label: Array
) -> None:
    row = make_row(tmp_path / "raw", image, label)
    run_preprocess(row, DataConfig(), kind("zscore"), tmp_path / "mv01")
    case = open_case(tmp_path / "mv01")
    for array in (case.image, case.label, case.foreground):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_the_same_bytes_twice(tmp_path: Path, image: Array, label: Array) -> None:
    row = make_row(tmp_path / "raw", image, label)
    for name in ("a", "b"):
        run_preprocess(row, DataConfig(), kind("zscore"), tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted([IMAGE, LABEL, FOREGROUND, CASE])
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", [IMAGE, LABEL, FOREGROUND, CASE])
def test_a_missing_file_is_named(tmp_path: Path, image: Array, label: Array, name: str) -> None:
    row = make_row(tmp_path / "raw", image, label)
    run_preprocess(row, DataConfig(), kind("zscore"), tmp_path / "mv01")
    (tmp_path / "mv01" / name).unlink()
    with pytest.raises(MinivessError) as caught:
        open_case(tmp_path / "mv01")
    assert caught.value.code == "MV-STATE-002"
    assert name in caught.value.found
    assert "minivess data preprocess" in caught.value.fix


def test_a_missing_folder_is_an_earlier_step_that_has_not_run(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        open_case(tmp_path / "mv99")
    assert caught.value.code == "MV-STATE-002"
    assert "mv99" in caught.value.what


def test_another_mapping_of_the_labels_is_another_case(tmp_path: Path) -> None:
    """The record is what trainings are keyed by: it must follow what the label became."""
    import json

    from minivess.config.schema import DataConfig, PreprocessConfig
    from minivess.data.geometry import Geometry
    from minivess.data.manifest import build_manifest
    from minivess.data.preprocess import preprocess_case
    from minivess.data.sources import SourceCase
    from minivess.data.volume import write_volume

    geometry = Geometry((6, 6, 4), np.eye(4))
    label = np.arange(144, dtype=np.uint8).reshape(6, 6, 4) % 3
    write_volume(np.arange(144, dtype=np.uint16).reshape(6, 6, 4), tmp_path / "i.nii.gz", geometry)
    write_volume(label, tmp_path / "l.nii.gz", geometry)
    case = SourceCase("a", tmp_path / "i.nii.gz", tmp_path / "l.nii.gz", "a")
    records = []
    for mapping in ((1,), (1, 2), (1,)):
        data = DataConfig(vessel_labels=mapping)
        row = build_manifest([case], data).to_dicts()[0]
        preprocess_case(row, data, PreprocessConfig(), tmp_path / "prepared")
        records.append((tmp_path / "prepared" / "case.json").read_text(encoding="utf-8"))
    assert records[0] == records[2] != records[1]
    assert set(json.loads(records[0])["prepared_sha256"]) == {"image.npy", "label.npy"}


def test_another_label_takes_the_old_skeleton_away(tmp_path: Path, image: Array) -> None:
    folder = tmp_path / "prepared"
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[:, 2:5, 1:4] = 1

    def prepare(voxels: Array) -> None:
        row = make_row(tmp_path, image, voxels)
        run_preprocess(row, DataConfig(), PreprocessConfig(), folder)

    prepare(label)
    write_label_skeleton(folder)
    prepare(label)
    assert open_case(folder, with_skeleton=True).label.max() == 2
    label[:, 6, 2] = 1
    prepare(label)
    with pytest.raises(MinivessError, match="incomplete"):
        open_case(folder, with_skeleton=True)
