"""Conformal thresholds and margins: MAPIE, cases computed by hand, and what is guaranteed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import SemanticSegmentationController

from minivess import seeding
from minivess.errors import MinivessError
from minivess.statistics.conformal import (
    check_disjoint,
    check_reachable,
    halves,
    inner_score,
    needed_cases,
    outer_score,
    risk_threshold,
    split_quantile,
)
from minivess.statistics.nested import THRESHOLDS, inner_masks, outer_masks, threshold_masks

SPACING = (1.0, 1.0, 2.0)


@pytest.mark.parametrize("alpha", [0.12, 0.2, 0.35])
@pytest.mark.parametrize("seed", range(4))
def test_risk_control_is_mapies(alpha: float, seed: int) -> None:
    rng = seeding.generator(seed, "mapie")
    references = rng.random((12, 10, 9)) < 0.3
    # Off the thresholds: MAPIE keeps what is above one, the paper what reaches it.
    probabilities = np.clip(rng.random((12, 10, 9)) * 0.7 + 0.3 * references, 1e-4, 1) - 1e-5
    controller = SemanticSegmentationController(
        predict_function=lambda chosen: probabilities[chosen][:, None],
        risk="recall",
        method="crc",
        target_level=1 - alpha,
        predict_params=THRESHOLDS[:-1],
    )
    controller.calibrate(np.arange(12), references[:, None].astype(int))
    losses = np.array(
        [
            threshold_masks(probability[..., None], reference[..., None]).missed()
            for probability, reference in zip(probabilities, references, strict=True)
        ]
    )
    found = risk_threshold(losses, THRESHOLDS, alpha)
    assert 0 < found < 1
    assert found == pytest.approx(float(controller.best_predict_param[0]))


def test_risk_control_by_hand() -> None:
    """n = 4: n/(n+1) R + 1/(n+1) is 0.2, 0.4 and 1 at the three thresholds."""
    losses = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    thresholds = np.array([0.0, 0.5, 1.0])
    for alpha, expected in ((0.2, 0.0), (0.39, 0.0), (0.4, 0.5), (0.99, 0.5), (1.0, 1.0)):
        assert risk_threshold(losses, thresholds, alpha) == expected


def test_the_quantile_by_hand() -> None:
    scores = np.arange(1.0, 10.0)  # 9 cases
    for alpha, expected in ((0.1, 9), (0.2, 8), (0.25, 8), (0.5, 5), (0.95, 1)):
        assert split_quantile(scores, alpha) == expected


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(0, 150))
def test_an_alpha_is_reachable_where_the_quantile_exists(alpha: float, n: int) -> None:
    exists = math.ceil((n + 1) * (1 - alpha) - 1e-9) <= n
    assert (n >= needed_cases(alpha)) == exists
    if exists:
        check_reachable(alpha, n, "here")
        return
    with pytest.raises(MinivessError) as caught:
        check_reachable(alpha, n, "here")
    assert caught.value.code == "MV-CONFORMAL-001"
    assert caught.value.exit_status == 10
    assert f"at least {needed_cases(alpha)} calibration cases" in caught.value.expected


def test_too_few_cases_are_an_error_of_both_methods() -> None:
    with pytest.raises(MinivessError, match="MV-CONFORMAL-001"):
        split_quantile(np.zeros(8), 0.1)
    with pytest.raises(MinivessError, match="MV-CONFORMAL-001"):
        risk_threshold(np.zeros((8, 2)), np.array([0.0, 1.0]), 0.1)
    assert split_quantile(np.zeros(9), 0.1) == 0


def test_losses_that_cannot_be_controlled_are_errors() -> None:
    thresholds = np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="falls with the threshold"):
        risk_threshold(np.array([[0.5, 0.0]]), thresholds, 0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        risk_threshold(np.array([[0.0, 2.0]]), thresholds, 0.5)
    with pytest.raises(ValueError, match="first threshold"):
        risk_threshold(np.array([[1.0, 1.0]]), thresholds, 0.5)


@pytest.mark.parametrize("share", [0.6, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_the_smallest_margins_that_cover(seed: int, share: float) -> None:
    rng = seeding.generator(seed, "conformal-scores")
    mask, reference = rng.random((2, 8, 8, 4)) < 0.3
    outer, inner = outer_masks(mask, reference, SPACING), inner_masks(mask, reference, SPACING)
    margin = outer_score(outer, share)
    covered = [
        1 - outer.missed()[outer.index(level)]
        for level in (margin, margin - 1e-3 or 0)
        if level >= 0
    ]
    assert covered[0] >= share - 1e-9
    assert all(part < share for part in covered[1:])
    margin = inner_score(inner, share)
    right = 1 - inner.wrong()
    at = inner.index(margin)
    assert (right[at:] >= share - 1e-9).all()
    assert at == 0 or right[at - 1] < share


def test_halves_keep_groups_together_and_share_no_case() -> None:
    group_of = {f"case{n}": f"animal{n // 3}" for n in range(13)}
    seen = set()
    for seed in range(6):
        first, second = halves(group_of, seed, 0)
        assert not set(first) & set(second)
        assert sorted(first + second) == sorted(group_of)
        assert not {group_of[c] for c in first} & {group_of[c] for c in second}
        assert abs(len(first) - len(second)) <= 3
        seen.add(first)
    assert len(seen) > 1
    assert halves(group_of, 0, 0) == halves(dict(reversed(group_of.items())), 0, 0)
    assert halves({"only": "only"}, 0) == (("only",), ())


def test_a_case_in_two_places_is_an_error() -> None:
    check_disjoint(["a"], ["b"], ["c"])
    with pytest.raises(ValueError, match="calibrates and tests: a"):
        check_disjoint(["a"], ["a"], [])
    with pytest.raises(ValueError, match="was fitted on: a"):
        check_disjoint(["a"], ["b"], ["a"])
