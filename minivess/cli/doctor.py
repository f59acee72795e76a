"""The verb that looks before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivess.cli.app import app

FAILED = 4  # the exit status of SYSTEM errors


@app.command()
def doctor(
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Also forecast this experiment.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="key=value overrides, or a path of data.")
    ] = None,
    cores: Annotated[int, typer.Option(help="Cores for the experiment; 0: all.")] = 0,
) -> None:
    """Check this machine, and forecast memory, time and disk of an experiment. Changes nothing.

    The exit status is 4 where something would fail.
    """
    from minivess import machine
    from minivess.doctor import examine, examine_experiment
    from minivess.doctor_text import findings_text, forecast_text
    from minivess.errors import MinivessError
    from minivess.forecast import forecast

    if arguments and experiment is None:
        raise MinivessError(
            "MV-CONFIG-004",
            what="there is no experiment for these arguments",
            found=" ".join(arguments),
            fix=f"minivess doctor --experiment demo {' '.join(arguments)}",
        )
    here = machine.look()
    findings = examine(here, Path.cwd())
    print(findings_text("This machine", findings))
    if experiment is not None:
        from minivess.flows import snakemake

        plan = snakemake.planned(experiment, arguments or [])
        steps = forecast(plan, cores or max(1, int(here.cores)))
        of_experiment = examine_experiment(plan, steps, here)
        print()
        print(forecast_text(plan.experiment.name, steps))
        print()
        print(findings_text(f"Experiment {plan.experiment.name} on this machine", of_experiment))
        findings += of_experiment
    failing = sum(finding.state == "fail" for finding in findings)
    if failing:
        print(f"\n{failing} of this would fail.")
        raise typer.Exit(FAILED)
    print("\nNothing of this would fail.")
