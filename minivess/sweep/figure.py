"""The figure of a sweep: values over the trials, and against each key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minivess.config.sweep import Choices, Varied
from minivess.figures import style
from minivess.sweep.proposals import Tried, best_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.sweep.space import Sweep
    from minivess.sweep.trial import Trial

WIDTH_MM = 170.0
PANEL_MM = 52.0
COLUMNS = 3
COLOR, BEST_COLOR = "#0072B2", "#D55E00"


def draw(sweep: Sweep, trials: Sequence[Trial]) -> Figure:
    """The first panel has the trials in their order, each other one a key; crosses have failed."""
    keys = list(sweep.search.space)
    n = len(keys) + 1
    rows = -(-n // COLUMNS)
    best = best_of(sweep.search.direction, [Tried(trial.values, trial.value) for trial in trials])
    with style.styled():
        figure = style.new_figure(WIDTH_MM, PANEL_MM * rows)
        panels = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).ravel()
        for axes in panels[n:]:
            axes.set_visible(False)
        _history(panels[0], sweep, trials)
        _points(panels[0], trials, [trial.number for trial in trials], best)
        for axes, key in zip(panels[1:], keys, strict=False):
            varied = sweep.search.space[key]
            _points(axes, trials, [_place(varied, trial.values[key]) for trial in trials], best)
            axes.set_title(style.wrapped(key, WIDTH_MM / COLUMNS - 12))
            _scale(axes, varied)
        for axes in panels[:n:COLUMNS]:
            axes.set_ylabel("selection " + style.axis_label(sweep.metric))
    return figure


def _history(axes: Axes, sweep: Sweep, trials: Sequence[Trial]) -> None:
    better = min if sweep.search.direction == "minimize" else max
    reached: list[float] = []
    numbers: list[int] = []
    for trial in trials:
        if trial.value is not None:
            reached.append(better([*reached[-1:], trial.value]))
            numbers.append(trial.number)
    axes.step(numbers, reached, where="post", color=style.GREY)
    axes.set_title("best so far (line)")
    axes.set_xlabel("trial")
    axes.locator_params(axis="x", integer=True)


def _points(axes: Axes, trials: Sequence[Trial], places: Sequence[float], best: int | None) -> None:
    for trial, place in zip(trials, places, strict=True):
        if trial.value is None:
            # At the foot of the panel, whatever its scale.
            axes.plot(
                [place],
                [0.02],
                "x",
                color=style.GREY,
                markersize=4,
                transform=axes.get_xaxis_transform(),
            )
            continue
        color = BEST_COLOR if trial.number == best else COLOR
        axes.plot([place], [trial.value], "o", color=color, markersize=3.5, linestyle="none")


def choice_text(choice: Any) -> str:
    """A choice in words.

    >>> choice_text(["dice_ce"]), choice_text([16, 16, 8]), choice_text("sgd")
    ('dice_ce', '16, 16, 8', 'sgd')
    """
    return ", ".join(map(str, choice)) if isinstance(choice, list | tuple) else str(choice)


def _place(varied: Varied, value: Any) -> float:
    return float(varied.choices.index(value)) if isinstance(varied, Choices) else float(value)


def _scale(axes: Axes, varied: Varied) -> None:
    if isinstance(varied, Choices):
        width = WIDTH_MM / COLUMNS / (len(varied.choices) + 1)
        names = [style.wrapped(choice_text(choice), width) for choice in varied.choices]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif varied.log:
        axes.set_xscale("log")
