"""Intervals of each arm's mean, and paired tests between arms, over cases.

An arm is one network trained with one loss. Values of several seeds are averaged per case first,
because a case is the unit that is sampled, a seed is not.
"""

from __future__ import annotations

import math
import statistics as stdlib_statistics
import warnings
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from minivess import seeding
from minivess.errors import MinivessError
from minivess.statistics import tables

if TYPE_CHECKING:
    import numpy.typing as npt

    from minivess.config.schema import StatisticsConfig

type Arm = tuple[str, str]
type CaseValues = dict[str, float]
type Floats = npt.NDArray[np.float64]


def arms_of(table: pl.DataFrame) -> tuple[Arm, ...]:
    """The arms (model, loss) of a table, sorted.

    >>> arms_of(pl.DataFrame({"model": ["b", "a", "b"], "loss": ["x", "y", "x"]}))
    (('a', 'y'), ('b', 'x'))
    """
    return tuple(sorted(set(table.select("model", "loss").iter_rows())))


def case_values(cases: pl.DataFrame) -> dict[str, dict[Arm, CaseValues]]:
    """Metric -> arm -> case -> value, the mean over the seeds (and folds) of that case.

    Metrics, arms and cases are sorted, so the order of the rows does not matter.

    Raises:
        ValueError: a value is missing, NaN or infinite; such a value has no place in the table.
    """
    bad = cases.filter(pl.col("value").is_null() | ~pl.col("value").is_finite())
    if bad.height:
        raise ValueError(f"the table cases has values that are not finite: {bad.row(0)}")
    grouped: dict[tuple[str, Arm, str], list[float]] = {}
    for metric, model, loss, case, value in cases.select(
        "metric", "model", "loss", "case", "value"
    ).iter_rows():
        grouped.setdefault((metric, (model, loss), case), []).append(value)
    nested: dict[str, dict[Arm, CaseValues]] = {}
    for (metric, arm, case), values in sorted(grouped.items()):
        mean = stdlib_statistics.fmean(values)
        nested.setdefault(metric, {}).setdefault(arm, {})[case] = mean
    return nested


