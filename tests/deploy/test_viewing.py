"""What the page holds of a volume, and the files that it offers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess.data.geometry import Geometry, same_grid
from minivess.data.volume import Volume, read_volume
from minivess.deploy import viewing

AFFINE = np.array([[0.0, -0.5, 0, 3], [0.5, 0, 0, -7], [0, 0, 2.0, 1], [0, 0, 0, 1]])


@pytest.fixture
def segmented() -> viewing.Viewed:
    random = np.random.default_rng(0)
    volume = Volume(random.integers(0, 99, (9, 8, 5)), Geometry((9, 8, 5), AFFINE))
    probability = random.random((9, 8, 5), dtype=np.float32)
    viewed = viewing.with_probability(viewing.view("scan 1.ome.tif", volume), probability)
    return viewing.at_threshold(viewed, 0.5)


def test_another_threshold_gives_another_mask(segmented: viewing.Viewed) -> None:
    assert segmented.probability is not None
    other = viewing.at_threshold(segmented, 0.9)
    assert np.array_equal(other.mask, segmented.probability > 0.9)
    assert other.mask.sum() < segmented.mask.sum()
    assert other.volume is segmented.volume
    assert viewing.at_threshold(other, 0.5).mask.sum() == segmented.mask.sum()


def test_the_mask_lies_where_the_volume_lies(segmented: viewing.Viewed, tmp_path: Path) -> None:
    offered = viewing.offer(segmented, {"experiment": "x"}, tmp_path)
    assert offered.mask.name == "scan_1.ome_vessels.nii.gz"
    mask = read_volume(offered.mask)
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array > 0, segmented.mask)
    assert mask.affine is not None
    assert same_grid(Geometry((9, 8, 5), mask.affine), segmented.volume.geometry)
    lines = offered.statistics_csv.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(offered.statistics)
    assert all(line.startswith("x,scan 1.ome.tif,0.5,") for line in lines[1:])


def test_files_of_a_threshold_replace_those_of_another(
    segmented: viewing.Viewed, tmp_path: Path
) -> None:
    first = viewing.offer(segmented, {}, tmp_path)
    before = first.mask.read_bytes()
    second = viewing.offer(viewing.at_threshold(segmented, 0.8), {}, tmp_path)
    assert second.mask == first.mask
    assert second.mask.read_bytes() != before
    assert viewing.write_surface(segmented, tmp_path).read_bytes()[:4] == b"glTF"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".glb", ".gz"]


def test_a_volume_without_segmentation_has_no_files(
    segmented: viewing.Viewed, tmp_path: Path
) -> None:
    fresh = viewing.view("a.nii", segmented.volume)
    assert not fresh.mask.any()
    assert fresh.fullest_slice == 2
    with pytest.raises(ValueError, match="not segmented"):
        viewing.at_threshold(fresh, 0.5)
    with pytest.raises(ValueError, match="not segmented"):
        viewing.write_surface(fresh, tmp_path)


def test_the_fullest_slice_has_the_most_vessels(segmented: viewing.Viewed) -> None:
    counts = segmented.mask.sum(axis=(0, 1))
    assert counts[segmented.fullest_slice] == counts.max()


@given(st.text(max_size=300))
def test_every_name_gives_a_plain_file_name(name: str) -> None:
    found = viewing.stem(name)
    assert found == Path(found).name
    assert 0 < len(found) <= 120
    assert found not in (".", "..")
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_the_example_is_always_the_same(tmp_path: Path) -> None:
    first = viewing.write_example(tmp_path / "a").read_bytes()
    assert viewing.write_example(tmp_path / "b").read_bytes() == first
    assert read_volume(tmp_path / "a" / viewing.EXAMPLE).unit == "um"
