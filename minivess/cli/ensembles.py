"""The verb that makes ensembles."""

from __future__ import annotations

from minivess import paths
from minivess.cli.app import ExperimentOption, FoldOption, LossOption, ModelOption, app


@app.command()
def ensembles(
    model: ModelOption,
    loss: LossOption,
    fold: FoldOption = 0,
    experiment: ExperimentOption = "demo",
) -> None:
    """Predict and evaluate one fold with the ensembles of one network and loss."""
    from minivess.steps import ensembles as step

    step.ensembles(paths.experiment_folder(experiment), model, loss, fold)