def mean_interval(
    values: Floats, settings: StatisticsConfig, purpose: str, *indices: str
) -> tuple[float | None, float | None]:
    """Interval of the mean by the BCa bootstrap; (None, None) where there is none.

    There is none for fewer than two or only equal values, and where BCa itself degenerates.

    Args:
        values: one value per case, shape (n,).
        settings: level, number of resamples, seed.
        purpose: with `indices`, what tells this interval's random numbers from the others'.

    Source: Efron 1987, Better bootstrap confidence intervals, as SciPy implements it.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    if values.size < 2 or np.ptp(values) == 0:
        return None, None
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # NaN tells the same, below
        interval = bootstrap(
            (values,),
            np.mean,
            confidence_level=settings.confidence,
            n_resamples=settings.bootstrap_resamples,
            method="BCa",
            rng=seeding.generator(settings.statistics_seed, purpose, *indices),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def sign_flip_p(differences: Floats, settings: StatisticsConfig, *indices: str) -> float:
    """Two-sided p-value of the paired permutation test on the mean difference.

    All 2**n sign flips are enumerated where they are at most `permutation_resamples` + 1; else so
    many random ones are drawn and the observed one is counted among them, so p is never 0.

    Args:
        differences: one difference per case, shape (n,).
        settings: number of random flips, seed.
        indices: what tells this test's random numbers from the others'.

    Source: Fisher 1935, The design of experiments; Phipson and Smyth 2010 for the random case.

    >>> from minivess.config.schema import StatisticsConfig
    >>> sign_flip_p(np.array([1.0, 2.0, 3.0]), StatisticsConfig())
    0.25
    """
    from scipy.stats import permutation_test

    if differences.size < 2:
        return 1.0  # a flip of the only difference is as extreme as the difference
    flips = 2**differences.size
    exact = flips <= settings.permutation_resamples + 1
    result = permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        alternative="two-sided",
        n_resamples=flips if exact else settings.permutation_resamples,
        rng=seeding.generator(settings.statistics_seed, "sign-flips", *indices),
    )
    return float(result.pvalue)


def holm(p_values: list[float]) -> list[float]:
    """P-values corrected for their number; they bound the family-wise error rate.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import (  # type: ignore[import-untyped, unused-ignore]
        multipletests,
    )

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def summarise(cases: pl.DataFrame, statistics: StatisticsConfig) -> pl.DataFrame:
    """The table summary: for each arm and metric the mean over cases and its interval.

    Args:
        cases: the table cases; failed and empty cases count with the value they have there.
        statistics: level, resamples and seed of the bootstrap.

    Raises:
        ValueError: a value that is not finite.
    """
    about = {
        (metric, model, loss): (unit, not_ok)
        for metric, model, loss, unit, not_ok in cases.group_by("metric", "model", "loss")
        .agg(pl.col("unit").min(), (pl.col("status") != "ok").sum().alias("n_not_ok"))
        .iter_rows()
    }
    rows: list[dict[str, object]] = []
    for metric, by_arm in case_values(cases).items():
        for (model, loss), by_case in by_arm.items():
            values = list(by_case.values())
            unit, not_ok = about[metric, model, loss]
            low, high = mean_interval(
                np.array(values), statistics, "bootstrap-mean", metric, model, loss
            )
            rows.append(
                {
                    "model": model,
                    "loss": loss,
                    "metric": metric,
                    "unit": unit,
                    "n_cases": len(values),
                    "n_not_ok": not_ok,
                    "mean": stdlib_statistics.fmean(values),
                    "sd": stdlib_statistics.stdev(values) if len(values) > 1 else None,
                    "ci_low": low,
                    "ci_high": high,
                    "ci_method": "none" if low is None else "BCa",
                }
            )
    return tables.from_rows("summary", rows)


def compare(cases: pl.DataFrame, statistics: StatisticsConfig) -> pl.DataFrame:
    """The table comparison: all pairs of arms, paired by case, Holm-corrected within a metric.

    Args:
        cases: the table cases.
        statistics: level, resamples and seed of the bootstrap and of the permutation test.

    Raises:
        MinivessError: MV-STATE-002 where two arms have no case in common.
        ValueError: a value that is not finite.
    """
    rows: list[dict[str, object]] = []
    for metric, by_arm in case_values(cases).items():
        pairs = [_pair(metric, a, b, by_arm, statistics) for a, b in combinations(by_arm, 2)]
        corrected = holm([pair["p_value"] for pair in pairs])
        rows += [{**pair, "p_holm": p} for pair, p in zip(pairs, corrected, strict=True)]
    return tables.from_rows("comparison", rows)


def _pair(
    metric: str,
    a: Arm,
    b: Arm,
    by_arm: Mapping[Arm, CaseValues],
    statistics: StatisticsConfig,
) -> dict[str, Any]:
    """One row of the table comparison, without its corrected p-value."""
    common = [case for case in by_arm[a] if case in by_arm[b]]
    if not common:
        raise MinivessError(
            "MV-STATE-002",
            what="two arms have no case in common and cannot be compared",
            where=f"{'/'.join(a)} and {'/'.join(b)}, metric {metric}",
            fix="run the evaluation of all folds of both",
        )
    differences = np.array([by_arm[a][case] - by_arm[b][case] for case in common])
    low, high = mean_interval(differences, statistics, "bootstrap-difference", metric, *a, *b)
    return {
        "metric": metric,
        "model_a": a[0],
        "loss_a": a[1],
        "model_b": b[0],
        "loss_b": b[1],
        "n_cases": len(common),
        "difference": stdlib_statistics.fmean(differences.tolist()),
        "ci_low": low,
        "ci_high": high,
        "p_value": sign_flip_p(differences, statistics, metric, *a, *b),
    }
