"""The order of the arms in each metric, and how far it is the order of these cases alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from minivess import seeding
from minivess.metrics import METRICS
from minivess.statistics import tables
from minivess.statistics.compare import Arm, planned_values
from minivess.statistics.effects import DECIMALS
from minivess.statistics.resampling import (
    Floats,
    Sample,
    design_of,
    resample_counts,
    weighted_mean,
)

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig


def rank_arms(
    cases: pl.DataFrame, statistics: StatisticsConfig, groups: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """The table ranks: each arm's place in each metric of the plan, and its stability.

    Over the cases that all arms have. A metric without a better direction has no ranks, and one arm
    has none either.

    Args:
        cases: the table cases.
        statistics: plan, number of resamples, seed.
        groups: group of each case; each alone by default.

    Raises:
        MinivessError: MV-STATE-002 a metric of the plan is missing.
        ValueError: a value that is not finite, or a group that is not known.

    Source: Wiesenfarth et al. 2021, doi 10.1038/s41598-021-82017-6 (ranks of bootstrap samples,
        and Kendall's tau between their order and the one observed);
        Demsar 2006, JMLR 7 (mean ranks, Friedman's test, Nemenyi's critical difference).
    """
    design = design_of(cases, groups, statistics.plan.resampling)
    rows: list[dict[str, object]] = []
    for metric, by_arm in planned_values(cases, statistics.plan).items():
        arms = list(by_arm)
        common = sorted(set.intersection(*(set(own) for own in by_arm.values())))
        if METRICS[metric].better == "neither" or len(arms) < 2 or len(common) < 2:
            continue
        sign = -1.0 if METRICS[metric].better == "higher" else 1.0
        costs = {case: [sign * by_arm[arm][case] for arm in arms] for case in common}
        rows += _metric_rows(metric, arms, design.sample(costs), statistics)
    return tables.from_rows("ranks", rows)


def _metric_rows(
    metric: str, arms: list[Arm], costs: Sample, statistics: StatisticsConfig
) -> list[dict[str, object]]:
    plan = statistics.plan
    n, k = costs.values.shape
    mean_ranks = np.mean(_places(costs.values, "average"), axis=0)
    observed = _places(np.mean(costs.values, axis=0)[np.newaxis], "min")[0]
    drawn = _resampled(metric, costs, statistics)
    tau, tau_low = _agreement(drawn, observed, plan.alpha / 2)
    tail = plan.alpha / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0, method="inverted_cdf")
    shared = {
        "metric": metric,
        "n_cases": n,
        "friedman_p": friedman_p(costs.values),
        "critical_difference": critical_difference(k, n, plan.alpha),
        "tau": tau,
        "tau_low": tau_low,
        "plan_sha256": plan.sha256,
    }
    return [
        {
            **shared,
            "model": arm[0],
            "loss": arm[1],
            "rank": int(observed[i]),
            "rank_low": int(low[i]),
            "rank_high": int(high[i]),
            "first": float(np.mean(drawn[:, i] == 1)),
            "mean_rank": float(mean_ranks[i]),
        }
        for i, arm in enumerate(arms)
    ]


def _places(costs: Floats, ties: Literal["average", "min"]) -> Floats:
    """Ranks along the last axis; 1 is the lowest cost."""
    from scipy.stats import rankdata

    ranks: Floats = rankdata(np.round(costs, DECIMALS), axis=-1, method=ties)
    return ranks


def _resampled(metric: str, costs: Sample, statistics: StatisticsConfig) -> Floats:
    """Ranks of the arms by their mean in each resample, shape (resamples, arms).

    The same cases are drawn for all arms.
    """
    rng = seeding.generator(statistics.statistics_seed, "rank-stability", metric)
    resampling, resamples = statistics.plan.resampling, statistics.bootstrap_resamples
    counts = resample_counts(costs, resampling, resamples, rng).astype(np.float64)
    means = [weighted_mean(costs.values[:, arm], counts) for arm in range(costs.values.shape[1])]
    return _places(np.stack(means, axis=1), "min")


def kendall_tau(first: Floats, second: Floats) -> float | None:
    """Kendall's tau-b of two orders of the arms; None where the first has all arms equal.

    An order that has all arms equal agrees with none: 0.

    Source: Kendall 1945, doi 10.1093/biomet/33.3.239, as SciPy computes it.

    >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.333333
    """
    from scipy.stats import kendalltau

    if np.ptp(first) == 0:
        return None
    if np.ptp(second) == 0:
        return 0.0
    return round(float(kendalltau(first, second).statistic), 6)


def _agreement(drawn: Floats, observed: Floats, tail: float) -> tuple[float | None, float | None]:
    """Mean and lower quantile of tau over resamples; equal orders are counted once."""
    orders, counts = np.unique(drawn, axis=0, return_counts=True)
    found = [kendall_tau(observed, order) for order in orders]
    taus = np.repeat([np.nan if tau is None else tau for tau in found], counts)
    if np.isnan(taus).any():
        return None, None
    low = np.quantile(np.sort(taus), tail, method="inverted_cdf")
    return round(float(np.mean(np.sort(taus))), 6), float(low)


def friedman_p(costs: Floats) -> float | None:
    """P-value of Friedman's test over cases; None for two arms, or where all are equal.

    Args:
        costs: shape (cases, arms).

    Source: Friedman 1937, doi 10.1080/01621459.1937.10503522.
    """
    from scipy.stats import friedmanchisquare

    rounded = np.round(costs, DECIMALS)
    if costs.shape[1] < 3 or not np.any(np.ptp(rounded, axis=1)):
        return None
    return float(friedmanchisquare(*rounded.T).pvalue)


def critical_difference(arms: int, cases: int, alpha: float) -> float:
    """Difference of mean ranks from which two arms differ, by Nemenyi's test.

    Source: Demsar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7,
        section 3.2.2.

    >>> round(critical_difference(4, 14, 0.05), 2)
    1.25
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, arms, np.inf)) / np.sqrt(2)
    return round(float(q * np.sqrt(arms * (arms + 1) / (6 * cases))), 6)
