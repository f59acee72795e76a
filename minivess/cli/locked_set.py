"""Verbs about the locked test set and the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivess import paths
from minivess.cli.app import ExperimentOption, app
from minivess.errors import MinivessError

audit_app = typer.Typer(no_args_is_help=True, help="The log of who unlocked the test set, and why.")
app.add_typer(audit_app, name="audit")


@app.command()
def unlock_test(
    reason: Annotated[str, typer.Option(help="Why now, in a sentence.")],
    who: Annotated[str, typer.Option(help="Your name.")],
    experiment: ExperimentOption = "demo",
) -> None:
    """Allow one evaluation of the champion on the test cases; the audit log keeps it."""
    from minivess.steps import locked_set

    locked_set.unlock_test(paths.experiment_folder(experiment), who, reason)


@app.command("test-evaluate")
def evaluate_test(experiment: ExperimentOption = "demo") -> None:
    """Evaluate the champion on the unlocked test cases, once; print the result."""
    from minivess.steps import evaluated, locked_set

    result = locked_set.evaluate_test(paths.experiment_folder(experiment))
    print("\n".join(evaluated.result_lines(result)))


@audit_app.command()
def verify(experiment: ExperimentOption = "demo") -> None:
    """Check that no line of the audit log was changed, removed, moved or cut off."""
    from minivess import audit

    lines = audit.verify(paths.audit_folder(_results(experiment)))
    head = lines[-1].digest if lines else audit.FIRST
    print(f"{len(lines)} lines, none changed; head {head}")


@audit_app.command()
def show(experiment: ExperimentOption = "demo") -> None:
    """Print the audit log: when, who, what, why."""
    from minivess import audit

    for line in audit.verify(paths.audit_folder(_results(experiment))):
        print(f"{line.number} {line.time} {line.event} by {line.who}: {line.reason}")
        analysis = str(line.facts.get("analysis", ""))
        print(f"  analysis {analysis[:16]}, cases {', '.join(line.facts.get('cases', []))}")


def _results(experiment: str) -> Path:
    """The folder of results, which has to be there: no log of a misspelt name is a sound one."""
    folder = paths.experiment_folder(experiment)
    if not folder.is_dir():
        raise MinivessError(
            "MV-STATE-002",
            what="there are no results of that name",
            where=str(folder),
            fix="check the name: it is that of a folder in results/",
        )
    return folder
