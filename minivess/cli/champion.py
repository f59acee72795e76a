"""Verbs about the champions of an experiment."""

from __future__ import annotations

import typer

from minivess import paths
from minivess.cli.app import ExperimentOption, app

champion_app = typer.Typer(no_args_is_help=True, help="The best arms, by documented rules.")
app.add_typer(champion_app, name="champion")


@champion_app.command()
def choose(experiment: ExperimentOption = "demo") -> None:
    """Choose the champions from the tables; give them their aliases in MLflow."""
    from minivess.steps import champion

    champion.champion(paths.experiment_folder(experiment))


@champion_app.command()
def explain(experiment: ExperimentOption = "demo") -> None:
    """Say why each champion won, and by how much."""
    from minivess.steps import champion

    print(champion.explained(paths.experiment_folder(experiment)))
