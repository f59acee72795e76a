from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivess.errors import MinivessError
from minivess.metrics.overlap import (
    bounding_box,
    check_mask,
    dice,
    joint_box,
    precision,
    sensitivity,
    volume_error_um3,
    volume_fraction,
)
from minivess.types import BoolArray

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[BoolArray, BoolArray]:
    first = draw(masks)
    return first, draw(hnp.arrays(np.bool_, first.shape))


def test_dice_of_a_hand_computed_pair() -> None:
    prediction = np.zeros((10, 1, 1), dtype=bool)
    reference = prediction.copy()
    prediction[:6] = True
    reference[4:8] = True
    assert dice(prediction, reference) == 2 * 2 / (6 + 4)


@settings(deadline=None)
@given(pairs())
def test_dice_is_symmetric_in_range_and_equal_to_scipy(pair: tuple[BoolArray, BoolArray]) -> None:
    from scipy.spatial.distance import dice as dissimilarity

    prediction, reference = pair
    value = dice(prediction, reference)
    assert value == dice(reference, prediction)
    assert 0 <= value <= 1
    if prediction.any() or reference.any():
        assert value == pytest.approx(1 - dissimilarity(prediction.ravel(), reference.ravel()))


@settings(deadline=None)
@given(masks)
def test_a_mask_is_identical_to_itself_and_disjoint_from_its_complement(mask: BoolArray) -> None:
    assert dice(mask, mask) == 1
    assert dice(mask, ~mask) == 0
    assert volume_fraction(mask) + volume_fraction(~mask) == pytest.approx(1)


def test_dice_with_empty_masks_follows_the_rule() -> None:
    empty, full = np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)
    assert dice(empty, empty) == 1
    assert dice(empty, full) == 0
    assert dice(full, empty) == 0


@settings(deadline=None)
@given(masks.filter(np.any))
def test_bounding_box_holds_everything_and_is_tight(mask: BoolArray) -> None:
    box = bounding_box(mask)
    assert np.count_nonzero(mask[box]) == np.count_nonzero(mask)
    for axis in range(3):
        inside = np.moveaxis(mask[box], axis, 0)
        assert inside[0].any()
        assert inside[-1].any()


def test_an_empty_mask_has_no_bounding_box() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        bounding_box(np.zeros((2, 2, 2), dtype=bool))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_only_boolean_masks_are_accepted(dtype: type) -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(
        TypeError, match=re.escape(f"prediction must be a boolean array, not {np.dtype(dtype)}")
    ):
        dice(mask.astype(dtype), mask)
    with pytest.raises(TypeError, match="not list"):
        check_mask([[[True]]])  # type: ignore[arg-type]


def test_shapes_are_checked_rather_than_broadcast() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(MinivessError, match=r"\(2, 2, 1\)") as caught:
        dice(mask[..., :1], mask)
    assert caught.value.code == "MV-DATA-004"
    for shape in [(2, 2), (1, 2, 2, 2), (2, 0, 2)]:
        with pytest.raises(MinivessError) as caught:
            volume_fraction(np.ones(shape, dtype=bool))
        assert caught.value.code == "MV-DATA-003"


@settings(deadline=None)
@given(pairs())
def test_sensitivity_and_precision_are_scikit_learns(pair: tuple[BoolArray, BoolArray]) -> None:
    from sklearn.metrics import precision_score, recall_score

    prediction, reference = pair
    found, expected = prediction.ravel(), reference.ravel()
    if expected.any():
        assert sensitivity(prediction, reference) == pytest.approx(recall_score(expected, found))
    if found.any():
        value = precision(prediction, reference)
        assert value == pytest.approx(precision_score(expected, found))


def test_sensitivity_and_precision_with_empty_masks_follow_the_rule() -> None:
    empty, full = np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)
    for metric in (sensitivity, precision):
        assert metric(empty, empty) == 1
        assert metric(empty, full) == metric(full, empty) == 0


def test_volume_error_is_in_cubic_micrometres() -> None:
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[:2] = True
    assert volume_error_um3(mask, ~mask, (3.0, 2.0, 1.0)) == 0
    assert volume_error_um3(mask, mask[::-1] & mask, (3.0, 2.0, 1.0)) == 32 * 6


def test_the_joint_box_has_a_margin_within_the_volume() -> None:
    prediction, reference = np.zeros((2, 8, 8, 4), dtype=bool)
    prediction[3, 2, 0], reference[4, 2, 3] = True, True
    assert joint_box(prediction, reference) == (slice(2, 6), slice(1, 4), slice(0, 4))
    assert joint_box(reference & prediction, reference & prediction) == (slice(0, 1),) * 3
