"""The verb about external sets."""

from __future__ import annotations

from typing import Annotated

import typer

from minivess import paths
from minivess.cli.app import ExperimentOption, app


@app.command()
def external(
    name: Annotated[str, typer.Option(help="Name of the set in the experiment's `external`.")],
    experiment: ExperimentOption = "demo",
) -> None:
    """Evaluate the champion on another data set, and measure how far it is from the own one."""
    from minivess.steps import external as step

    step.evaluate_external(paths.experiment_folder(experiment), name)
