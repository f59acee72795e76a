"""Mean of the primary metric for every arm and fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from minivess.figures import style
from minivess.metrics import METRICS
from minivess.statistics.compare import arms_of, case_values
from minivess.statistics.summary import arm_names, number

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs
    from minivess.statistics.compare import Arm

_NAME_MM = 40.0
_BAR_MM = 25.0
_CELL_MM = 22.0
_ROW_MM = 9.0
_FRAME_MM = 22.0


def fold_means(
    cases: pl.DataFrame, metric: str, arms: tuple[Arm, ...]
) -> tuple[list[int], npt.NDArray[np.float64]]:
    """The folds, and the mean over the cases of each fold, shape (arms, folds); NaN: none."""
    own = cases.filter(pl.col("metric") == metric)
    folds = own["fold"].unique().sort().to_list()
    means = np.full((len(arms), len(folds)), np.nan)
    for column, fold in enumerate(folds):
        by_arm = case_values(own.filter(pl.col("fold") == fold)).get(metric, {})
        for row, arm in enumerate(arms):
            if arm in by_arm:
                means[row, column] = np.mean(list(by_arm[arm].values()))
    return folds, means


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """A cell per arm and fold, its mean written in it; light is better."""
    from matplotlib.ticker import MaxNLocator

    metric = inputs.statistics.primary_metric
    arms = inputs.arms or arms_of(inputs.tables["cases"])
    folds, means = fold_means(inputs.tables["cases"], metric, arms)
    names = [style.wrapped(name, _NAME_MM) for name in arm_names(arms).values()]
    lines = max(name.count("\n") + 1 for name in names)
    width = min(config.width_mm, _NAME_MM + _BAR_MM + max(2, len(folds)) * _CELL_MM)
    height = _FRAME_MM + max(2, len(arms)) * max(_ROW_MM, 3.6 * lines)
    cmap = "cividis_r" if METRICS[metric].better == "lower" else "cividis"
    with style.styled():
        figure = style.new_figure(width, height)
        axes = figure.subplots()
        axes.set_facecolor("#dddddd")
        image = axes.imshow(means, cmap=cmap, aspect="auto")
        _annotate(
            axes,
            means,
            np.asarray(image.norm(means), dtype=np.float64),
            reverse=cmap.endswith("_r"),
        )
        axes.set_xticks(range(len(folds)), [str(fold) for fold in folds])
        axes.set_yticks(range(len(arms)), names)
        axes.set_xlabel("fold")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, aspect=12, ticks=MaxNLocator(4))
        axes.set_title(f"mean {style.metric_label(metric)}{_direction(metric)}", loc="left")
    return figure


def _direction(metric: str) -> str:
    better = METRICS[metric].better
    return "" if better == "neither" else f", {better} is better"


def _annotate(
    axes: Axes, means: npt.NDArray[np.float64], level: npt.NDArray[np.float64], reverse: bool
) -> None:
    """Write the means, dark on light cells and light on dark ones."""
    for (row, column), mean in np.ndenumerate(means):
        if np.isnan(mean):
            axes.text(column, row, "no cases", ha="center", va="center", color="black")
            continue
        light = (level[row, column] > 0.5) != reverse
        axes.text(
            column,
            row,
            number(float(mean)),
            ha="center",
            va="center",
            color="black" if light else "white",
        )
