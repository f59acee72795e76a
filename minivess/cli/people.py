"""Verbs for people: whole experiments, questions about results, publication."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from minivess import paths
from minivess.cli.app import ExperimentOption, SqlArgument, app
from minivess.errors import MinivessError
from minivess.logs import say


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
    """Print the final summary of an experiment, and its results on test and external sets."""
    path = paths.summary_text(paths.experiment_folder(experiment))
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what=f"the experiment {experiment} has no summary yet",
            where=str(path),
            fix=f"run it: just experiment {experiment}",
        )
    print(path.read_text(encoding="utf-8"), end="")
    from minivess.paper_sets import set_results
    from minivess.statistics.summary import MAIN_METRICS
    from minivess.steps.evaluated import result_lines

    for result in set_results(path.parent):
        print("\n" + "\n".join(result_lines(result, MAIN_METRICS)))
        if standing := _standing(path.parent, result):
            print(f"  {standing}")


def _standing(root: Path, result: Mapping[str, Any]) -> str:
    from minivess.paper_sets import superseded

    try:
        why = superseded(root, result)
    except MinivessError as error:
        if error.code != "MV-STATE-002":
            raise
        # It is being run again, say.
        return f"whether it is superseded cannot be told: {error.what} ({error.where})"
    return f"superseded: {why}" if why else ""


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
def ui(
    port: Annotated[int, typer.Option(help="Port of the page.", min=1, max=65535)] = 5000,
) -> None:
    """Open the runs of all experiments in the browser, with MLflow."""
    from minivess.flows.serving import check_free
    from minivess.tracking.address import shown, tracking_uri

    uri = tracking_uri()
    if uri.startswith("http"):
        say(f"the runs are on this server: {shown(uri)}")
        return
    check_free("page of MLflow", f"http://127.0.0.1:{port}")
    options = ["--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    # In place of this process: signals reach it.
    command = [sys.executable, "-m", "mlflow", "ui", *options]
    os.execv(command[0], command)  # noqa: S606


@app.command()
def errors() -> None:
    """List every error code with its exit status."""
    from minivess.errors import CODES, EXIT_STATUS

    for code, meaning in CODES.items():
        print(f"{code:<16} {EXIT_STATUS[code.split('-')[1]]}  {meaning}")
