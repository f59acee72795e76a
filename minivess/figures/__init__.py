"""The registry of figures: name, caption, tables it reads, function that draws it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from minivess.errors import MinivessError, nearest

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig, StatisticsConfig
    from minivess.figures.qualitative import QualitativeCase


@dataclass(frozen=True)
class FigureInputs:
    """What figures are drawn from.

    `tables` holds at least the tables that the figure's definition names; `arms` is the order of
    the (model, loss) pairs, sorted where it is empty; `qualitative` is only for that figure;
    `groups` has the group of each case, None where each is alone.
    """

    tables: Mapping[str, pl.DataFrame]
    statistics: StatisticsConfig
    arms: tuple[tuple[str, str], ...] = ()
    qualitative: tuple[QualitativeCase, ...] = ()
    groups: Mapping[str, str] | None = None


type Draw = Callable[[FigureInputs, FigureConfig], Figure]


@dataclass(frozen=True)
class FigureDefinition:
    """One figure; `draw` is the module:function that draws it, imported when it is needed."""

    name: str
    caption: str
    tables: tuple[str, ...]
    draw: str


FIGURES: dict[str, FigureDefinition] = {
    definition.name: definition
    for definition in (
        FigureDefinition(
            "loss_comparison",
            "Metrics of each arm (network and loss). Each point is a case (mean over seeds); the "
            "large marker is the mean over cases and the bar its bootstrap interval. The "
            "dashed line is the mean Dice of the best single intensity threshold of each case, "
            "chosen with the reference in hand. Distances are on a log scale (linear below 1 µm) "
            "where outliers would squeeze the rest.",
            ("cases", "summary", "baseline"),
            "minivess.figures.loss_comparison:draw",
        ),
        FigureDefinition(
            "paired_cases",
            "The primary metric of each case in every trained arm; a line joins the values of one "
            "case. "
            "Black: mean over cases with its bootstrap interval.",
            ("cases", "summary", "comparison"),
            "minivess.figures.paired_cases:draw",
        ),
        FigureDefinition(
            "forest",
            "Paired differences (first arm minus second) in the metrics of the analysis file: mean "
            "over cases and its bootstrap interval. Grey: differences that mean nothing in "
            "practice (ROPE), where the analysis file names one.",
            ("summary", "comparison"),
            "minivess.figures.forest:draw",
        ),
        FigureDefinition(
            "critical_difference",
            "Mean ranks of the arms in the primary metric over the cases that all have; 1 is best. "
            "A black bar joins arms whose mean ranks differ by less than Nemenyi's critical "
            "difference (CD). It takes cases as independent, and counts only where Friedman's test "
            "finds that arms differ.",
            ("ranks",),
            "minivess.figures.critical_difference:draw",
        ),
        FigureDefinition(
            "fold_heatmap",
            "Mean of the primary metric over the cases of each fold (values of several seeds are "
            "averaged per case first).",
            ("cases",),
            "minivess.figures.fold_heatmap:draw",
        ),
        FigureDefinition(
            "training_curves",
            "Training loss and, where cases were kept for selection, their Dice. Thin: one run "
            "(fold and seed); thick: mean over the runs. The values of different losses are not "
            "comparable.",
            ("history",),
            "minivess.figures.training_curves:draw",
        ),
        FigureDefinition(
            "qualitative",
            "Best, median and worst case by the primary metric of the first arm: the slice with "
            "the most reference voxels, the reference, the predictions and their errors. Numbers "
            "are of the whole volume.",
            ("cases",),
            "minivess.figures.qualitative:draw",
        ),
        FigureDefinition(
            "reliability",
            "Reliability of the vessel probability on held-out cases, as the network gives it and "
            "by each calibrator: part of the voxels in a bin of the probability that are vessel. "
            "Thin: one case (mean over seeds); black: mean over cases with its bootstrap interval. "
            "On the dashed line probabilities are right.",
            ("reliability",),
            "minivess.figures.reliability:draw",
        ),
    )
}


def figure_definition(name: str) -> FigureDefinition:
    """The definition of a figure.

    Raises:
        MinivessError: MV-CONFIG-003 where there is no such figure; it names the nearest.

    >>> figure_definition("paired_cases").tables
    ('cases', 'summary', 'comparison')
    """
    if name in FIGURES:
        return FIGURES[name]
    raise MinivessError(
        "MV-CONFIG-003",
        what=f"there is no figure called {name}",
        found=name,
        expected="one of " + ", ".join(sorted(FIGURES)),
        fix=nearest(name, FIGURES),
    )


def draw_figure(name: str, inputs: FigureInputs, config: FigureConfig) -> Figure:
    """Draw a figure by name.

    Raises:
        MinivessError: MV-CONFIG-003 no such figure, MV-STATE-002 a table it needs is not given.
    """
    definition = figure_definition(name)
    missing = [table for table in definition.tables if table not in inputs.tables]
    if missing:
        raise MinivessError(
            "MV-STATE-002",
            what=f"the figure {name} needs tables that are not there: {', '.join(missing)}",
            fix="make the tables first",
        )
    module, _, function = definition.draw.partition(":")
    return cast("Draw", getattr(importlib.import_module(module), function))(inputs, config)


def make_figure(
    name: str, inputs: FigureInputs, config: FigureConfig, base: Path, sources: list[Path]
) -> None:
    """Draw a figure and write `base`.svg, .pdf, .png and .json; see `style.save`."""
    from minivess.figures import style

    style.save(draw_figure(name, inputs, config), base, sources)
