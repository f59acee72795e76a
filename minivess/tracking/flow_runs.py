"""Flows in MLflow: what each one did is a run of `<experiment>.flows`, which the next one reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minivess.errors import MinivessError
from minivess.tracking.address import shown
from minivess.tracking.export import current_runs
from minivess.tracking.store import connection, exclusive, prepare_locked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from minivess.types import RunKey

FLOW_TAG = "minivess.flow"
DIGEST_TAG = "minivess.config_digest"
MOST_NAMED = 12


@dataclass(frozen=True)
class FlowRecord:
    """The MLflow run of a flow that is under way."""

    uri: str
    run_id: str


def store_name(experiment: str) -> str:
    """Name of the MLflow experiment that has the flows of an experiment.

    >>> store_name("demo")
    'demo.flows'
    """
    return f"{experiment}.flows"


def begin_flow(uri: str, experiment: str, flow: str, digest: str) -> FlowRecord:
    """Record that a flow has begun.

    Earlier runs of it that never ended, because they were killed, are ended as KILLED.

    Args:
        uri: see `mlflow_log.tracking_uri`.
        experiment: name of the experiment.
        flow: name of the flow.
        digest: of all of the config that the flow's results depend on.

    Raises:
        MinivessError: MV-TRACK-001 the store cannot be reached or is locked.
    """
    with exclusive(uri):
        experiment_id = prepare_locked(uri, store_name(experiment))
        with connection(uri) as client:
            for run in _runs(client, experiment, flow):
                if run.info.status == "RUNNING":
                    client.set_terminated(run.info.run_id, status="KILLED")
            tags = {FLOW_TAG: flow, DIGEST_TAG: digest}
            made = client.create_run(experiment_id, tags=tags, run_name=flow)
    return FlowRecord(uri, made.info.run_id)


def end_flow(record: FlowRecord, status: str, tags: Mapping[str, str]) -> None:
    """Record how a flow ended: FINISHED, FAILED or KILLED, and facts of it.

    Raises:
        MinivessError: MV-TRACK-001 the store cannot be reached or is locked.
    """
    with connection(record.uri) as client:
        for name, text in tags.items():
            client.set_tag(record.run_id, name, text)
        client.set_terminated(record.run_id, status=status)


def check_flow(uri: str, experiment: str, flow: str, digest: str, fix: str) -> None:
    """Refuse to go on unless a flow has finished with this config.

    Args:
        uri: see `mlflow_log.tracking_uri`.
        experiment: name of the experiment.
        flow: name of the flow.
        digest: of its config.
        fix: command that runs the flow.

    Raises:
        MinivessError: MV-FLOW-001 it has not run, was made with another config, or did not finish;
            MV-TRACK-001 the store cannot be reached.
    """
    with exclusive(uri):
        prepare_locked(uri, store_name(experiment))
    with connection(uri, write=False) as client:
        runs = _runs(client, experiment, flow)
    same = [run for run in runs if run.data.tags.get(DIGEST_TAG) == digest]
    if same and same[-1].info.status == "FINISHED":
        return
    if same:
        found = f"its last run has the status {same[-1].info.status}"
    elif runs:
        found = "it ran with another configuration only"
    else:
        found = "it has never run"
    raise MinivessError(
        "MV-FLOW-001",
        what=f"the flow {flow} of the experiment {experiment} has not finished",
        where=shown(uri),
        found=found,
        expected=f"a run that is FINISHED, of the configuration {digest[:16]}",
        fix=fix,
    )


def check_runs(uri: str, experiment: str, wanted: Sequence[RunKey], fix: str) -> None:
    """Refuse to go on where MLflow has a training run that did not finish.

    Runs that MLflow lacks are no error: a later step fills them in from the files.

    Args:
        uri: see `mlflow_log.tracking_uri`.
        experiment: name of the experiment.
        wanted: the runs.
        fix: command that trains them.

    Raises:
        MinivessError: MV-FLOW-001 with the names of those runs; MV-TRACK-001 the store cannot be
            reached.
    """
    with connection(uri, write=False) as client:
        current = current_runs(client, experiment)
    bad = [
        f"{run} ({current[run].info.status})"
        for run in wanted
        if run in current and current[run].info.status != "FINISHED"
    ]
    if bad:
        raise MinivessError(
            "MV-FLOW-001",
            what=f"{len(bad)} training runs of the experiment {experiment} have not finished",
            where=shown(uri),
            found=", ".join(bad[:MOST_NAMED]) + (", ..." if len(bad) > MOST_NAMED else ""),
            fix=fix,
        )


def _runs(client: MlflowClient, experiment: str, flow: str) -> list[Run]:
    """Runs of a flow, oldest first."""
    found = client.get_experiment_by_name(store_name(experiment))
    if found is None:
        return []
    runs = client.search_runs([found.experiment_id], f"tags.`{FLOW_TAG}` = '{flow}'")
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
