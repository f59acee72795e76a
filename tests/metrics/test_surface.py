from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist

from minivess.errors import MinivessError
from minivess.metrics.surface import (
    SurfaceDistances,
    assd_um,
    boundary,
    check_spacing,
    diagonal_um,
    hd95_um,
    hd_um,
    masd_um,
    nsd,
    surface_distances,
)
from minivess.seeding import generator
from minivess.types import BoolArray, Spacing

pytestmark = pytest.mark.usefixtures("monai")

SPACINGS: list[Spacing] = [(3.0, 2.0, 1.0), (1.0, 1.0, 5.0)]
some_masks = hnp.arrays(np.bool_, (5, 4, 3)).filter(np.any)
spacings = st.tuples(*[st.sampled_from([0.5, 0.994, 1.0, 2.0, 5.0])] * 3)


def random_tube(*indices: int) -> BoolArray:
    """A vessel along a random curve, running out of the volume at both ends."""
    rng = generator(0, "test-surface", *indices)
    x = np.arange(30)
    path = np.zeros((30, 24, 12), dtype=bool)
    y = 12 + 6 * np.sin(x / rng.uniform(4, 8) + rng.uniform(0, 6))
    z = 6 + 3 * np.sin(x / rng.uniform(4, 8) + rng.uniform(0, 6))
    path[x, y.astype(int), z.astype(int)] = True
    return ndimage.distance_transform_edt(~path) <= rng.uniform(1.2, 3)


def monai_boundary(mask: BoolArray) -> BoolArray:
    from monai.metrics.utils import get_mask_edges

    return np.asarray(get_mask_edges(mask, mask, crop=False)[0])


@pytest.mark.parametrize("spacing_um", SPACINGS)
@pytest.mark.parametrize("index", range(4))
def test_equal_to_monai(spacing_um: Spacing, index: int) -> None:
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    prediction, reference = random_tube(index, 0), random_tube(index, 1)
    first, second = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    shared: dict[str, Any] = {"include_background": True, "spacing": spacing_um}
    distances = surface_distances(prediction, reference, spacing_um)

    expected = compute_hausdorff_distance(first, second, percentile=95, **shared)
    assert hd95_um(distances) > 0
    assert hd95_um(distances) == pytest.approx(expected.item(), rel=1e-6)
    there = compute_average_surface_distance(first, second, symmetric=False, **shared).item()
    back = compute_average_surface_distance(second, first, symmetric=False, **shared).item()
    assert masd_um(distances) == pytest.approx((there + back) / 2, rel=1e-6)
    # MONAI's symmetric distance is the mean over both boundaries together: another metric.
    pooled = compute_average_surface_distance(first, second, symmetric=True, **shared).item()
    assert np.concatenate(distances.directed).mean() == pytest.approx(pooled, rel=1e-6)
    for tolerance_um in (1.0, 2.0, 5.5):
        expected = compute_surface_dice(first, second, [tolerance_um], **shared)
        assert nsd(distances, tolerance_um) == pytest.approx(expected.item(), abs=1e-6)


@settings(deadline=None)
@given(some_masks)
def test_boundary_is_monais(mask: BoolArray) -> None:
    assert np.array_equal(boundary(mask), monai_boundary(mask))


@settings(deadline=None)
@given(some_masks, some_masks, spacings)
def test_distances_are_those_of_all_pairs(a: BoolArray, b: BoolArray, spacing_um: Spacing) -> None:
    there, back = (np.argwhere(boundary(mask)) * np.array(spacing_um) for mask in (a, b))
    every_pair = cdist(there, back)
    distances = surface_distances(a, b, spacing_um)
    assert np.allclose(distances.prediction_to_reference, every_pair.min(axis=1), rtol=1e-12)
    assert np.allclose(distances.reference_to_prediction, every_pair.min(axis=0), rtol=1e-12)


