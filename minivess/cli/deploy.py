"""Verbs that export the champions, and the one that segments new volumes with one of them."""

from __future__ import annotations

import typer

from minivess import paths
from minivess.cli.app import ExperimentOption, app

deploy_app = typer.Typer(no_args_is_help=True, help="Champions as ONNX, with a model card.")
app.add_typer(deploy_app, name="deploy")


@deploy_app.command()
def onnx(experiment: ExperimentOption = "demo") -> None:
    """Export the network of each champion to ONNX."""
    from minivess.steps import deploy

    deploy.export(paths.experiment_folder(experiment))


@deploy_app.command()
def parity(experiment: ExperimentOption = "demo") -> None:
    """Compare the exported networks with the trained ones on held-out cases."""
    from minivess.steps import deploy

    deploy.parity(paths.experiment_folder(experiment))


@deploy_app.command()
def bundle(experiment: ExperimentOption = "demo") -> None:
    """Check that comparison, write model card and record, register in MLflow."""
    from minivess.steps import deploy

    deploy.bundle(paths.experiment_folder(experiment))
