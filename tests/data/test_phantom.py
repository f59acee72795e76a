from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from minivess.config.schema import PhantomConfig
from minivess.data.phantom import (
    GAIN,
    ROOT_RADIUS_UM,
    SMALLEST_RADIUS_UM,
    Segment,
    case_name,
    grow_tree,
    make_phantom,
    rasterise,
    write_phantom,
)
from minivess.data.volume import read_volume
from minivess.metrics.threshold import best_threshold
from minivess.seeding import generator

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.data.phantom import Phantom
    from minivess.types import Array

SMALL = PhantomConfig(n_cases=2, phantom_shape=(24, 24, 8))


def centreline_voxels(phantom: Phantom, config: PhantomConfig) -> Array:
    """Voxels that the axes of the segments run through, one row each."""
    spacing = np.array(config.phantom_spacing_um)
    extent = np.array(config.phantom_shape) * spacing
    points = np.array(
        [
            np.array(segment.start) * (1 - part) + np.array(segment.end) * part
            for segment in phantom.segments
            for part in np.linspace(0, 1, 9)
        ]
    )
    inside = np.all((points >= 0) & (points < extent), axis=1)
    return np.floor(points[inside] / spacing).astype(int)


def branches(segments: list[Segment]) -> list[list[Segment]]:
    """Segments of a tree in runs of three: the pieces of one branch."""
    return [segments[index : index + 3] for index in range(0, len(segments), 3)]


def test_same_seed_and_index_give_the_same_bytes() -> None:
    one, two = make_phantom(SMALL, 1), make_phantom(SMALL, 1)
    assert one.image.tobytes() == two.image.tobytes()
    assert one.label.tobytes() == two.label.tobytes()
    assert one.segments == two.segments


@pytest.mark.parametrize(
    ("config", "index"), [(SMALL, 1), (SMALL.model_copy(update={"phantom_seed": 1}), 0)]
)
def test_other_seeds_and_indices_give_other_volumes(config: PhantomConfig, index: int) -> None:
    first, other = make_phantom(SMALL, 0), make_phantom(config, index)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.label, other.label)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 999), st.integers(0, 20))
def test_a_case_does_not_depend_on_how_many_there_are(n_cases: int, index: int) -> None:
    tiny = PhantomConfig(phantom_shape=(12, 12, 4), n_trees=1)
    many = make_phantom(tiny.model_copy(update={"n_cases": n_cases}), index)
    assert np.array_equal(make_phantom(tiny, index).image, many.image)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (2.0, 1.5, 4.0), (0.5, 0.5, 2.5)])
def test_the_label_is_where_the_segments_are(spacing: tuple[float, float, float]) -> None:
    config = PhantomConfig(phantom_spacing_um=spacing, phantom_shape=(64, 64, 16))
    for index in range(2):
        phantom = make_phantom(config, index)
        voxels = centreline_voxels(phantom, config)
        away = ndimage.distance_transform_edt(phantom.label == 0)
        assert len(voxels) > 50
        assert np.mean(phantom.label[tuple(voxels.T)]) > 0.99
        assert away[tuple(voxels.T)].max() <= 1.0
        # and nowhere else: no vessel voxel is further from an axis than the thickest vessel
        on_axis = np.zeros(config.phantom_shape, dtype=bool)
        on_axis[tuple(voxels.T)] = True
        away = ndimage.distance_transform_edt(~on_axis, sampling=spacing)
        thickest = max(segment.radius_um for segment in phantom.segments)
        assert away[phantom.label > 0].max() <= thickest + np.linalg.norm(spacing)


def test_thick_segments_have_their_radius() -> None:
    spacing = 0.6
    config = PhantomConfig(
        n_trees=1, phantom_shape=(100, 100, 100), phantom_spacing_um=(spacing,) * 3
    )
    ratios = []
    for index in range(3):
        phantom = make_phantom(config, index)
        radius = ndimage.distance_transform_edt(phantom.label, sampling=(spacing,) * 3)
        for segment in phantom.segments[:3]:
            middle = (np.array(segment.start) + np.array(segment.end)) / 2
            voxel = tuple(np.floor(middle / spacing).astype(int))
            ratios.append(radius[voxel] / segment.radius_um)
    assert len(ratios) == 9
    assert np.allclose(ratios, 1.0, atol=spacing / ROOT_RADIUS_UM[0])
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)


