"""Families of nested masks: counts by brute force, and that they are nested."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import seeding
from minivess.errors import MinivessError
from minivess.statistics.nested import (
    THRESHOLDS,
    inner_distances,
    inner_masks,
    outer_distances,
    outer_masks,
    threshold_masks,
)

SPACING = (0.5, 1.0, 3.0)
SHAPE = (7, 6, 4)


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = seeding.generator(seed, "nested-tests")
    return rng.random(SHAPE) < 0.2, rng.random(SHAPE) < 0.2


def brute_distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each voxel to the nearest of a mask, voxel by voxel."""
    targets = np.argwhere(mask) * SPACING
    everything = np.indices(mask.shape).reshape(3, -1).T * SPACING
    gaps = np.linalg.norm(everything[:, None] - targets[None], axis=2)
    return gaps.min(axis=1).reshape(mask.shape)


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_the_masks(seed: int) -> None:
    mask, reference = random_masks(seed)
    out, into = brute_distance(mask), brute_distance(~mask)
    for margin in (0.0, 0.5, 1.3, 3.0, 100.0):
        for family, chosen in (
            (outer_masks(mask, reference, SPACING), out <= margin + 1e-9),
            (inner_masks(mask, reference, SPACING), into > margin + 1e-9),
        ):
            at = family.index(margin)
            assert family.voxels[at] == chosen.sum()
            assert family.hits[at] == (chosen & reference).sum()
            missed = 1 - (chosen & reference).sum() / reference.sum()
            assert family.missed()[at] == pytest.approx(missed)
            wrong = (chosen & ~reference).sum() / max(1, chosen.sum())
            assert family.wrong()[at] == pytest.approx(wrong)
    assert np.allclose(outer_distances(mask, SPACING), out, atol=1e-6)
    assert np.allclose(inner_distances(mask, SPACING), into, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_thresholds_count_what_they_keep(seed: int) -> None:
    rng = seeding.generator(seed, "nested-thresholds")
    # Values on the thresholds themselves, 0 and 1 among them, and between them, as float32.
    values = np.where(
        rng.random(SHAPE) < 0.5, rng.integers(0, 11, SHAPE) / 10, rng.random(SHAPE)
    ).astype(np.float32)
    reference = rng.random(SHAPE) < 0.3
    family = threshold_masks(values, reference)
    for at in (0, 1, 100, 101, 500, 999, 1000):
        chosen = values >= THRESHOLDS[at]
        assert family.voxels[at] == chosen.sum()
        assert family.hits[at] == (chosen & reference).sum()
    assert family.voxels[0] == values.size
    assert (np.diff(family.missed()) >= 0).all()


def test_empty_and_full_masks() -> None:
    reference = random_masks(0)[1]
    nothing, everything = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    outer = outer_masks(nothing, reference, SPACING)
    assert outer.voxels.tolist() == [0, reference.size]
    assert outer.levels[1] == pytest.approx(np.linalg.norm(np.multiply(SHAPE, SPACING)), abs=1e-6)
    inner = inner_masks(everything, reference, SPACING)
    assert inner.voxels.tolist() == [reference.size, 0]
    assert inner_masks(nothing, reference, SPACING).voxels.tolist() == [0]
    assert outer_masks(everything, reference, SPACING).voxels.tolist() == [reference.size]
    assert outer_masks(everything, nothing, SPACING).missed().tolist() == [0]


def test_shapes_and_levels_are_checked() -> None:
    mask, reference = random_masks(0)
    with pytest.raises(MinivessError, match="MV-DATA-004"):
        threshold_masks(np.zeros((2, 2, 2)), reference)
    with pytest.raises(MinivessError, match="MV-DATA-004"):
        outer_masks(mask[1:], reference, SPACING)
    with pytest.raises(MinivessError, match="MV-DATA-009"):
        inner_masks(mask, reference, (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="below the first level"):
        outer_masks(mask, reference, SPACING).index(-1.0)
