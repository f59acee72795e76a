"""The main metrics of every arm: all cases, mean and interval, and the baseline."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import polars as pl

from minivess import seeding
from minivess.figures import style
from minivess.metrics import METRICS
from minivess.statistics.compare import arms_of, case_values
from minivess.statistics.summary import MAIN_METRICS, arm_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs
    from minivess.statistics.compare import Arm, CaseValues

_JITTER = 0.17
_MEAN_OFFSET = 0.32
_ROW_MM = 11.0
_FRAME_MM = 30.0
_NAME_MM = 34.0
_OUTLIER = 15.0


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """One panel per main metric, one row per arm, names once at the left."""
    arms = inputs.arms or arms_of(inputs.tables["summary"])
    names = {arm: style.wrapped(name, _NAME_MM) for arm, name in arm_names(arms).items()}
    styles = style.arm_styles(arms, config.colors)
    values = case_values(inputs.tables["cases"])
    metrics = [metric for metric in MAIN_METRICS if metric in values]
    lines = max(name.count("\n") + 1 for name in names.values())
    height = _FRAME_MM + len(arms) * max(_ROW_MM, 3.6 * lines)
    with style.styled():
        figure = style.new_figure(config.width_mm, height)
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for metric, axes in zip(metrics, panels, strict=True):
            for row, arm in enumerate(arms):
                _draw_cases(axes, row, values[metric].get(arm, {}), styles[arm], (metric, *arm))
                _draw_mean(axes, row, _summary_row(inputs.tables["summary"], arm, metric))
            _scale(axes, metric, [v for own in values[metric].values() for v in own.values()])
            if metric == "dice":
                baseline = _baseline_mean(inputs)
                axes.axvline(baseline, color="black", linestyle="--", linewidth=0.9, zorder=1)
        panels[0].set_yticks(range(len(arms)), [names[arm] for arm in arms])
        panels[0].set_ylim(len(arms) - 0.4, -0.6)
        _legend(figure, inputs.statistics.confidence)
    return figure


def _scale(axes: Axes, metric: str, values: list[float]) -> None:
    """Title, ticks and direction; a log scale for distances where outliers squeeze the rest.

    The value for an empty prediction is the diagonal of the volume, so one such case is enough.
    """
    from matplotlib.ticker import NullLocator

    arrow = style.direction(metric, vertical=False)
    axes.margins(x=0.08)
    if METRICS[metric].unit == "um" and max(values) > _OUTLIER * statistics.median(values) > 0:
        ticks = [0, *(10**power for power in range(5))]
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(0, 1.5 * max(values))
        arrow += " (log)"
    else:
        axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(arrow)
    axes.set_title(style.metric_label(metric))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _baseline_mean(inputs: FigureInputs) -> float:
    """Mean Dice of the baseline over the cases that were evaluated."""
    evaluated = inputs.tables["cases"]["case"].unique().to_list()
    baseline = inputs.tables["baseline"].filter(pl.col("case").is_in(evaluated))
    return statistics.fmean(baseline["dice"].to_list())


def _summary_row(summary: pl.DataFrame, arm: Arm, metric: str) -> dict[str, Any] | None:
    rows = summary.filter(
        (pl.col("model") == arm[0]) & (pl.col("loss") == arm[1]) & (pl.col("metric") == metric)
    ).to_dicts()
    return rows[0] if rows else None


def _draw_cases(
    axes: Axes, row: int, cases: CaseValues, look: style.ArmStyle, key: tuple[str, ...]
) -> None:
    jitter = seeding.generator(0, "figure-jitter", *key).uniform(-_JITTER, _JITTER, len(cases))
    axes.scatter(
        list(cases.values()),
        row + jitter - 0.1,
        s=9,
        marker=look.marker,
        color=look.color,
        alpha=0.55,
        linewidths=0,
        zorder=2,
    )


def _draw_mean(axes: Axes, row: int, numbers: dict[str, Any] | None) -> None:
    if numbers is None:
        return
    mean = numbers["mean"]
    if numbers["ci_low"] is not None:
        axes.plot(
            [numbers["ci_low"], numbers["ci_high"]],
            [row + _MEAN_OFFSET] * 2,
            color="black",
            linewidth=1.2,
            zorder=3,
        )
    axes.plot([mean], [row + _MEAN_OFFSET], "D", color="black", markersize=3.5, zorder=4)


def _legend(figure: Figure, confidence: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.GREY, marker="o", markersize=3, linestyle="", label="case"),
        style.mean_handle(confidence),
        Line2D(
            [],
            [],
            color="black",
            linestyle="--",
            linewidth=0.9,
            label="best single threshold (chosen with the reference)",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
