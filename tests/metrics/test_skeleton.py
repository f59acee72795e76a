from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import morphology

from minivess.metrics.skeleton import cldice, skeleton
from minivess.seeding import generator
from minivess.types import BoolArray

EVERY_NEIGHBOUR = np.ones((3, 3, 3))
masks = hnp.arrays(np.bool_, (5, 4, 4), elements=st.booleans())


def library_skeleton(mask: BoolArray) -> BoolArray:
    return np.asarray(morphology.skeletonize(mask))  # type: ignore[no-untyped-call]


def tube(length: int, width: int = 3, shape: tuple[int, int, int] = (24, 9, 9)) -> BoolArray:
    mask = np.zeros(shape, dtype=bool)
    low = 4 - width // 2
    mask[2 : 2 + length, low : low + width, low : low + width] = True
    return mask


def test_a_tube_has_its_axis_as_skeleton() -> None:
    thin = skeleton(tube(20))
    assert thin[3:21, 4, 4].all()
    assert np.count_nonzero(thin) == np.count_nonzero(thin[:, 4, 4])


def test_equals_scikit_image_where_no_component_is_erased() -> None:
    rng = generator(0, "test-skeleton")
    compared = 0
    for _ in range(20):
        mask = ndimage.gaussian_filter(rng.normal(size=(24, 20, 12)), 1.5) > 0.05
        expected = library_skeleton(mask)
        whole = (
            ndimage.label(mask, EVERY_NEIGHBOUR)[1] == ndimage.label(expected, EVERY_NEIGHBOUR)[1]
        )
        if whole:
            compared += 1
            assert np.array_equal(skeleton(mask), expected)
    assert compared >= 5


@pytest.mark.parametrize("side", [2, 4, 8])
def test_a_cube_that_the_library_erases_keeps_its_central_voxel(side: int) -> None:
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[2 : 2 + side, 2 : 2 + side, 2 : 2 + side] = True
    assert not library_skeleton(mask).any(), "no longer erased: the repair can go"
    centre = 2 + side // 2 - 1
    assert np.argwhere(skeleton(mask)).tolist() == [[centre, centre, centre]]


@settings(deadline=None, max_examples=200)
@given(masks)
def test_every_component_keeps_a_part_that_lies_in_it(mask: BoolArray) -> None:
    thin = skeleton(mask)
    assert not (thin & ~mask).any()
    labels, n_components = ndimage.label(mask, EVERY_NEIGHBOUR)
    assert set(np.unique(labels[thin])) == set(range(1, n_components + 1))


def test_every_mask_of_eight_voxels_has_a_skeleton() -> None:
    for code in range(1, 256):
        mask = ((code >> np.arange(8)) & 1).astype(bool).reshape(2, 2, 2)
        assert skeleton(mask).any()


def test_a_single_voxel_is_its_own_skeleton_and_nothing_has_none() -> None:
    mask = np.zeros((3, 3, 3), dtype=bool)
    assert not skeleton(mask).any()
    mask[0, 1, 2] = True
    assert np.array_equal(skeleton(mask), mask)


@settings(deadline=None)
@given(masks, st.tuples(*[st.integers(0, 3)] * 3))
def test_moves_with_the_mask_also_to_the_border(mask: BoolArray, offset: tuple[int, ...]) -> None:
    shape = (9, 8, 8)
    box = tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))
    moved = np.zeros(shape, dtype=bool)
    moved[box] = mask
    assert np.array_equal(skeleton(moved)[box], skeleton(mask))


def test_one_slice_is_thinned_as_any_other_slice() -> None:
    slab = np.ones((1, 6, 6), dtype=bool)
    thick = np.zeros((5, 6, 6), dtype=bool)
    thick[2] = True
    assert np.array_equal(skeleton(slab)[0], skeleton(thick)[2])


def test_tprec_judges_the_prediction_and_tsens_the_reference() -> None:
    short, long = tube(10), tube(20)
    score, tprec, tsens = cldice(short, long)
    assert tprec == 1
    assert tsens == np.count_nonzero(skeleton(long) & short) / np.count_nonzero(skeleton(long))
    assert 0.3 < tsens < 0.7
    assert score == pytest.approx(2 * tsens / (1 + tsens))
    assert cldice(long, short) == (score, tsens, tprec)


def test_a_false_blob_costs_tprec_alone() -> None:
    reference = tube(20)
    prediction = reference.copy()
    prediction[8:10, 7:9, 7:9] = True
    prediction[8:10, 6] = False
    _, tprec, tsens = cldice(prediction, reference)
    length = np.count_nonzero(skeleton(reference))
    assert tsens == 1
    assert tprec == length / (length + 1)


@settings(deadline=None)
@given(masks, masks)
def test_values_are_in_range_and_swap_with_the_arguments(a: BoolArray, b: BoolArray) -> None:
    score, tprec, tsens = cldice(a, b)
    assert 0 <= min(tprec, tsens) <= score <= max(tprec, tsens) <= 1 or score == 0
    assert cldice(b, a) == (score, tsens, tprec)
    assert cldice(a, a) == (1, 1, 1)


def test_disjoint_and_empty_masks() -> None:
    mask, empty = tube(10), np.zeros((24, 9, 9), dtype=bool)
    assert cldice(mask, np.roll(mask, 11, axis=0)) == (0, 0, 0)
    assert cldice(mask, empty) == (0, 0, 0)
    assert cldice(empty, mask) == (0, 0, 0)
    assert cldice(empty, empty) == (1, 1, 1)
