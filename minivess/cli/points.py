"""The verb that segments from points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivess import paths
from minivess.cli.app import CaseOption, ExperimentOption, ModelOption, app


@app.command("points")
def from_points(
    model: ModelOption,
    case: CaseOption,
    points: Annotated[Path, typer.Option(help="CSV with the columns x,y,z (voxels) and inside.")],
    output: Annotated[Path, typer.Option(help="NIfTI file for the mask.")],
    experiment: ExperimentOption = "demo",
) -> None:
    """Segment a case from points, by vista3d with its published weights."""
    from minivess.steps import points as step

    step.segment_points(paths.experiment_folder(experiment), model, case, points, output)
