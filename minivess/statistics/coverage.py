"""Conformal masks of the held-out cases of a run, and how often they kept their promise."""

from __future__ import annotations

import statistics as stdlib_statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from minivess.errors import MinivessError
from minivess.statistics import tables
from minivess.statistics.conformal import (
    TOLERANCE,
    check_disjoint,
    halves,
    inner_score,
    needed_cases,
    outer_score,
    risk_threshold,
    split_quantile,
)
from minivess.statistics.nested import (
    THRESHOLDS,
    NestedMasks,
    inner_masks,
    outer_masks,
    threshold_masks,
)
from minivess.statistics.resampling import mean_interval, sample

if TYPE_CHECKING:
    from minivess.config.calibration import ConformalConfig
    from minivess.config.schema import StatisticsConfig
    from minivess.types import BoolArray, FloatArray, Spacing

THRESHOLD, OUTER, INNER = "threshold", "outer_margin", "inner_margin"
METHODS = (THRESHOLD, OUTER, INNER)
OK, TOO_FEW = "ok", "too_few_cases"
DECIMALS = 9


@dataclass(frozen=True, eq=False)
class HeldOutCase:
    """A held-out case of a run: what each family of masks around its prediction holds."""

    case: str
    group: str
    families: Mapping[str, NestedMasks]


def held_out_case(
    names: tuple[str, str],
    probability: FloatArray,
    mask: BoolArray,
    reference: BoolArray,
    spacing_um: Spacing,
) -> HeldOutCase:
    """Count what the masks of all methods hold.

    Args:
        names: case and its group.
        probability: predicted vessel probability (x, y, z).
        mask: predicted mask of the same shape.
        reference: mask of the same shape.
        spacing_um: spacing (x, y, z) in um.

    Raises:
        TypeError, MinivessError: see `minivess.statistics.nested`.
    """
    families = {
        THRESHOLD: threshold_masks(probability, reference),
        OUTER: outer_masks(mask, reference, spacing_um),
        INNER: inner_masks(mask, reference, spacing_um),
    }
    return HeldOutCase(*names, families)


def chosen_level(
    method: str, cases: Sequence[HeldOutCase], alpha: float, covered_share: float
) -> float:
    """The threshold, or the margin in um, that calibration cases allow at a risk.

    Raises:
        MinivessError: MV-CONFORMAL-001 too few cases for that alpha.
    """
    families = [case.families[method] for case in cases]
    if method == THRESHOLD:
        losses = np.array([family.missed() for family in families]).reshape(-1, THRESHOLDS.size)
        return risk_threshold(losses, THRESHOLDS, alpha)
    score = outer_score if method == OUTER else inner_score
    return split_quantile(np.array([score(family, covered_share) for family in families]), alpha)


def calibrated_halves(
    cases: Sequence[HeldOutCase], seed: int, fold: int, fitted: Sequence[str]
) -> list[tuple[list[HeldOutCase], list[HeldOutCase]]]:
    """(calibration cases, test cases), twice: each half of the cases calibrates for the other.

    Args:
        cases: the held-out cases of a fold.
        seed: seed of the halves.
        fold: the fold, so that each has a split of its own, the same for all its runs.
        fitted: cases that the network was trained or selected on.

    Raises:
        ValueError: a held-out case is among the fitted ones.
    """
    parts = halves({case.case: case.group for case in cases}, seed, fold)
    by_name = {case.case: case for case in cases}
    pairs = []
    for calibrating, tested in (parts, parts[::-1]):
        check_disjoint(calibrating, tested, fitted)
        pairs.append(([by_name[name] for name in calibrating], [by_name[name] for name in tested]))
    return pairs


def conformal_rows(
    pairs: Sequence[tuple[Sequence[HeldOutCase], Sequence[HeldOutCase]]], config: ConformalConfig
) -> list[dict[str, object]]:
    """Rows of the table conformal for one run, without the run's own columns.

    Where the calibration cases are too few for an alpha the rows say so.

    Args:
        pairs: of `calibrated_halves`.
        config: risks, and the share that makes a case covered.
    """
    share = config.covered_share
    rows: list[dict[str, object]] = []
    for calibrating, tested in pairs:
        about: dict[str, object] = {
            "n_calibration": len(calibrating),
            "calibrated_on": " ".join(case.case for case in calibrating),
        }
        for alpha in config.alphas:
            needed = needed_cases(alpha)
            reachable = len(calibrating) >= needed
            about |= {"alpha": alpha, "n_needed": needed, "status": OK if reachable else TOO_FEW}
            for method in METHODS:
                level = chosen_level(method, calibrating, alpha, share) if reachable else None
                rows += [
                    {
                        **about,
                        "case": case.case,
                        "method": method,
                        **_outcome(method, case.families[method], level, share),
                    }
                    for case in tested
                ]
    return rows


