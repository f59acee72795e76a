"""The command `minivess`: one thin verb per step of the DAG, plus verbs for people.

Every step reads its resolved config and its inputs from `results/<experiment>/` and writes its
outputs there, as the rule of the same name in `workflow/rules/` declares them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from minivess import __version__, logs, paths
from minivess.environment import prepare_environment
from minivess.errors import MinivessError
from minivess.logs import say
from minivess.types import RunKey

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reproducible 3D vessel segmentation, from raw volumes to a finished paper.",
)
data_app = typer.Typer(no_args_is_help=True, help="From source volumes to preprocessed cases.")
app.add_typer(data_app, name="data")

ExperimentOption = Annotated[
    str, typer.Option("--experiment", "-e", help="Name of the folder in results/.")
]
CaseOption = Annotated[str, typer.Option(help="Name of the case.")]
ModelOption = Annotated[str, typer.Option(help="Name of the network in the experiment.")]
LossOption = Annotated[str, typer.Option(help="Name of the loss.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the run.")]
FoldOption = Annotated[int, typer.Option(help="Fold, from 0.")]
FigureArgument = Annotated[str, typer.Argument(help="Name of the figure.")]
SqlArgument = Annotated[str, typer.Argument(help="A query over the tables, in quotes.")]
ProgressOption = Annotated[str, typer.Option(help="auto, rich, plain or none.")]


class Terminated(BaseException):
    """SIGTERM reached the process."""


_STATE: dict[str, Path | bool | datetime | None] = {"log": None, "debug": False, "started": None}


def _succeeded(value: object, log: Path | None, debug: bool) -> None:
    """After a verb that went well: a step leaves a record of what it made beside its log."""
    if log is not None:
        from minivess.reproducibility import records

        started = _STATE["started"]
        assert isinstance(started, datetime)
        records.write_record(log, started)


@app.callback(result_callback=_succeeded)
def options(
    log: Annotated[Path | None, typer.Option(help="Also write messages to this file.")] = None,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> None:
    """Options of every verb."""
    _STATE.update(log=log, debug=debug)
    logs.start_logging(log)
    if log is not None:
        from minivess.reproducibility import records

        _STATE["started"] = records.begin(log)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


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
def query(sql: SqlArgument, experiment: ExperimentOption = "demo") -> None:
    """Run SQL over the tables of an experiment and print the result."""
    import polars as pl

    from minivess.tracking import analytics

    table = analytics.query(paths.experiment_folder(experiment), sql)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=60, tbl_hide_dataframe_shape=True):
        print(table)


@app.command()
def summary(experiment: ExperimentOption = "demo") -> None:
    """Print the final summary of a finished experiment."""
    path = paths.summary_text(paths.experiment_folder(experiment))
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what=f"the experiment {experiment} has no summary yet",
            where=str(path),
            fix=f"run it: just experiment {experiment}",
        )
    print(path.read_text(encoding="utf-8"), end="")


@app.command("experiment")
def run_experiment(
    name: Annotated[str, typer.Argument(help="File in configs/experiment/, or a path.")] = "demo",
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="A CSV, folder or ZIP of data; key=value overrides; a rule or file."),
    ] = None,
    cores: Annotated[str, typer.Option(help="CPU cores, or all.")] = "all",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only show the plan.")] = False,
) -> None:
    """Run a whole experiment: the same as `snakemake --cores all --config experiment=NAME`."""
    from minivess.flows import snakemake

    request = snakemake.request(name, arguments or [], cores, dry_run)
    status = snakemake.run(request)
    if status != 0:
        raise typer.Exit(status)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Name of the folder in results/.")] = "demo",
    cores: Annotated[str, typer.Option(help="CPU cores, or all.")] = "all",
) -> None:
    """Run an experiment again from nothing and compare every byte with its results."""
    from minivess.flows.verify import verify as verify_experiment

    status = verify_experiment(name, cores)
    if status != 0:
        raise typer.Exit(status)


@app.command()
def trace(
    path: Annotated[Path, typer.Argument(help="A result, in results/ or in a copy of it.")],
    check: Annotated[bool, typer.Option("--check", help="Compare all digests.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing folded.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every job and file.")] = False,
) -> None:
    """Print what a result was made from and by, back to the raw volumes."""
    from minivess.reproducibility import chain, trace
    from minivess.reproducibility.check import check_chain

    found = chain.chain_of(path)
    print(trace.as_json(found) if as_json else trace.as_text(found, everything))
    for line in check_chain(found) if check else []:
        say(line)


@app.command()
def crate(
    experiment: ExperimentOption = "demo",
    output: Annotated[Path | None, typer.Option(help="File; else results/NAME.crate.zip.")] = None,
    volumes: Annotated[
        bool, typer.Option("--with-volumes/--without-volumes", help="Volumes and predictions too.")
    ] = False,
) -> None:
    """Pack a finished experiment for publication: an RO-Crate with the origin of every file.

    Without volumes it has their digests; preprocessed arrays are never in it.
    """
    from minivess.reproducibility.crate import write_crate

    say(str(write_crate(paths.experiment_folder(experiment), output, volumes)))


@app.command()
def errors() -> None:
    """List every error code with its exit status."""
    from minivess.errors import CODES, EXIT_STATUS

    for code, meaning in CODES.items():
        print(f"{code:<16} {EXIT_STATUS[code.split('-')[1]]}  {meaning}")


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def main() -> None:
    """Run a verb; end with the exit status of its error."""
    prepare_environment()
    signal.signal(signal.SIGTERM, _on_sigterm)
    status = _run()
    if "torch" in sys.modules:
        # Taking torch's modules apart takes a second; everything is written and closed by now.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _run() -> int:
    try:
        app(prog_name="minivess")
    except SystemExit as end:  # Typer ends every verb so
        return end.code if isinstance(end.code, int) else 0
    except MinivessError as error:
        return _failed(error)
    except Terminated:
        say("stopped; the same command goes on from here")
        return 143
    except Exception as error:
        return _failed(_internal(error))
    return 0


def _internal(error: Exception) -> MinivessError:
    wrapped = MinivessError(
        "MV-INTERNAL-001",
        what="MiniVess met something it was not written for",
        where=f"minivess {' '.join(sys.argv[1:])}",
        found=f"{type(error).__name__}: {error}",
        fix="please report this with the log or traceback",
    )
    wrapped.__cause__ = error
    return wrapped


def _failed(error: MinivessError) -> int:
    log, debug = _STATE["log"], bool(_STATE["debug"])
    logs.report_error(error, log if isinstance(log, Path) else None, debug)
    return error.exit_status
