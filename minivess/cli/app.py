"""The Typer application, the options that verbs share, and what happens around every verb."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from minivess import __version__, logs

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
LossOption = Annotated[
    str,
    typer.Option(
        help="Name of the loss; module:Name for one of your own.",
        callback=lambda name: name.replace(":", "."),
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the run.")]
FoldOption = Annotated[int, typer.Option(help="Fold, from 0.")]
FigureArgument = Annotated[str, typer.Argument(help="Name of the figure.")]
SqlArgument = Annotated[str, typer.Argument(help="A query over the tables, in quotes.")]
ProgressOption = Annotated[str, typer.Option(help="auto, rich, plain or none.")]

# Of the running verb: its log file, whether tracebacks are shown, when it began.
STATE: dict[str, Path | bool | datetime | None] = {"log": None, "debug": False, "started": None}


def _succeeded(value: object, log: Path | None, debug: bool) -> None:
    """After a verb that went well: a step leaves a record of what it made beside its log."""
    if log is not None:
        from minivess.reproducibility import records

        started = STATE["started"]
        assert isinstance(started, datetime)
        records.write_record(log, started)


@app.callback(result_callback=_succeeded)
def options(
    log: Annotated[Path | None, typer.Option(help="Also write messages to this file.")] = None,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> None:
    """Options of every verb."""
    STATE.update(log=log, debug=debug)
    logs.start_logging(log)
    if log is not None:
        from minivess.reproducibility import records

        STATE["started"] = records.begin(log)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)
