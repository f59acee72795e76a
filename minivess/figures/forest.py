"""Paired differences of the comparisons with their intervals, one panel per metric of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from minivess.figures import style
from minivess.statistics.compare import arms_of
from minivess.statistics.summary import arm_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs

_NAME_MM = 46.0
_LINE_MM = 3.6
_GAP_MM = 3.0
_FRAME_MM = 26.0


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """One row per comparison, names once at the left; the band is the ROPE."""
    table = inputs.tables["comparison"]
    # Ensembles are compared too, and are no arms of the configuration.
    names = arm_names(list(dict.fromkeys([*inputs.arms, *arms_of(inputs.tables["summary"])])))
    keys = ["model_a", "loss_a", "model_b", "loss_b"]
    pairs = table.select(keys).unique(maintain_order=True).rows()
    labels = [
        f"{style.wrapped(names[a, b], _NAME_MM)}\nminus {style.wrapped(names[c, d], _NAME_MM)}"
        for a, b, c, d in pairs
    ] or ["one arm: nothing\nto compare"]
    metrics = inputs.statistics.plan.metrics
    lines = max(label.count("\n") + 1 for label in labels)
    with style.styled():
        height = _FRAME_MM + len(labels) * (_GAP_MM + _LINE_MM * lines)
        figure = style.new_figure(config.width_mm, height)
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for metric, axes in zip(metrics, panels, strict=True):
            for row in table.filter(pl.col("metric") == metric).iter_rows(named=True):
                place = pairs.index(tuple(row[key] for key in keys))
                _draw_row(axes, place, row, config.colors[place % len(config.colors)])
            _frame(axes, metric)
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.4, -0.6)
    return figure


def _draw_row(axes: Axes, place: int, row: dict[str, Any], color: str) -> None:
    if row["rope"] is not None:
        axes.axvspan(-row["rope"], row["rope"], color="#e3e3e3", linewidth=0, zorder=0)
    if row["ci_low"] is not None:
        ends = [row["ci_low"], row["ci_high"]]
        axes.plot(ends, [place] * 2, color=color, linewidth=1.4, zorder=2)
    axes.plot([row["difference"]], [place], "s", color=color, markersize=4, zorder=3)


def _frame(axes: Axes, metric: str) -> None:
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_title(style.metric_label(metric))
    axes.set_xlabel(style.direction(metric, vertical=False))
    axes.locator_params(axis="x", nbins=3)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
