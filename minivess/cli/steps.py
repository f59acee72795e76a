"""Verbs of the DAG: each is the rule of the same name."""

from __future__ import annotations

from minivess import paths
from minivess.cli.app import (
    CaseOption,
    ExperimentOption,
    FigureArgument,
    FoldOption,
    LossOption,
    ModelOption,
    ProgressOption,
    SeedOption,
    app,
    data_app,
)
from minivess.types import RunKey


@data_app.command("phantom")
def data_phantom(experiment: ExperimentOption = "demo") -> None:
    """Make the synthetic volumes."""
    from minivess.steps import data

    data.phantom(paths.experiment_folder(experiment))


@data_app.command("unpack")
def data_unpack(experiment: ExperimentOption) -> None:
    """Unpack the volumes of a ZIP source."""
    from minivess.steps import data

    data.unpack(paths.experiment_folder(experiment))


@data_app.command("manifest")
def data_manifest(experiment: ExperimentOption = "demo") -> None:
    """Read every volume once and make the table of all cases."""
    from minivess.steps import data

    data.manifest(paths.experiment_folder(experiment))


@data_app.command("validate")
def data_validate(experiment: ExperimentOption = "demo") -> None:
    """Find every problem of every case; write the table and the page."""
    from minivess.steps import data

    data.validate_cases(paths.experiment_folder(experiment))


@data_app.command("accept")
def data_accept(experiment: ExperimentOption = "demo") -> None:
    """Stop here if validation found an error."""
    from minivess.steps import data

    data.accept_cases(paths.experiment_folder(experiment))


@data_app.command("preprocess")
def data_preprocess(case: CaseOption, experiment: ExperimentOption = "demo") -> None:
    """Normalise one case and store it for random access."""
    from minivess.steps import data

    data.preprocess(paths.experiment_folder(experiment), case)


@data_app.command("folds")
def data_folds(experiment: ExperimentOption = "demo") -> None:
    """Make the folds, once."""
    from minivess.steps import data

    data.folds(paths.experiment_folder(experiment))


@data_app.command("skeletons")
def data_skeletons(experiment: ExperimentOption = "demo") -> None:
    """Skeletonise the labels for the losses that need it."""
    from minivess.steps import data

    data.skeletons(paths.experiment_folder(experiment))


@app.command()
def train(
    model: ModelOption,
    loss: LossOption,
    seed: SeedOption = 0,
    fold: FoldOption = 0,
    experiment: ExperimentOption = "demo",
    progress: ProgressOption = "auto",
) -> None:
    """Train one run, or go on where it stopped."""
    from minivess.steps import train as step

    run = RunKey(model, loss, seed, fold)
    step.train(paths.experiment_folder(experiment), run, progress)


@app.command()
def predict(
    model: ModelOption,
    loss: LossOption,
    case: CaseOption,
    seed: SeedOption = 0,
    fold: FoldOption = 0,
    experiment: ExperimentOption = "demo",
) -> None:
    """Predict one case with the weights of one run."""
    from minivess.steps import train as step

    step.predict(paths.experiment_folder(experiment), RunKey(model, loss, seed, fold), case)


@app.command()
def evaluate(
    model: ModelOption,
    loss: LossOption,
    case: CaseOption,
    seed: SeedOption = 0,
    fold: FoldOption = 0,
    experiment: ExperimentOption = "demo",
) -> None:
    """Metrics of one predicted case."""
    from minivess.steps import analyze

    analyze.evaluate(paths.experiment_folder(experiment), RunKey(model, loss, seed, fold), case)


@app.command()
def baseline(experiment: ExperimentOption = "demo") -> None:
    """Best single threshold of each case, chosen with the reference in hand."""
    from minivess.steps import analyze

    analyze.baseline(paths.experiment_folder(experiment))


@app.command()
def track(experiment: ExperimentOption = "demo") -> None:
    """Make sure MLflow has everything the files have."""
    from minivess.steps import analyze

    analyze.track(paths.experiment_folder(experiment))


@app.command()
def export(experiment: ExperimentOption = "demo") -> None:
    """Export the tables of an experiment from MLflow to Parquet."""
    from minivess.steps import analyze

    analyze.export(paths.experiment_folder(experiment))


@app.command()
def compare(experiment: ExperimentOption = "demo") -> None:
    """Means, intervals and paired tests over cases."""
    from minivess.steps import analyze

    analyze.compare_arms(paths.experiment_folder(experiment))


@app.command()
def figure(name: FigureArgument, experiment: ExperimentOption = "demo") -> None:
    """Draw one figure as SVG, PDF and PNG."""
    from minivess.steps import report

    report.figure(paths.experiment_folder(experiment), name)


@app.command()
def digests(experiment: ExperimentOption = "demo") -> None:
    """Write SHA256SUMS over every declared output of a finished experiment."""
    from minivess.steps import report

    report.digests(paths.experiment_folder(experiment))


@app.command()
def paper(experiment: ExperimentOption = "demo") -> None:
    """Render the paper of a finished experiment as HTML and PDF (needs Quarto)."""
    from minivess.steps import paper as step

    step.render(paths.experiment_folder(experiment))


@app.command()
def dashboard(experiment: ExperimentOption = "demo") -> None:
    """Render the dashboard of a finished experiment, one HTML page (needs Quarto)."""
    from minivess.steps import paper as step

    step.render_dashboard(paths.experiment_folder(experiment))
