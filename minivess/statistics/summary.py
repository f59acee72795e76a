"""The numbers that the paper and the terminal quote, from the tables of one experiment."""

from __future__ import annotations

import statistics as stdlib_statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.statistics.compare import Arm, arms_of, case_values
from minivess.statistics.resampling import METHODS

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig

MAIN_METRICS = tuple(metric.id for metric in METRICS.values() if metric.panel == "main")
CORRECTIONS = {"holm": "Holm", "benjamini_hochberg": "Benjamini and Hochberg"}
WIDTH = 100
_NAME_WIDTH = 25
_VALUE_WIDTH = 15
_BASELINE_NAME = "best single threshold (chosen with the reference)"


def summary_json(
    cases: pl.DataFrame,
    summary: pl.DataFrame,
    comparison: pl.DataFrame,
    baseline: pl.DataFrame,
    statistics: StatisticsConfig,
    arms: Sequence[Arm] = (),
    groups: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """All numbers that the paper quotes, in full precision, ready for `output.write_json`.

    Keys: experiment, n_cases, n_units (whose signs a test flips), n_folds, seeds, confidence,
    primary_metric, plan (name, sha256, correction, ci_method); arms, a list of model, loss,
    n_predictions, n_not_ok, metrics (id -> unit, mean, sd, ci_low, ci_high, n_cases,
    n_not_ok), dice_over_baseline; baseline (n_cases, dice); comparison, the rows of the table.

    Args:
        cases: the table cases.
        summary: the table summary.
        comparison: the table comparison.
        baseline: the table baseline.
        statistics: level of the intervals and primary metric.
        arms: order of the arms; by default sorted.
        groups: group of each case; each alone by default.

    Raises:
        MinivessError: MV-STATE-002 where there is no case, or the baseline lacks one.
    """
    if cases.is_empty():
        raise MinivessError(
            "MV-STATE-002",
            what="the table cases is empty, so there is nothing to summarise",
            fix="run the evaluation of the experiment's runs",
        )
    best = _baseline_dice(cases, baseline)
    units = set(cases["case"])
    if groups and statistics.plan.resampling == "groups_within_folds":
        units = {groups[case] for case in units}
    return {
        "experiment": cases["experiment"].unique().sort().str.join(", ").item(),
        "n_cases": cases["case"].n_unique(),
        "n_units": len(units),
        "n_folds": cases["fold"].n_unique(),
        "seeds": cases["seed"].unique().sort().to_list(),
        "confidence": statistics.confidence,
        "primary_metric": statistics.primary_metric,
        "plan": {
            "name": statistics.plan.name,
            "sha256": statistics.plan.sha256,
            "correction": statistics.plan.correction,
            "ci_method": METHODS[statistics.plan.resampling],
        },
        "arms": [_arm_numbers(arm, cases, summary, best) for arm in (arms or arms_of(summary))],
        "baseline": {"n_cases": len(best), "dice": stdlib_statistics.fmean(best.values())},
        "comparison": comparison.to_dicts(),
    }


def _baseline_dice(cases: pl.DataFrame, baseline: pl.DataFrame) -> dict[str, float]:
    """Dice of the baseline for each case that was evaluated."""
    dice = dict(baseline.select("case", "dice").sort("case").iter_rows())
    evaluated = cases["case"].unique().sort().to_list()
    missing = [case for case in evaluated if case not in dice]
    if missing:
        raise MinivessError(
            "MV-STATE-002",
            what="the table baseline lacks cases that were evaluated",
            found=", ".join(missing[:10]),
            fix="make the baseline again, from the manifest that the folds were made from",
        )
    return {case: dice[case] for case in evaluated}


def _arm_numbers(
    arm: Arm, cases: pl.DataFrame, summary: pl.DataFrame, best: dict[str, float]
) -> dict[str, Any]:
    """The entry of one arm; its margin is over the cases that it has."""
    model, loss = arm
    is_arm = (pl.col("model") == model) & (pl.col("loss") == loss)
    own = cases.filter(is_arm)
    statuses = own.group_by("seed", "fold", "case").agg((pl.col("status") != "ok").any())
    columns = ("unit", "mean", "sd", "ci_low", "ci_high", "n_cases", "n_not_ok")
    metrics = {
        row["metric"]: {column: row[column] for column in columns}
        for row in summary.filter(is_arm).iter_rows(named=True)
    }
    dice = case_values(own.filter(pl.col("metric") == "dice")).get("dice", {}).get(arm, {})
    return {
        "model": model,
        "loss": loss,
        "n_predictions": statuses.height,
        "n_not_ok": int(statuses["status"].sum()),
        "metrics": metrics,
        "dice_over_baseline": stdlib_statistics.fmean(dice[case] - best[case] for case in dice)
        if dice
        else None,
    }


def arm_names(arms: Sequence[Arm]) -> dict[Arm, str]:
    """The shortest names that tell the arms apart: what they all share is left out.

    >>> arm_names([("dynunet", "dice_ce"), ("dynunet", "cldice")])
    {('dynunet', 'dice_ce'): 'dice_ce', ('dynunet', 'cldice'): 'cldice'}
    >>> arm_names([("dynunet", "dice_ce"), ("unet", "cldice")])[("unet", "cldice")]
    'unet / cldice'
    """
    if len({model for model, _ in arms}) == 1:
        return {arm: arm[1] for arm in arms}
    if len({loss for _, loss in arms}) == 1:
        return {arm: arm[0] for arm in arms}
    return {arm: f"{arm[0]} / {arm[1]}" for arm in arms}


def number(value: float) -> str:
    """A number in at most five characters (six with a sign), for metrics in tables.

    >>> [number(value) for value in (0.81234, 12.3456, 123.456, 12345.6)]
    ['0.812', '12.35', '123.5', '12346']
    """
    decimals = 3 if abs(value) < 9.9995 else 2 if abs(value) < 99.995 else 1
    return f"{value:.{decimals if abs(value) < 999.95 else 0}f}"


def percentage(share: float) -> str:
    """A share as a percentage with the decimals that it has, for the level of intervals.

    >>> percentage(0.95), percentage(0.995)
    ('95%', '99.5%')
    """
    return f"{100 * share:g}%"


def p_number(value: float) -> str:
    """A p-value in four decimals.

    >>> p_number(0.0078125), p_number(0.00002)
    ('0.0078', '<0.0001')
    """
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def summary_text(
    numbers: dict[str, Any],
    figures: str,
    report: str,
    notes: Sequence[str] = (),
    spread: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The final summary as plain text, at most 100 columns wide.

    Args:
        numbers: what `summary_json` returned.
        figures: where the figures are, for the last lines.
        report: where the report is.
        notes: what is to be said of how the runs were computed.
        spread: rows of the table seeds; of a single seed nothing is said.
    """
    names = arm_names([(arm["model"], arm["loss"]) for arm in numbers["arms"]])
    seeds = ", ".join(str(seed) for seed in numbers["seeds"])
    counts = (
        f"{_count(numbers['n_cases'], 'case')}, {_count(numbers['n_folds'], 'fold')}, "
        f"{'seed' if len(numbers['seeds']) == 1 else 'seeds'} {seeds}"
    )
    lines = [
        *textwrap.wrap(f"Experiment {numbers['experiment']}: {counts}", WIDTH),
        "",
        *textwrap.wrap(
            f"Mean over cases, below it the {percentage(numbers['confidence'])} interval "
            f"({numbers['plan']['ci_method']} bootstrap):",
            WIDTH,
        ),
        "",
        *_metric_lines(numbers, names),
        "",
        *_status_lines(numbers, names),
        *_comparison_lines(numbers, names),
        *seed_lines(spread, names),
        "",
        *(line for note in notes for line in (*textwrap.wrap(note, WIDTH), "")),
        f"Analysis file {numbers['plan']['name']}, SHA-256",
        numbers["plan"]["sha256"],
        "",
        f"Figures: {figures}",
        f"Report:  {report}",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _interval(row: dict[str, Any]) -> str:
    if row["ci_low"] is None:
        return "[no interval]"
    return f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"


def _block(name: str, *columns: Sequence[str]) -> list[str]:
    """A name at the left, wrapped, and one right-aligned line per row of values."""
    left = textwrap.wrap(name, _NAME_WIDTH - 1) or [""]
    height = max(len(left), len(columns))
    left += [""] * (height - len(left))
    rows = [*columns, *[()] * (height - len(columns))]
    return [
        f"{text:<{_NAME_WIDTH}}" + "".join(f"{value:>{_VALUE_WIDTH}}" for value in row)
        for text, row in zip(left, rows, strict=True)
    ]


def _metric_lines(numbers: dict[str, Any], names: dict[Arm, str]) -> list[str]:
    titles = [
        METRICS[metric].label
        + ("" if METRICS[metric].unit == "1" else f" ({METRICS[metric].unit})")
        for metric in MAIN_METRICS
    ]
    lines = [*_block("", titles), "-" * WIDTH]
    for arm in numbers["arms"]:
        rows = [arm["metrics"].get(metric) for metric in MAIN_METRICS]
        lines += _block(
            names[arm["model"], arm["loss"]],
            ["-" if row is None else number(row["mean"]) for row in rows],
            ["" if row is None else _interval(row) for row in rows],
        )
    margins = [arm["dice_over_baseline"] for arm in numbers["arms"]]
    lines += ["-" * WIDTH, *_block(_BASELINE_NAME, [number(numbers["baseline"]["dice"])])]
    if all(margin is not None for margin in margins):
        text = ", ".join(
            f"{names[arm['model'], arm['loss']]} {arm['dice_over_baseline']:+.3f}"
            for arm in numbers["arms"]
        )
        lines += ["", *textwrap.wrap(f"Dice over that threshold: {text}", WIDTH)]
    return lines


def _status_lines(numbers: dict[str, Any], names: dict[Arm, str]) -> list[str]:
    """How many predictions were empty or had an empty reference; they are in the means."""
    failed = [
        f"{names[arm['model'], arm['loss']]} {arm['n_not_ok']} of {arm['n_predictions']}"
        for arm in numbers["arms"]
        if arm["n_not_ok"]
    ]
    if not failed:
        total = sum(arm["n_predictions"] for arm in numbers["arms"])
        return [f"Status ok: all {_count(total, 'prediction')}."]
    text = f"Status not ok (empty masks; counted in the means): {', '.join(failed)} predictions."
    return textwrap.wrap(text, WIDTH)


def _comparison_lines(numbers: dict[str, Any], names: dict[Arm, str]) -> list[str]:
    metric = numbers["primary_metric"]
    rows = [row for row in numbers["comparison"] if row["metric"] == metric]
    if not rows:
        return []
    definition = METRICS[metric]
    unit = "" if definition.unit == "1" else f" ({definition.unit})"
    author = CORRECTIONS[numbers["plan"]["correction"]]
    title = f"Paired differences in {definition.label}{unit}, p corrected after {author}:"
    lines = ["", *textwrap.wrap(title, WIDTH), ""]
    for row in rows:
        a, b = (names[row[f"model_{side}"], row[f"loss_{side}"]] for side in "ab")
        left = textwrap.wrap(f"{a} minus {b}", 57)
        sign = "+" if row["difference"] > 0 else ""
        right = f"{sign}{number(row['difference'])} {_interval(row)}"
        lines.append(f"  {left[0]:<58}{right:<25} p {p_number(row['p_adjusted'])}")
        lines += [f"    {text}" for text in left[1:]]
    return lines


def seed_lines(spread: Sequence[Mapping[str, Any]], names: dict[Arm, str]) -> list[str]:
    """How much the seed decides, a block for each arm that was trained with several."""
    rows = {(row["model"], row["loss"], row["metric"]): row for row in spread if row["n_seeds"] > 1}
    arms = [arm for arm in names if any((*arm, metric) in rows for metric in MAIN_METRICS)]
    if not arms:
        return []
    n = next(iter(rows.values()))["n_seeds"]
    title = (
        f"Between {n} seeds: standard deviation of the mean over cases, below it the part of the "
        "variance of a case's value that the seed decides (the intervals above are of cases alone):"
    )
    lines = [
        "",
        *textwrap.wrap(title, WIDTH),
        "",
        *_block("", [METRICS[m].label for m in MAIN_METRICS]),
    ]
    for arm in arms:
        own = [rows.get((*arm, metric)) for metric in MAIN_METRICS]
        sds = ["-" if row is None else f"{row['sd_mean']:.2g}" for row in own]
        parts = [None if row is None else row["seed_part"] for row in own]
        lines += _block(names[arm], sds, ["" if part is None else f"{part:.0%}" for part in parts])
    return lines