@pytest.mark.parametrize(("axis", "expected"), [(0, 6.0), (1, 4.0), (2, 2.0)])
def test_voxels_two_apart(axis: int, expected: float) -> None:
    prediction = np.zeros((5, 5, 5), dtype=bool)
    prediction[1, 1, 1] = True
    distances = surface_distances(prediction, np.roll(prediction, 2, axis), (3.0, 2.0, 1.0))
    assert hd95_um(distances) == masd_um(distances) == expected
    assert nsd(distances, expected) == 1
    assert nsd(distances, expected - 0.1) == 0


def test_cubes_shifted_by_one_voxel() -> None:
    prediction = np.zeros((12, 12, 12), dtype=bool)
    prediction[3:6, 3:6, 3:6] = True
    distances = surface_distances(prediction, np.roll(prediction, 1, axis=2), (1.0, 1.0, 5.0))
    # A cube has 26 boundary voxels. The 9 of the slice outside the other cube are 5 um away, one
    # step along z. Of the 17 in the two common slices, one is the centre of a face that lies
    # within the other cube, 1 um from its boundary; 16 lie on it.
    for one in distances.directed:
        values, counts = np.unique(one, return_counts=True)
        assert dict(zip(values, counts, strict=True)) == {0.0: 16, 1.0: 1, 5.0: 9}
    assert masd_um(distances) == pytest.approx((16 * 0 + 1 * 1 + 9 * 5) / 26)
    assert hd95_um(distances) == 5
    assert nsd(distances, 1.0) == 17 / 26
    assert nsd(distances, 0.5) == 16 / 26


def test_percentile_of_hand_made_distances_is_linear_and_the_larger_one() -> None:
    there, back = np.arange(21.0), np.array([1.0, 3.0])
    assert hd95_um(SurfaceDistances(there, back)) == 19
    assert hd95_um(SurfaceDistances(back, back)) == pytest.approx(1 + 0.95 * 2)
    assert masd_um(SurfaceDistances(there, back)) == (10 + 2) / 2


@pytest.mark.parametrize("spacing_um", SPACINGS)
def test_hd95_is_near_the_surface_element_definition(spacing_um: Spacing) -> None:
    """Surface elements instead of voxels: another definition, within half a voxel's diagonal."""
    import surface_distance  # type: ignore[import-untyped]

    prediction, reference = random_tube(7, 0), random_tube(7, 1)
    other = surface_distance.compute_surface_distances(reference, prediction, spacing_um)
    expected = surface_distance.compute_robust_hausdorff(other, 95)
    found = hd95_um(surface_distances(prediction, reference, spacing_um))
    assert abs(found - expected) <= math.hypot(*spacing_um) / 2


@settings(deadline=None)
@given(some_masks, some_masks, spacings)
def test_symmetry_identity_scaling_and_range(
    a: BoolArray, b: BoolArray, spacing_um: Spacing
) -> None:
    distances, reverse = surface_distances(a, b, spacing_um), surface_distances(b, a, spacing_um)
    for metric in (hd95_um, masd_um):
        assert metric(distances) == metric(reverse)
        assert 0 <= metric(distances) <= diagonal_um(a.shape, spacing_um)
    assert 0 <= nsd(distances, 1.0) == nsd(reverse, 1.0) <= nsd(distances, 2.0) <= 1
    same = surface_distances(a, a, spacing_um)
    assert (hd95_um(same), masd_um(same), nsd(same, 0.01)) == (0, 0, 1)
    x, y, z = spacing_um
    doubled = surface_distances(a, b, (2 * x, 2 * y, 2 * z))
    assert hd95_um(doubled) == pytest.approx(2 * hd95_um(distances))
    assert masd_um(doubled) == pytest.approx(2 * masd_um(distances))
    assert nsd(doubled, 2.0) == nsd(distances, 1.0)


