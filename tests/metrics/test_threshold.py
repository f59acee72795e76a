from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivess.errors import MinivessError
from minivess.metrics.overlap import dice
from minivess.metrics.threshold import best_threshold
from minivess.types import Array, BoolArray

SHAPE = (4, 3, 2)
references = hnp.arrays(np.bool_, SHAPE)
few_levels = st.sampled_from([np.float32, np.float64, np.float16, np.uint8, np.int16]).flatmap(
    lambda dtype: hnp.arrays(dtype, SHAPE, elements=st.integers(0, 5))
)
any_floats = hnp.arrays(
    np.float32, SHAPE, elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
)


def brute_force(image: Array, reference: BoolArray) -> float:
    """Highest Dice over everything, and over what lies above each intensity."""
    scores = [dice(np.ones(image.shape, dtype=bool), reference)]
    scores += [dice(image > level, reference) for level in np.unique(image)]
    return max(scores)


@settings(deadline=None, max_examples=300)
@given(few_levels | any_floats, references)
def test_no_threshold_is_better_and_the_threshold_gives_that_dice(
    image: Array, reference: BoolArray
) -> None:
    threshold, score = best_threshold(image, reference)
    assert math.isfinite(threshold)
    assert score == brute_force(image, reference)
    assert dice(image > threshold, reference) == score


@settings(deadline=None)
@given(few_levels, references)
def test_the_lowest_of_equally_good_intensities_is_taken(
    image: Array, reference: BoolArray
) -> None:
    threshold, score = best_threshold(image, reference)
    if reference.any():
        levels = [level for level in np.unique(image) if level < threshold]
        assert all(dice(image > level, reference) < score for level in levels)


def test_a_perfectly_separable_image() -> None:
    image = np.array([1.0, 2.0, 2.0, 7.0, 9.0], dtype=np.float32).reshape(5, 1, 1)
    assert best_threshold(image, image > 5) == (2.0, 1.0)


def test_a_hand_computed_case() -> None:
    image: Array = np.array([1, 2, 3, 4], dtype=np.uint8).reshape(4, 1, 1)
    reference = np.array([False, True, False, True]).reshape(4, 1, 1)
    # above 1: 2 * 2 / (3 + 2); above 3: 2 * 1 / (1 + 2)
    assert best_threshold(image, reference) == (1.0, 0.8)


def test_an_empty_reference_gets_no_vessel() -> None:
    image = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    assert best_threshold(image, np.zeros((2, 2, 2), dtype=bool)) == (7.0, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int32])
def test_everything_can_be_vessel(dtype: type) -> None:
    image: Array = np.zeros((2, 2, 2), dtype=dtype)
    threshold, score = best_threshold(image, np.ones((2, 2, 2), dtype=bool))
    assert score == 1
    assert (image > threshold).all()
    assert threshold < 0


def test_input_stays_as_it_was() -> None:
    image = np.array([3.0, 1.0, 2.0, 0.0]).reshape(4, 1, 1)
    before = image.copy()
    best_threshold(image, image > 1.5)
    assert np.array_equal(image, before)


def test_unusable_input_is_refused() -> None:
    image, reference = np.zeros((2, 2, 2), dtype=np.float32), np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(MinivessError) as caught:
        best_threshold(image[:1], reference)
    assert caught.value.code == "MV-DATA-004"
    for bad in (np.nan, np.inf):
        image[0, 0, 0] = bad
        with pytest.raises(MinivessError, match="1 of 8") as caught:
            best_threshold(image, reference)
        assert caught.value.code == "MV-DATA-006"
    with pytest.raises(TypeError, match="int64"):
        best_threshold(np.zeros((2, 2, 2), dtype=np.int64), reference)
    with pytest.raises(TypeError, match="boolean"):
        best_threshold(image, reference.astype(np.uint8))