def test_a_rasterised_capsule_has_the_volume_of_a_capsule() -> None:
    radius, length = 6.0, 20.0
    capsule = Segment((20.0, 20.0, 10.0), (20.0, 20.0, 10.0 + length), radius, 0)
    grid = rasterise([capsule], (80, 80, 80), np.full(3, 0.5))
    expected = np.pi * radius**2 * length + 4 / 3 * np.pi * radius**3
    assert grid.sum() * 0.125 == pytest.approx(expected, rel=0.01)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_branchings_obey_murrays_law(seed: int) -> None:
    runs = branches(grow_tree(generator(seed, "test"), np.array([96.0, 96.0, 120.0]), 7))
    children: dict[tuple[float, float, float], list[float]] = {}
    for run in runs:
        assert len({segment.radius_um for segment in run}) == 1
        assert run[0].end == run[1].start
        children.setdefault(run[0].start, []).append(run[0].radius_um)
    for run in runs:
        found = children.get(run[-1].end, [])
        cubes = sum(radius**3 for radius in found)
        if len(found) == 2:
            assert cubes == pytest.approx(run[0].radius_um ** 3)
        elif len(found) == 1:  # its sibling would have been a capillary
            rest = run[0].radius_um ** 3 - cubes
            assert 0 < rest < SMALLEST_RADIUS_UM**3
        assert all(radius >= SMALLEST_RADIUS_UM for radius in found)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_a_tree_enters_through_a_side(seed: int) -> None:
    extent = np.array([96.0, 80.0, 120.0])
    root = grow_tree(generator(seed, "test"), extent, 0)[0]
    start, direction = np.array(root.start), np.array(root.end) - np.array(root.start)
    on_side = [axis for axis in range(2) if start[axis] in (0.0, extent[axis])]
    assert len(on_side) == 1
    assert ROOT_RADIUS_UM[0] <= root.radius_um <= ROOT_RADIUS_UM[1]
    assert direction @ (extent / 2 - start) > 0


def test_the_default_cases_are_plausible_and_beyond_a_threshold() -> None:
    config = PhantomConfig()
    for index in range(config.n_cases):
        phantom = make_phantom(config, index)
        assert phantom.image.dtype == np.uint16
        assert phantom.label.dtype == np.uint8
        assert set(np.unique(phantom.label)) == {0, 1}
        assert 0.005 < phantom.label.mean() < 0.1
        assert {segment.tree for segment in phantom.segments} == set(range(config.n_trees))
        _, dice = best_threshold(phantom.image, phantom.label > 0)
        assert 0.3 < dice < 0.7, "the phantom must need more than a threshold"
        # nor does smoothing away the shot noise make it easy
        smooth = ndimage.gaussian_filter(phantom.image.astype(np.float32), (1.0, 1.0, 0.5))
        assert best_threshold(smooth, phantom.label > 0)[1] < 0.75


def test_light_fades_with_depth() -> None:
    config = PhantomConfig(phantom_shape=(48, 48, 16), photons=1000)
    depth = (np.arange(16) + 0.5) / 16
    for index in range(3):
        image = make_phantom(config, index).image
        background = np.median(image, axis=(0, 1))
        slope = np.polyfit(depth, np.log(background), 1)[0]
        assert -1 / 0.9 - 0.4 < slope < -1 / 1.6 + 0.4


def test_fewer_photons_mean_more_noise() -> None:
    def noise(photons: float) -> float:
        image = make_phantom(SMALL.model_copy(update={"photons": photons}), 0).image
        image = image / (photons * GAIN)
        return float(np.std(np.diff(image, axis=0)))

    assert noise(5.0) > 2 * noise(500.0)


def test_written_cases_carry_their_spacing(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"phantom_spacing_um": (0.75, 1.25, 4.0)})
    names = write_phantom(config, tmp_path)
    assert names == [case_name(0), case_name(1)] == ["phantom_001", "phantom_002"]
    with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["case"] for row in rows] == names
    for index, row in enumerate(rows):
        phantom = make_phantom(config, index)
        for kind in ("image", "label"):
            path = tmp_path / row[kind]
            volume = read_volume(path)
            assert np.array_equal(volume.array, getattr(phantom, kind))
            assert volume.array.dtype == getattr(phantom, kind).dtype
            assert volume.unit == "um"
            assert np.array_equal(volume.affine, np.diag([0.75, 1.25, 4.0, 1.0]))
            assert nib.load(path).header.get_zooms() == (0.75, 1.25, 4.0)


def test_written_files_have_the_same_bytes_twice(tmp_path: Path) -> None:
    write_phantom(SMALL, tmp_path / "a")
    write_phantom(SMALL, tmp_path / "b")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
