"""The smallest difference that so many cases can show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from minivess.statistics import tables
from minivess.statistics.compare import better_sign, paired, pairs_of, planned_values

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig


def least_detectable_dz(n: int, alpha: float, power: float, one_sided: bool) -> float | None:
    """The dz that a paired t test of `n` cases finds with that power; None for fewer than two.

    Assumed are independent cases with normal differences. Findings in the wrong direction do not
    count.

    Args:
        n: cases.
        alpha: level of the test.
        power: probability of finding it.
        one_sided: whether the test is.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2; the power is statsmodels'.

    >>> least_detectable_dz(34, 0.05, 0.8, one_sided=False)
    0.495
    """
    from scipy.optimize import brentq
    from statsmodels.stats.power import (  # type: ignore[import-untyped, unused-ignore]
        TTestPower,
    )

    if n < 2:
        return None
    tail = alpha if one_sided else alpha / 2

    def lacking(dz: float) -> float:
        return float(TTestPower().power(dz, n, tail, alternative="larger")) - power

    most = 1.0
    while math.isfinite(lacking(most)) and lacking(most) < 0:
        most *= 1.5
    if not math.isfinite(lacking(most)) or lacking(0.0) >= 0:
        return None
    return round(float(brentq(lacking, 0.0, most)), 4)


def detectable(cases: pl.DataFrame, statistics: StatisticsConfig) -> pl.DataFrame:
    """The table power: the least detectable difference of each comparison of the plan.

    The spread of the differences is the observed one, the level `alpha` over the number of
    comparisons in the metric: the first step of Holm's procedure.

    Args:
        cases: the table cases.
        statistics: plan: comparisons, alpha, power.

    Raises:
        MinivessError: MV-STATE-002 two arms have no case in common, or a metric or arm of the plan
            is missing.
        ValueError: a value that is not finite.
    """
    plan = statistics.plan
    rows: list[dict[str, object]] = []
    for metric, by_arm in planned_values(cases, plan).items():
        pairs = pairs_of(list(by_arm), plan)
        for a, b in pairs:
            differences = sorted(paired(metric, (a, b), by_arm).values())
            alpha = plan.alpha / len(pairs)
            sides = better_sign(metric, plan) != 0
            dz = least_detectable_dz(len(differences), alpha, plan.power, sides)
            sd = float(np.std(differences, ddof=1)) if len(differences) > 1 else None
            rows.append(
                {
                    "metric": metric,
                    **_names(a, b),
                    "n_cases": len(differences),
                    "alpha": alpha,
                    "power": plan.power,
                    "sd_difference": sd,
                    "least_dz": dz,
                    "least_difference": None if dz is None or sd is None else dz * sd,
                    "plan_sha256": plan.sha256,
                }
            )
    return tables.from_rows("power", rows)


def _names(a: tuple[str, str], b: tuple[str, str]) -> Mapping[str, str]:
    return {"model_a": a[0], "loss_a": a[1], "model_b": b[0], "loss_b": b[1]}
