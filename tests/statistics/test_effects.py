"""Effect sizes and the Bayesian signed-rank test against hand-computed and analytic values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import seeding
from minivess.config.plan import AnalysisPlan
from minivess.config.schema import StatisticsConfig
from minivess.statistics import effects
from minivess.statistics.resampling import sample

WHOLE = st.lists(st.integers(-9, 9), min_size=2, max_size=12)


def posterior(differences: list[float], rope: float, samples: int = 40_000) -> tuple[float, ...]:
    rng = seeding.generator(0, "test")
    return effects.signed_rank_posterior(np.array(differences), rope, samples, rng)


def test_dz_is_the_t_statistic_over_the_root_of_n() -> None:
    values = np.array([0.1, 0.4, -0.2, 0.5, 0.3])
    t = scipy.stats.ttest_1samp(values, 0).statistic
    assert effects.cohen_dz(values) == pytest.approx(t / math.sqrt(5))


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.1 + 0.2]])
def test_no_dz_without_spread(values: list[float]) -> None:
    assert effects.cohen_dz(np.array(values)) is None


@pytest.mark.parametrize("n", [3, 8, 20, 70])
def test_hedges_correction_is_near_its_approximation(n: int) -> None:
    assert effects.hedges_g(1.0, n) == pytest.approx(1 - 3 / (4 * (n - 1) - 1), rel=0.02)


def test_two_cases_have_no_hedges_g() -> None:
    assert effects.hedges_g(1.0, 2) is None


def test_dz_interval_holds_the_values_that_a_test_would_not_reject() -> None:
    low, high = effects.dz_interval(0.8, 12, 0.95)
    assert low is not None
    assert high is not None
    t, df = 0.8 * math.sqrt(12), 11
    assert scipy.stats.nct.sf(t, df, low * math.sqrt(12)) == pytest.approx(0.025, abs=1e-6)
    assert scipy.stats.nct.cdf(t, df, high * math.sqrt(12)) == pytest.approx(0.025, abs=1e-6)


def test_dz_interval_excludes_zero_exactly_where_the_t_test_rejects() -> None:
    for n in (4, 9, 30):
        critical = scipy.stats.t.ppf(0.975, n - 1) / math.sqrt(n)
        below, above = (effects.dz_interval(critical * f, n, 0.95)[0] for f in (0.99, 1.01))
        assert below is not None
        assert above is not None
        assert below < 0 < above


def test_no_dz_interval_where_the_distribution_is_nan_within_the_bracket() -> None:
    dz = effects.cohen_dz(np.array([0.70, 0.76]) - np.array([0.741, 0.8029]))
    assert dz is not None
    assert dz < -30
    assert effects.dz_interval(dz, 2, 0.95) == (None, None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], 1.0),
        ([-1, -2], -1.0),
        ([1, -1], 0.0),
        ([0, 0], 0.0),
        ([0, 3, -1], (2 - 1) / 3),  # zeros have no rank
        ([2, 2, -2, 5], (2 + 2 - 2 + 4) / 10),  # ties share theirs
    ],
)
def test_rank_biserial_by_hand(values: list[float], expected: float) -> None:
    assert float(effects.rank_biserial(np.array(values, float))) == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(WHOLE)
def test_rank_biserial_is_wilcoxons_statistic(values: list[int]) -> None:
    nonzero = np.array([v for v in values if v], float)
    found = float(effects.rank_biserial(np.array(values, float)))
    if nonzero.size == 0:
        assert found == 0
        return
    above = scipy.stats.wilcoxon(nonzero, alternative="greater").statistic
    total = nonzero.size * (nonzero.size + 1) / 2
    assert found == pytest.approx(2 * above / total - 1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 3)), min_size=2, max_size=8))
def test_weighted_rank_biserial_is_that_of_repeated_values(rows: list[tuple[int, int]]) -> None:
    values, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    repeated = np.repeat(values, weights.astype(int))
    found = effects.weighted_rank_biserial(values, weights[np.newaxis])
    expected = effects.rank_biserial(repeated) if repeated.size else 0.0
    assert found == pytest.approx([float(expected)])


def test_rank_biserial_interval_holds_it() -> None:
    drawn = sample(np.random.default_rng(0).normal(0.5, 1, 20))
    for kind in ("cases_within_folds", "groups_within_folds"):
        config = StatisticsConfig(plan=AnalysisPlan(resampling=kind), bootstrap_resamples=199)
        low, high = effects.rank_biserial_interval(drawn, config, "t")
        assert low is not None
        assert high is not None
        assert -1 <= low < float(effects.rank_biserial(drawn.values)) < high <= 1


@pytest.mark.parametrize(
    ("values", "p"), [([1, 2, 3], 0.25), ([0, 0], 1.0), ([1, 2, 3, 4, 5, 6, 7, 8], 2 / 256)]
)
def test_wilcoxon_exact(values: list[float], p: float) -> None:
    assert effects.wilcoxon_p(np.array(values, float)) == pytest.approx(p)


def test_wilcoxon_one_sided() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert effects.wilcoxon_p(values, 1) == pytest.approx(1 / 8)
    assert effects.wilcoxon_p(values, -1) == pytest.approx(1.0)


def test_posterior_of_one_case_without_rope() -> None:
    """With w the weight of the pseudo-observation, Beta(1/2, 1), the rope has w squared.

    So P(right) = P(w squared < 1/2) = P(w < 0.7071) = sqrt(0.7071).
    """
    left, inside, right = posterior([1.0], rope=0.0)
    assert left == 0
    assert right == pytest.approx(math.sqrt(math.sqrt(0.5)), abs=0.006)
    assert inside == pytest.approx(1 - right)


def test_posterior_of_one_case_whose_mean_with_zero_is_inside_the_rope() -> None:
    """Only the pair with itself is above: P(right) = P((1 - w) squared > 1/2), w ~ Beta(1/2, 1)."""
    _, _, right = posterior([1.5], rope=1.0)
    assert right == pytest.approx(math.sqrt(1 - math.sqrt(0.5)), abs=0.006)


def test_posterior_against_its_definition() -> None:
    """The same weights, and the sums over all pairs written out."""
    values, rope, samples = [0.3, -0.2, 0.05, 0.6, -0.01], 0.04, 200
    rng = seeding.generator(0, "test")
    weights = rng.dirichlet([0.5, 1, 1, 1, 1, 1], size=samples)
    points = [0.0, *sorted(values)]
    wins = np.zeros(3)
    for weight in weights:
        shares = np.zeros(3)
        for i, first in enumerate(points):
            for j, second in enumerate(points):
                mean = (first + second) / 2
                region = 0 if mean < -rope else 2 if mean > rope else 1
                shares[region] += weight[i] * weight[j]
        wins[shares.argmax()] += 1
    assert posterior(values, rope, samples) == pytest.approx(tuple(wins / samples))


def test_a_difference_of_the_ropes_width_is_inside() -> None:
    assert posterior([0.81 - 0.80] * 5, rope=0.01)[1] == 1.0


@settings(deadline=None, max_examples=30)
@given(WHOLE, st.integers(0, 5))
def test_posterior_of_opposite_differences_is_mirrored(values: list[int], rope: int) -> None:
    """And the three sum to one."""
    first = posterior([float(v) for v in values], rope, 4000)
    second = posterior([-float(v) for v in values], rope, 4000)
    assert sum(first) == pytest.approx(1)
    assert first == pytest.approx(second[::-1], abs=0.07)


def test_no_rope_no_posterior() -> None:
    none = effects.posterior(np.array([0.1, 0.2]), None, StatisticsConfig())
    assert none == (None, None, None)
