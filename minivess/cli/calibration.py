"""Verbs about calibrated probabilities and masks with a guarantee."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivess import paths
from minivess.cli.app import (
    ExperimentOption,
    FoldOption,
    LossOption,
    ModelOption,
    SeedOption,
    app,
)
from minivess.logs import say
from minivess.types import RunKey


@app.command()
def calibrate(
    model: ModelOption,
    loss: LossOption,
    seed: SeedOption = 0,
    fold: FoldOption = 0,
    experiment: ExperimentOption = "demo",
) -> None:
    """Fit calibrators of one run on its selection cases; score them on its held-out cases."""
    from minivess.steps import calibrate as step

    step.calibrate(paths.experiment_folder(experiment), RunKey(model, loss, seed, fold))


@app.command()
def coverage(experiment: ExperimentOption = "demo") -> None:
    """Join calibration and conformal results of all runs; how often promises were kept."""
    from minivess.steps import calibrate as step

    step.coverage(paths.experiment_folder(experiment))


@app.command()
def conformal(
    alpha: Annotated[float, typer.Option(help="Risk, between 0 and 1.")],
    experiment: ExperimentOption = "demo",
    output: Annotated[
        Path | None, typer.Option(help="Folder; else conformal/alphaA in the results.")
    ] = None,
) -> None:
    """Write inner and outer masks of all held-out cases, and a table of their coverage.

    Each half of a fold's held-out cases calibrates for the other half.
    """
    from minivess.statistics.coverage import coverage_text
    from minivess.steps import calibrate as step

    table, folder = step.conformal_masks(paths.experiment_folder(experiment), alpha, output)
    print(coverage_text(table))
    say(f"masks in {folder}")
