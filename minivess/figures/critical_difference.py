"""Demsar's diagram of the critical difference: mean ranks of the arms in the primary metric.

Source: Demsar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7,
    section 3.2.2, figure 1.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from minivess.figures import style
from minivess.metrics import METRICS
from minivess.statistics.summary import arm_names, p_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs

_EDGE_MM = 1.0
_GAP_MM = 4.0
_AXIS_MM = 76.0
_NAME_SHARE = 0.27
_LINE_MM = 3.6
_CD_MM = 6.5
_TICKS_MM = 4.5
_BAR_MM = 1.9


@dataclass(frozen=True)
class Scale:
    """From mean ranks to millimetres: rank 1 is at `left`, rank `arms` at `right`."""

    left: float
    right: float
    arms: int

    def x(self, rank: float) -> float:
        """Place of a mean rank, in mm from the left edge."""
        return self.left + (rank - 1) / (self.arms - 1) * (self.right - self.left)


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """Arms under an axis of mean ranks, the better half at the left; narrower for short names."""
    metric = inputs.statistics.primary_metric
    rows = inputs.tables["ranks"].filter(metric=metric).sort("mean_rank", maintain_order=True)
    arms = list(dict.fromkeys([*inputs.arms, *rows.select("model", "loss").rows()]))
    names, looks = arm_names(arms), style.arm_styles(arms, config.colors)
    ranked = rows.to_dicts()
    texts = [f"{names[row['model'], row['loss']]} ({row['mean_rank']:.2f})" for row in ranked]
    longest = max((len(text) for text in texts), default=0)
    name_mm = min(_NAME_SHARE * config.width_mm, (longest + 1) * style.MM_PER_CHARACTER)
    aside = _EDGE_MM + name_mm + _GAP_MM
    width = min(config.width_mm, 2 * aside + _AXIS_MM)
    title = _wrapped(_title(metric, ranked, inputs.statistics.plan.alpha), width)
    top = _EDGE_MM + _LINE_MM * (title.count("\n") + 1) + 0.5
    if not ranked:
        with style.styled():
            figure, axes = _canvas(width, top + _LINE_MM)
            axes.text(_EDGE_MM, _EDGE_MM, title, va="top")
        return figure
    labels = [style.wrapped(text, name_mm) for text in texts]
    bars = joined([row["mean_rank"] for row in ranked], ranked[0]["critical_difference"])
    axis_y = top + _CD_MM + _TICKS_MM
    depths, bottom = _depths(labels, axis_y + _BAR_MM * (len(set(_levels(bars))) + 1))
    with style.styled():
        figure, axes = _canvas(width, bottom + _EDGE_MM)
        scale = Scale(aside, width - aside, len(ranked))
        axes.text(_EDGE_MM, _EDGE_MM, title, va="top")
        _draw_critical_difference(axes, scale, top, ranked[0]["critical_difference"])
        _draw_axis(axes, scale, axis_y)
        for bar, level in zip(bars, _levels(bars), strict=True):
            ends = [scale.x(ranked[end]["mean_rank"]) for end in bar]
            y = axis_y + _BAR_MM * (level + 1)
            line = [ends[0] - 0.7, ends[1] + 0.7]
            axes.plot(
                line, [y, y], color="black", linewidth=2.2, solid_capstyle="butt", gid="joined"
            )
        for place, row in enumerate(ranked):
            look = looks[row["model"], row["loss"]]
            is_left = place < (len(ranked) + 1) // 2
            end = aside - _GAP_MM + 1 if is_left else width - aside + _GAP_MM - 1
            x, y = scale.x(row["mean_rank"]), depths[place]
            axes.plot([x, x, end], [axis_y, y, y], color=look.color, linewidth=1.0, gid="arm")
            axes.plot([x], [axis_y], look.marker, color=look.color, markersize=3.5, zorder=4)
            shift, side = (-1, "right") if is_left else (1, "left")
            axes.text(end + shift, y, labels[place], ha=side, va="center")
    return figure


def joined(mean_ranks: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """First and last arm of each largest group whose mean ranks differ by less than the CD.

    Args:
        mean_ranks: from the best arm to the worst.
        critical_difference: mean ranks that differ by it are apart.

    >>> joined([1.0, 2.0, 2.5, 4.0], 1.6)
    [(0, 2), (2, 3)]
    >>> joined([1.0, 2.0], 1.0)
    []
    """
    groups: list[tuple[int, int]] = []
    for first, rank in enumerate(mean_ranks):
        near = [
            i for i, other in enumerate(mean_ranks) if round(other - rank, 6) < critical_difference
        ]
        if near[-1] > first and (not groups or near[-1] > groups[-1][1]):
            groups.append((first, near[-1]))
    return groups


def _levels(bars: Sequence[tuple[int, int]]) -> list[int]:
    """The line below the axis on which each bar is: the first that is free."""
    ends: list[int] = []
    levels = []
    for first, last in bars:
        free = next((level for level, end in enumerate(ends) if end < first), len(ends))
        ends[free:] = [last, *ends[free + 1 :]]
        levels.append(free)
    return levels


def _depths(labels: Sequence[str], top: float) -> tuple[list[float], float]:
    """Depth of the middle of each name, and of the end of all; outer arms first: no lines cross."""
    heights = [_LINE_MM * (label.count("\n") + 1) + 0.8 for label in labels]
    half = (len(labels) + 1) // 2
    left, right = heights[:half], heights[half:][::-1]
    ends = [list(accumulate(side, initial=top)) for side in (left, right)]
    middles = [
        [end + height / 2 for end, height in zip(own, side, strict=False)]
        for own, side in zip(ends, (left, right), strict=True)
    ]
    return [*middles[0], *reversed(middles[1])], max(own[-1] for own in ends)


def _wrapped(text: str, width: float) -> str:
    return textwrap.fill(text, max(10, int((width - 2 * _EDGE_MM) / style.MM_PER_CHARACTER)))


def _title(metric: str, ranked: Sequence[dict[str, Any]], alpha: float) -> str:
    label = METRICS[metric].label
    if not ranked:
        return (
            f"{label}: no ranks. They need two arms with two cases in common, and a metric with a "
            f"better direction."
        )
    title = f"Mean rank in {label} over {ranked[0]['n_cases']} cases, 1\u00a0is best. "
    p, difference = ranked[0]["friedman_p"], ranked[0]["critical_difference"]
    if p is None:
        few = len(ranked) < 3
        reason = "needs three arms" if few else "is undefined: all arms are equal in every case"
        title += f"Friedman's test {reason}."
    else:
        found = "" if p < alpha else f", not below {alpha:g}: no arms are shown to differ"
        title += f"Friedman's test: p\u00a0{p_number(p)}{found}."
    if difference > len(ranked) - 1:
        title += f" CD\u00a0{difference:.2f} is longer than the axis."
    return title


def _canvas(width_mm: float, height_mm: float) -> tuple[Figure, Axes]:
    """A figure whose coordinates are millimetres from the upper left corner."""
    figure = style.new_figure(width_mm, height_mm)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0), xticks=[], yticks=[])
    axes.set_axis_off()
    return figure, axes


def _draw_critical_difference(axes: Axes, scale: Scale, top: float, difference: float) -> None:
    """The bar as long as the critical difference, where the axis is not shorter."""
    if difference > scale.arms - 1:
        return  # the title says so
    y = top + _CD_MM - 1.5
    ends = [scale.left, scale.x(1 + difference)]
    axes.plot(ends, [y, y], "|-", color="black", linewidth=1.0, markersize=4, gid="cd")
    axes.text(ends[0], y - 0.8, f"CD {difference:.2f}", va="bottom")


def _draw_axis(axes: Axes, scale: Scale, y: float) -> None:
    axes.plot([scale.left, scale.right], [y, y], color="black", linewidth=0.8)
    per_rank = (scale.right - scale.left) / (scale.arms - 1)
    step = max(1, math.ceil(5 / per_rank))
    for rank in range(1, scale.arms + 1):
        is_named = (rank - 1) % step == 0
        length = 1.2 if is_named else 0.7
        axes.plot([scale.x(rank)] * 2, [y - length, y], color="black", linewidth=0.8)
        if is_named:
            size = style.FONT_SIZE - 1
            axes.text(scale.x(rank), y - 1.5, str(rank), ha="center", va="bottom", size=size)
