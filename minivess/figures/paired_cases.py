"""The primary metric of each case in every arm, the values of a case joined by a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from minivess.figures import style
from minivess.statistics.compare import arms_of, case_values
from minivess.statistics.summary import arm_names, number, p_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs
    from minivess.statistics.compare import Arm, CaseValues

_HEIGHT_MM = 80.0
_ARM_MM = 48.0
_FRAME_MM = 20.0
_MEAN_OFFSET = 0.12


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """One column per arm; at most as wide as configured, narrower for few arms."""
    metric = inputs.statistics.primary_metric
    arms = inputs.arms or arms_of(inputs.tables["summary"])
    values = case_values(inputs.tables["cases"])[metric]
    width = min(config.width_mm, max(80.0, _FRAME_MM + _ARM_MM * len(arms)))
    arm_mm = (width - _FRAME_MM) / len(arms)
    names = {arm: style.wrapped(name, arm_mm - 3) for arm, name in arm_names(arms).items()}
    with style.styled():
        figure = style.new_figure(width, _HEIGHT_MM)
        axes = figure.subplots()
        _draw_lines(axes, arms, values)
        _draw_points(axes, arms, values, style.arm_styles(arms, config.colors))
        _draw_means(axes, arms, inputs.tables["summary"], metric)
        axes.set_xticks(range(len(arms)), [names[arm] for arm in arms])
        axes.set_xlim(-0.5, len(arms) - 0.5)
        axes.set_ylabel(style.axis_label(metric))
        axes.grid(visible=False, axis="x")
        axes.set_title(
            _title(inputs.tables["comparison"], metric, arms, width), loc="left", weight="normal"
        )
        figure.legend(
            handles=[style.mean_handle(inputs.statistics.confidence)], loc="outside lower center"
        )
    return figure


def _draw_lines(axes: Axes, arms: tuple[Arm, ...], values: dict[Arm, CaseValues]) -> None:
    cases = sorted({case for arm in arms for case in values.get(arm, {})})
    faint = 0.6 if len(cases) <= 20 else 0.35
    for case in cases:
        has = [index for index, arm in enumerate(arms) if case in values.get(arm, {})]
        axes.plot(
            has,
            [values[arms[index]][case] for index in has],
            color=style.GREY,
            linewidth=0.6,
            alpha=faint,
            zorder=1,
        )


def _draw_points(
    axes: Axes,
    arms: tuple[Arm, ...],
    values: dict[Arm, CaseValues],
    styles: dict[Arm, style.ArmStyle],
) -> None:
    for index, arm in enumerate(arms):
        own = values.get(arm, {})
        axes.scatter(
            [index] * len(own),
            list(own.values()),
            s=14,
            marker=styles[arm].marker,
            color=styles[arm].color,
            alpha=0.75,
            linewidths=0,
            zorder=2,
        )


def _draw_means(axes: Axes, arms: tuple[Arm, ...], summary: pl.DataFrame, metric: str) -> None:
    """Mean and interval beside the points; at the outer side of the first and last column."""
    for row in summary.filter(pl.col("metric") == metric).iter_rows(named=True):
        if (row["model"], row["loss"]) not in arms:
            continue
        index = arms.index((row["model"], row["loss"]))
        x = index + (-_MEAN_OFFSET if index == 0 else _MEAN_OFFSET)
        if row["ci_low"] is not None:
            axes.plot([x, x], [row["ci_low"], row["ci_high"]], color="black", linewidth=1.2)
        axes.plot([x], [row["mean"]], "D", color="black", markersize=4, zorder=3)


def _title(comparison: pl.DataFrame, metric: str, arms: tuple[Arm, ...], width_mm: float) -> str:
    """With two arms the difference and its p-value; with more they are in the table."""
    rows = [
        row
        for row in comparison.filter(pl.col("metric") == metric).to_dicts()
        if {(row[f"model_{side}"], row[f"loss_{side}"]) for side in "ab"} <= {*arms}
    ]
    if len(arms) != 2 or len(rows) != 1:
        return ""
    row = rows[0]
    names = arm_names(arms)
    a, b = (names[row[f"model_{side}"], row[f"loss_{side}"]] for side in "ab")
    interval = ""
    if row["ci_low"] is not None:
        interval = f" [{number(row['ci_low'])}, {number(row['ci_high'])}]"
    p = p_number(row["p_adjusted"])
    p_text = f"p {p}" if p.startswith("<") else f"p = {p}"
    return (
        style.wrapped(f"{a} minus {b}:", width_mm - 15)
        + f"\n{row['difference']:+.3g}{interval}, {p_text}"
    )