def _outcome(
    method: str, family: NestedMasks, level: float | None, covered_share: float
) -> dict[str, object]:
    """What the mask at a level holds; nothing where there is none."""
    if level is None:
        return {"level": None, "wrong_part": None, "covered": None, "size": None}
    at = family.index(level)
    wrong = float((family.wrong() if method == INNER else family.missed())[at])
    return {
        "level": round(level, DECIMALS),
        "wrong_part": round(wrong, DECIMALS),
        "covered": None if method == THRESHOLD else wrong <= 1 - covered_share + TOLERANCE,
        "size": round(int(family.voxels[at]) / family.n_voxels, DECIMALS),
    }


def coverage_table(conformal: pl.DataFrame, statistics: StatisticsConfig) -> pl.DataFrame:
    """The table coverage: for each arm, seed, method and alpha what was observed over the cases.

    Each case has the network of the fold that held it out; folds are counted in `n_folds`.

    Args:
        conformal: the table conformal.
        statistics: level of the intervals, resamples and seed of the bootstrap.

    Source of the interval of a part of cases: Clopper and Pearson 1934, through SciPy. Cases that
    share calibration cases are not independent, which it does not know.
    """
    rows: list[dict[str, object]] = []
    keys = ["model", "loss", "seed", "method", "alpha"]
    for key, own in sorted(conformal.group_by(keys), key=lambda pair: [str(k) for k in pair[0]]):
        tested = own.filter(pl.col("status") == OK).sort("fold", "case")
        column = "wrong_part" if key[3] == THRESHOLD else "covered"
        values = [float(value) for value in tested[column].to_list()]
        low, high = _interval(tested, str(key[3]), statistics, [str(part) for part in key])
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "n_cases": tested.height,
                "n_untested": own.height - tested.height,
                "n_folds": tested["fold"].n_unique(),
                "promised": key[4] if key[3] == THRESHOLD else round(1 - float(str(key[4])), 12),
                "observed": _mean(values),
                "ci_low": low,
                "ci_high": high,
                "mean_level": _mean(tested["level"].to_list()),
                "mean_size": _mean(tested["size"].to_list()),
            }
        )
    return tables.from_rows("coverage", rows)


def _mean(values: Sequence[float]) -> float | None:
    return stdlib_statistics.fmean(values) if values else None


def _interval(
    tested: pl.DataFrame, method: str, statistics: StatisticsConfig, indices: list[str]
) -> tuple[float | None, float | None]:
    """Bootstrap of a mean part, cases within folds; exact binomial interval of a part of cases."""
    if tested.is_empty():
        return None, None
    if method == THRESHOLD:
        plan = statistics.plan.model_copy(update={"resampling": "cases_within_folds"})
        drawn_from = sample(tested["wrong_part"].to_list(), tested["fold"].to_list())
        settings = statistics.model_copy(update={"plan": plan})
        return mean_interval(drawn_from, settings, "coverage", *indices)[:2]
    from scipy.stats import binomtest

    test = binomtest(int(tested["covered"].sum()), tested.height)
    interval = test.proportion_ci(statistics.confidence, method="exact")
    return round(float(interval.low), DECIMALS), round(float(interval.high), DECIMALS)


def coverage_text(coverage: pl.DataFrame) -> str:
    """The table coverage as lines of text.

    Raises:
        MinivessError: MV-STATE-002 it has no row.
    """
    if coverage.is_empty():
        raise MinivessError(
            "MV-STATE-002",
            what="the table coverage is empty",
            fix="set conformal.alphas and run the experiment again",
        )
    lines = [f"{'arm':<32}{'method':<14}{'alpha':>6}{'promised':>11}{'observed (interval)':>26}"]
    lines[0] += f"{'cases':>7}{'level':>9}"
    for row in coverage.iter_rows(named=True):
        arm = f"{row['model']}/{row['loss']}/seed{row['seed']}"
        lines.append(f"{arm:<32}{row['method']:<14}{row['alpha']:>6g}{_shown(row)}")
    return "\n".join(lines)


def _shown(row: dict[str, Any]) -> str:
    sign = "<=" if row["method"] == THRESHOLD else ">="
    promised = f"{sign} {row['promised']:.3g}"
    if row["observed"] is None:
        return f"{promised:>11}{'too few cases':>26}{row['n_cases']:>7}{'-':>9}"
    interval = "-" if row["ci_low"] is None else f"{row['ci_low']:.3f}, {row['ci_high']:.3f}"
    observed = f"{row['observed']:.3f} ({interval})"
    return f"{promised:>11}{observed:>26}{row['n_cases']:>7}{row['mean_level']:>9.3f}"