@settings(deadline=None)
@given(some_masks, some_masks, st.tuples(*[st.integers(0, 2)] * 3))
def test_place_in_the_volume_does_not_matter(
    a: BoolArray, b: BoolArray, offset: tuple[int, ...]
) -> None:
    room = np.zeros((2, 7, 6, 5), dtype=bool)
    for target, mask in zip(room, (a, b), strict=True):
        target[tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))] = mask
    expected = surface_distances(a, b, (1.0, 2.0, 5.0))
    found = surface_distances(room[0], room[1], (1.0, 2.0, 5.0))
    assert np.array_equal(found.prediction_to_reference, expected.prediction_to_reference)
    assert np.array_equal(found.reference_to_prediction, expected.reference_to_prediction)


def test_empty_masks_follow_the_rule() -> None:
    empty = np.zeros((3, 4, 6), dtype=bool)
    mask = empty.copy()
    mask[1, 1, 1] = True
    spacing_um = (1.0, 1.0, 2.0)
    for pair in ((mask, empty), (empty, mask)):
        distances = surface_distances(*pair, spacing_um)
        assert hd95_um(distances) == masd_um(distances) == 13
        assert nsd(distances, 100.0) == 0
    nothing = surface_distances(empty, empty, spacing_um)
    assert (hd95_um(nothing), masd_um(nothing), nsd(nothing, 1.0)) == (0, 0, 1)


def test_tolerance_counts_distances_that_rounding_puts_just_above() -> None:
    mask = np.zeros((5, 1, 1), dtype=bool)
    mask[0] = True
    distances = surface_distances(mask, np.roll(mask, 3, axis=0), (0.1, 1.0, 1.0))
    assert distances.prediction_to_reference[0] > 0.3
    assert nsd(distances, 0.3) == 1


@pytest.mark.parametrize("tolerance_um", [0.0, -1.0, math.nan, math.inf])
def test_tolerance_must_be_usable(tolerance_um: float) -> None:
    with pytest.raises(MinivessError) as caught:
        nsd(SurfaceDistances(np.zeros(1), np.zeros(1)), tolerance_um)
    assert caught.value.code == "MV-CONFIG-002"


@pytest.mark.parametrize(
    "spacing_um", [(1.0, 1.0, 0.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.nan), (1.0, 1.0), 1.0]
)
def test_spacing_must_be_three_positive_numbers(spacing_um: Spacing) -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    for call in (
        lambda: check_spacing(spacing_um),
        lambda: surface_distances(mask, mask, spacing_um),
    ):
        with pytest.raises(MinivessError) as caught:
            call()
        assert caught.value.code == "MV-DATA-009"


def test_hausdorff_distance_is_scipys_and_assd_monais() -> None:
    import torch
    from monai.metrics.surface_distance import compute_average_surface_distance
    from scipy.spatial.distance import directed_hausdorff

    spacing_um = (3.0, 2.0, 1.0)
    rng = generator(0, "test-hausdorff")
    for _ in range(5):
        masks = [ndimage.gaussian_filter(rng.normal(size=(14, 12, 9)), 1) > 0.2 for _ in range(2)]
        distances = surface_distances(masks[0], masks[1], spacing_um)
        a, b = (np.argwhere(boundary(mask)) * spacing_um for mask in masks)
        expected = max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
        assert hd_um(distances) == pytest.approx(expected)
        channels = [torch.from_numpy(mask)[None, None].float() for mask in masks]
        monai = compute_average_surface_distance(
            *channels, include_background=True, symmetric=True, spacing=spacing_um
        )
        assert assd_um(distances) == pytest.approx(float(monai), rel=1e-6)


def test_distances_are_those_of_a_distance_transform() -> None:
    spacing_um = (3.0, 2.0, 1.0)
    rng = generator(0, "test-distance-transform")
    masks = [ndimage.gaussian_filter(rng.normal(size=(20, 16, 9)), 1) > 0.2 for _ in range(2)]
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    distances = surface_distances(masks[0], masks[1], spacing_um)
    for found, target, source in zip(distances.directed, edges[::-1], edges, strict=True):
        expected = ndimage.distance_transform_edt(~target, sampling=spacing_um)[source]
        assert np.allclose(found, expected, rtol=1e-14)
