"""Training loss and Dice of the selection cases over the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from minivess.figures import style
from minivess.statistics.compare import arms_of
from minivess.statistics.summary import arm_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs
    from minivess.statistics.compare import Arm

_PANELS = (
    ("train/loss", "Training patches", "loss, better ↓"),
    ("selection/dice", "Selection cases", "Dice, better ↑"),
)
_PANEL_MM = 62.0
_LEGEND_LINE_MM = 4.0


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """Two panels; a thin line per run, a thick one for the mean over the runs of an arm."""
    history = inputs.tables["history"]
    arms = inputs.arms or arms_of(history)
    names = arm_names(arms)
    styles = style.arm_styles(arms, config.colors)
    column_mm = style.MM_PER_CHARACTER * max(len(name) for name in names.values()) + 16
    columns = min(len(arms), max(1, int(config.width_mm / column_mm)))
    legend_mm = _LEGEND_LINE_MM * -(-len(arms) // columns) + 4
    with style.styled():
        figure = style.new_figure(config.width_mm, _PANEL_MM + legend_mm)
        panels = figure.subplots(1, len(_PANELS))
        for axes, (name, title, label) in zip(panels, _PANELS, strict=True):
            own = history.filter(pl.col("name") == name)
            for arm in arms:
                _draw_arm(axes, own, arm, styles[arm])
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.set_title(title)
            axes.locator_params(axis="x", integer=True)
            if own.is_empty():
                _say_none(axes)
        _legend(figure, arms, names, styles, columns)
    return figure


def _draw_arm(axes: Axes, history: pl.DataFrame, arm: Arm, look: style.ArmStyle) -> None:
    own = history.filter((pl.col("model") == arm[0]) & (pl.col("loss") == arm[1]))
    runs = own.sort("seed", "fold", "epoch").partition_by("seed", "fold", maintain_order=True)
    single = own["epoch"].n_unique() == 1
    for run in runs:
        axes.plot(
            run["epoch"],
            run["value"],
            color=look.color,
            linestyle=look.line,
            linewidth=0.5,
            alpha=0.5,
            marker="." if single else None,
        )
    mean = own.sort("epoch", "seed", "fold").group_by("epoch", maintain_order=True)
    values = mean.agg(pl.col("value").mean())
    axes.plot(
        values["epoch"],
        values["value"],
        color=look.color,
        linestyle=look.line,
        linewidth=1.6,
        marker=look.marker if single else None,
        markersize=4,
    )


def _say_none(axes: Axes) -> None:
    """In place of curves where no case was kept for selection."""
    axes.set(xticks=[], yticks=[])
    axes.text(
        0.5,
        0.5,
        "none: the last epoch predicts",
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=style.FONT_SIZE,
    )


def _legend(
    figure: Figure,
    arms: tuple[Arm, ...],
    names: dict[Arm, str],
    styles: dict[Arm, style.ArmStyle],
    columns: int,
) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=styles[arm].color,
            linestyle=styles[arm].line,
            linewidth=1.6,
            label=names[arm],
        )
        for arm in arms
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
