"""The verb that searches better config keys for the trainings of an experiment."""

from __future__ import annotations

from typing import Annotated

import typer

from minivess.cli.app import app


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(help="File in configs/sweep/, or a path.")] = "demo",
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="For every trial: key=value overrides; a CSV, folder or ZIP of data."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many; else what the file says.")
    ] = None,
    cores: Annotated[str, typer.Option(help="CPU cores, or all.")] = "all",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show space and first proposals.")
    ] = False,
) -> None:
    """Train an experiment with other config keys, trial after trial, and keep the best.

    Trials are judged by their selection cases; held-out cases are never predicted.
    """
    from minivess.sweep.run import describe, run_sweep

    if dry_run:
        print(describe(name, arguments or [], trials))
        return
    status = run_sweep(name, arguments or [], trials, cores)
    if status != 0:
        raise typer.Exit(status)
