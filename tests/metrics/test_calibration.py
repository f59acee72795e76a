from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from minivess.metrics.calibration import N_BINS, ace, boundary_band, brier, ece, nll
from minivess.metrics.surface import boundary
from minivess.seeding import generator
from minivess.types import BoolArray, FloatArray

SHAPE = (15, 12, 10)


def pair() -> tuple[FloatArray, BoolArray]:
    rng = generator(0, "test-calibration")
    probability = rng.beta(0.4, 1.5, SHAPE).astype(np.float32)
    return probability, rng.random(SHAPE) < probability**1.5


def test_equal_to_torchmetrics_and_scikit_learn() -> None:
    import torch
    from sklearn.metrics import brier_score_loss, log_loss
    from torchmetrics.functional.classification import binary_calibration_error

    probability, reference = pair()
    flat, labels = probability.ravel(), reference.ravel()
    expected = binary_calibration_error(
        torch.from_numpy(flat), torch.from_numpy(labels.astype(np.int64)), n_bins=N_BINS
    )
    assert ece(probability, reference) == pytest.approx(float(expected), abs=1e-6)
    assert brier(probability, reference) == pytest.approx(brier_score_loss(labels, flat), abs=1e-7)
    clipped = np.clip(flat.astype(np.float64), 1e-7, 1 - 1e-7)
    assert nll(probability, reference) == pytest.approx(log_loss(labels, clipped), abs=1e-9)


def test_ace_is_the_mean_gap_of_equal_parts_of_the_ranked_voxels() -> None:
    probability, reference = pair()
    order = np.argsort(probability, axis=None)
    parts = np.split(order, N_BINS)
    assert len(np.unique(probability)) == probability.size
    gaps = [
        abs(probability.ravel()[part].mean(dtype=np.float64) - reference.ravel()[part].mean())
        for part in parts
    ]
    assert ace(probability, reference) == pytest.approx(float(np.mean(gaps)), abs=1e-9)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, 47, elements=st.sampled_from([0, 0.125, 0.25, 0.5, 0.75, 1])),
    hnp.arrays(np.bool_, 47),
    st.integers(0, 5),
)
def test_ace_does_not_depend_on_the_order_of_ties(
    probability: FloatArray, reference: BoolArray, seed: int
) -> None:
    shuffled = generator(seed, "test-ties").permutation(47)
    value = ace(probability, reference)
    assert value == pytest.approx(ace(probability[shuffled], reference[shuffled]), abs=1e-12)
    repeated = ace(np.repeat(probability, N_BINS), np.repeat(reference, N_BINS))
    assert value == pytest.approx(repeated, abs=1e-9)
    assert 0 <= value <= 1


def test_ace_of_one_probability_is_its_distance_from_the_part_of_vessel() -> None:
    reference = np.arange(100) < 30
    assert ace(np.full(100, 0.5), reference) == pytest.approx(0.2)
    assert ece(np.full(100, 0.5), reference) == pytest.approx(0.2)


def test_sure_and_right_is_perfect_and_sure_and_wrong_the_worst() -> None:
    reference = pair()[1]
    right, wrong = reference.astype(np.float32), (~reference).astype(np.float32)
    for metric in (ece, ace, brier):
        assert metric(right, reference) == 0
    for metric in (ece, brier):
        assert metric(wrong, reference) == pytest.approx(1, abs=1e-9)
    # One of the bins of equally many voxels holds both mistakes, which cancel there.
    assert 1 - 1 / N_BINS < ace(wrong, reference) <= 1
    assert nll(right, reference) == pytest.approx(1e-7, rel=1e-3)
    assert nll(wrong, reference) == pytest.approx(-math.log(1e-7))


def test_many_voxels_are_summed_in_parts() -> None:
    rng = generator(0, "test-parts")
    probability = rng.random(2**20 + 7, dtype=np.float32)
    reference = rng.random(2**20 + 7) < 0.3
    assert brier(probability, reference) == pytest.approx(
        float(np.mean((probability.astype(np.float64) - reference) ** 2)), abs=1e-11
    )


@pytest.mark.parametrize("tolerance_um", [0.5, 2.0, 3.0, 5.0, 40.0])
def test_the_band_is_what_a_distance_transform_finds(tolerance_um: float) -> None:
    edge = boundary(pair()[1] & (generator(1, "test-band").random(SHAPE) < 0.05))
    distance = ndimage.distance_transform_edt(~edge, sampling=(3, 2, 1))
    assert np.array_equal(boundary_band(edge, tolerance_um, (3, 2, 1)), distance <= tolerance_um)
