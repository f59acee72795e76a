"""Bins of the reliability diagram, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from minivess import seeding
from minivess.statistics.reliability import reliability_bins


def test_bins_are_scikit_learns() -> None:
    rng = seeding.generator(0, "reliability-tests")
    probability = rng.random((20, 20, 5)) ** 3
    reference = rng.random(probability.shape) < probability**2
    bins = reliability_bins(probability, reference, 10)
    observed, mean = calibration_curve(reference.ravel(), probability.ravel(), n_bins=10)
    assert bins.observed == pytest.approx(observed)
    assert bins.probability == pytest.approx(mean)
    assert bins.n_voxels.sum() == probability.size


def test_edges_and_empty_bins() -> None:
    bins = reliability_bins(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]), 4)
    assert bins.n_voxels.tolist() == [1, 0, 1, 1]
    assert bins.observed.tolist() == [0, 0, 1, 1]
    assert bins.probability.tolist() == [0, 0, 0.5, 1]


def test_what_is_no_probability_is_an_error() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability_bins(np.array([1.5]), np.array([True]), 4)
    with pytest.raises(ValueError, match="reference"):
        reliability_bins(np.zeros(3), np.zeros(4, dtype=bool), 4)
