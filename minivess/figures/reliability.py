"""Reliability diagrams: how often voxels of about one probability are vessel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from minivess.figures import style
from minivess.statistics.compare import arms_of
from minivess.statistics.resampling import design_of, mean_interval
from minivess.statistics.summary import arm_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs

LABELS = {
    "none": "not calibrated",
    "temperature": "temperature",
    "local_temperature": "local temperature",
    "isotonic": "isotonic",
}
_SIDE_MM = 16.0
_MORE_MM = 14.0


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """A row of panels per arm, a column per calibrator; a thin line per case, means in front."""
    table = inputs.tables["reliability"]
    present = arms_of(table)
    arms = [arm for arm in (inputs.arms or present) if arm in present]
    names, styles = arm_names(arms), style.arm_styles(arms, config.colors)
    calibrators = [name for name in LABELS if name in set(table["calibrator"])]
    panel_mm = min(50.0, (config.width_mm - _SIDE_MM) / len(calibrators))
    width_mm = min(config.width_mm, panel_mm * len(calibrators) + _SIDE_MM)
    with style.styled():
        figure = style.new_figure(width_mm, len(arms) * max(panel_mm, 30.0) + _MORE_MM)
        grid = figure.subplots(len(arms), len(calibrators), sharex=True, sharey=True, squeeze=False)
        for row, arm in zip(grid, arms, strict=True):
            for axes, name in zip(row, calibrators, strict=True):
                own = table.filter(model=arm[0], loss=arm[1], calibrator=name)
                _draw_lines(axes, own, styles[arm])
                _draw_means(axes, own, inputs, f"{arm[0]}/{arm[1]}/{name}")
            label = style.wrapped(names[arm], max(panel_mm, 30.0) - 8)
            row[0].set_ylabel(f"{label}\nvessel voxels")
        for axes, name in zip(grid[0], calibrators, strict=True):
            axes.set_title(style.wrapped(LABELS[name], panel_mm))
        figure.supxlabel("predicted probability", fontsize=style.FONT_SIZE)
    return figure


def _by_case(own: pl.DataFrame) -> pl.DataFrame:
    """Means over seeds of each case and bin; bins without a voxel are left out."""
    return (
        own.filter(pl.col("n_voxels") > 0)
        .group_by("case", "bin")
        .agg(pl.col("probability").mean(), pl.col("observed").mean())
        .sort("case", "bin")
    )


def _draw_lines(axes: Axes, own: pl.DataFrame, look: style.ArmStyle) -> None:
    """The diagonal and a line for each case."""
    axes.plot([0, 1], [0, 1], color=style.GREY, linestyle="--", linewidth=0.7)
    for case in _by_case(own).partition_by("case", maintain_order=True):
        axes.plot(case["probability"], case["observed"], color=look.color, linewidth=0.5, alpha=0.4)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def _draw_means(axes: Axes, own: pl.DataFrame, inputs: FigureInputs, name: str) -> None:
    """The mean over the cases of each bin with its interval, by the plan's resampling."""
    design = design_of(own, inputs.groups, inputs.statistics.plan.resampling)
    for part in _by_case(own).sort("bin", "case").partition_by("bin", maintain_order=True):
        by_case: Mapping[str, float] = dict(part.select("case", "observed").iter_rows())
        middle = float(part["probability"].mean())  # type: ignore[arg-type]
        mean = sum(by_case.values()) / len(by_case)
        place = (name, str(part["bin"][0]))
        low, high, _ = mean_interval(
            design.sample(by_case), inputs.statistics, "reliability", *place
        )
        if low is not None and high is not None:
            axes.plot([middle, middle], [low, high], color="black", linewidth=0.9)
        axes.plot([middle], [mean], color="black", marker="D", markersize=2.5, linestyle="none")
