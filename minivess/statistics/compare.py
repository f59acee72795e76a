"""Intervals of each arm's mean, and paired tests between arms, over cases.

An arm is one network trained with one loss. Values of several seeds are averaged per case first,
because a case is the unit that is sampled, a seed is not.
"""

from __future__ import annotations

import statistics as stdlib_statistics
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from minivess.config.plan import AnalysisPlan
from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.statistics import tables
from minivess.statistics.effects import (
    cohen_dz,
    dz_interval,
    hedges_g,
    posterior,
    rank_biserial,
    rank_biserial_interval,
    wilcoxon_p,
)
from minivess.statistics.resampling import Sample, design_of, mean_interval, sign_flip_p

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig

type Arm = tuple[str, str]
type CaseValues = dict[str, float]
type Correction = Literal["holm", "benjamini_hochberg"]


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


def adjusted(p_values: list[float], correction: Correction) -> list[float]:
    """P-values corrected for their number.

    Args:
        p_values: of one family of comparisons.
        correction: holm bounds the family-wise error rate, benjamini_hochberg the part of false
            discoveries.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure; Benjamini and
        Hochberg 1995, doi 10.1111/j.2517-6161.1995.tb02031.x.

    >>> adjusted([0.01, 0.04, 0.03], "holm")
    [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import (  # type: ignore[import-untyped, unused-ignore]
        multipletests,
    )

    method = {"holm": "holm", "benjamini_hochberg": "fdr_bh"}[correction]
    return [float(p) for p in multipletests(p_values, method=method)[1]] if p_values else []


def summarise(
    cases: pl.DataFrame, statistics: StatisticsConfig, groups: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """The table summary: for each arm and metric the mean over cases and its interval.

    Args:
        cases: the table cases; failed and empty cases count with the value they have there.
        statistics: plan, resamples and seed of the bootstrap.
        groups: group of each case; each alone by default.

    Raises:
        ValueError: a value that is not finite, or a group that is not known.
    """
    about = {
        (metric, model, loss): (unit, not_ok)
        for metric, model, loss, unit, not_ok in cases.group_by("metric", "model", "loss")
        .agg(pl.col("unit").min(), (pl.col("status") != "ok").sum().alias("n_not_ok"))
        .iter_rows()
    }
    design = design_of(cases, groups, statistics.plan.resampling)
    rows: list[dict[str, object]] = []
    for metric, by_arm in case_values(cases).items():
        for (model, loss), by_case in by_arm.items():
            values = list(by_case.values())
            unit, not_ok = about[metric, model, loss]
            low, high, method = mean_interval(
                design.sample(by_case), statistics, "bootstrap-mean", metric, model, loss
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
                    "ci_method": method,
                    "plan_sha256": statistics.plan.sha256,
                }
            )
    return tables.from_rows("summary", rows)


def pairs_of(arms: Sequence[Arm], plan: AnalysisPlan) -> list[tuple[Arm, Arm]]:
    """The comparisons of a plan: all pairs of arms, or each other arm with one.

    Raises:
        MinivessError: MV-STATE-002 the arm to compare with is not among them.

    >>> pairs_of([("net", "a"), ("net", "b"), ("net", "c")], AnalysisPlan(against="net/b"))
    [(('net', 'a'), ('net', 'b')), (('net', 'c'), ('net', 'b'))]
    """
    if plan.against is None:
        return list(combinations(arms, 2))
    chosen = [arm for arm in arms if "/".join(arm) == plan.against]
    if not chosen:
        raise MinivessError(
            "MV-STATE-002",
            what=f"the arm {plan.against} that others are compared with has no results",
            found=", ".join("/".join(arm) for arm in arms),
            fix="run the evaluation of that arm",
        )
    return [(arm, chosen[0]) for arm in arms if arm != chosen[0]]


def planned_values(cases: pl.DataFrame, plan: AnalysisPlan) -> dict[str, dict[Arm, CaseValues]]:
    """`case_values` of the metrics of a plan, in its order.

    Raises:
        MinivessError: MV-STATE-002 a metric has no value.
    """
    values = case_values(cases)
    lacking = [metric for metric in plan.metrics if metric not in values]
    if lacking:
        raise MinivessError(
            "MV-STATE-002",
            what="the table cases lacks metrics of the analysis file",
            where=f"analysis file {plan.name}",
            found="missing: " + ", ".join(lacking),
            fix="run the evaluation again",
        )
    return {metric: values[metric] for metric in plan.metrics}


def compare(
    cases: pl.DataFrame, statistics: StatisticsConfig, groups: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """The table comparison: the comparisons of the plan, paired by case, in its metrics.

    P-values are corrected over the comparisons in one metric.

    Args:
        cases: the table cases.
        statistics: plan, resamples, samples and seed.
        groups: group of each case; each alone by default.

    Raises:
        MinivessError: MV-STATE-002 where two arms have no case in common, or a metric or arm of the
            plan is missing.
        ValueError: a value that is not finite, or a group that is not known.
    """
    plan = statistics.plan
    design = design_of(cases, groups, plan.resampling)
    rows: list[dict[str, object]] = []
    for metric, by_arm in planned_values(cases, plan).items():
        pairs = []
        for a, b in pairs_of(list(by_arm), plan):
            differences = design.sample(paired(metric, (a, b), by_arm))
            pairs.append(_pair((metric, *a, *b), differences, statistics))
        corrected = adjusted([pair["p_value"] for pair in pairs], plan.correction)
        rows += [{**pair, "p_adjusted": p} for pair, p in zip(pairs, corrected, strict=True)]
    return tables.from_rows("comparison", rows)


def paired(
    metric: str, pair: tuple[Arm, Arm], by_arm: Mapping[Arm, CaseValues]
) -> dict[str, float]:
    """Differences of two arms in a metric, by case, over the cases that both have.

    Raises:
        MinivessError: MV-STATE-002 where they have no case in common.
    """
    first, second = (by_arm[arm] for arm in pair)
    common = [case for case in first if case in second]
    if not common:
        raise MinivessError(
            "MV-STATE-002",
            what="two arms have no case in common and cannot be compared",
            where=" and ".join("/".join(arm) for arm in pair) + f", metric {metric}",
            fix="run the evaluation of all folds of both",
        )
    return {case: first[case] - second[case] for case in common}


def better_sign(metric: str, plan: AnalysisPlan) -> int:
    """Which sign of a difference a test looks for: 0 where it is two-sided."""
    if plan.alternative == "two_sided":
        return 0
    return 1 if METRICS[metric].better == "higher" else -1


def _pair(
    key: tuple[str, str, str, str, str], differences: Sample, statistics: StatisticsConfig
) -> dict[str, Any]:
    """One row of the table comparison, without its corrected p-value."""
    metric, plan, values = key[0], statistics.plan, differences.values
    better = better_sign(metric, plan)
    low, high, method = mean_interval(differences, statistics, "bootstrap-difference", *key)
    dz = cohen_dz(values)
    dz_low, dz_high = (
        (None, None) if dz is None else dz_interval(dz, values.size, statistics.confidence)
    )
    rank_low, rank_high = rank_biserial_interval(differences, statistics, *key)
    rope = plan.rope.get(metric)
    left, inside, right = posterior(values, rope, statistics, *key)
    return {
        **dict(zip(("metric", "model_a", "loss_a", "model_b", "loss_b"), key, strict=True)),
        "n_cases": values.size,
        "difference": stdlib_statistics.fmean(values.tolist()),
        "ci_low": low,
        "ci_high": high,
        "ci_method": method,
        "p_value": sign_flip_p(differences, statistics, *key, better=better),
        "p_wilcoxon": wilcoxon_p(values, better),
        "dz": dz,
        "dz_low": dz_low,
        "dz_high": dz_high,
        "hedges_g": None if dz is None else hedges_g(dz, values.size),
        "rank_biserial": float(rank_biserial(values)),
        "rank_biserial_low": rank_low,
        "rank_biserial_high": rank_high,
        "rope": rope,
        "p_left": left,
        "p_rope": inside,
        "p_right": right,
        "plan_sha256": plan.sha256,
    }
