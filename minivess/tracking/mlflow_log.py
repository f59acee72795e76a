"""Logging runs to MLflow while they train. A run is known by what determines it, not by its id.

The identity of a run is its key (model, loss, seed, fold) and its digest. Opening the same identity
again goes on with the same MLflow run; a run of the same key with another digest is tagged
`minivess.superseded` and no longer exported.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import TYPE_CHECKING, Literal

from minivess.errors import MinivessError
from minivess.tracking.address import sqlite_path, tracking_uri
from minivess.tracking.store import (
    LOCK_TIMEOUT_S,
    connection,
    exclusive,
    prepare_locked,
    prepare_store,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from minivess.types import RunKey

__all__ = [
    "OpenRun",
    "close_run",
    "log_epoch",
    "open_run",
    "prepare_store",
    "tag_runs",
    "tracking_uri",
]

type Scalar = str | int | float | bool | None

RUN_TAG = "minivess.run"
DIGEST_TAG = "minivess.run_digest"
SUPERSEDED_TAG = "minivess.superseded"
# A parameter in MLflow never changes. Where the run went on, on another machine say, the newest
# value of a parameter that may differ is in the tag of this prefix and its name.
PARAM_TAG = "minivess.param/"
MUTABLE_PREFIXES = ("sys_", "eval_", "upstream_")

MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100
_RUNS_PER_PAGE = 1000


@dataclass(frozen=True)
class OpenRun:
    """A run that is being logged: no connection in it, so it can be kept, copied and pickled."""

    uri: str
    experiment: str
    run_id: str
    run: RunKey
    run_digest: str
    resumed: bool
    timeout_s: float = LOCK_TIMEOUT_S


def now_ms() -> int:
    """Milliseconds since 1970, MLflow's time."""
    return int(datetime.now(UTC).timestamp() * 1000)


def as_text(value: Scalar) -> str:
    """A parameter as text: strings as they are, the rest as JSON.

    >>> as_text(0.1), as_text(True), as_text(None), as_text("zscore")
    ('0.1', 'true', 'null', 'zscore')
    """
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def write_values(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write values in batches of the sizes that MLflow takes.

    Raises:
        ValueError: a metric is NaN or infinite, or a text is too long: MLflow would cut it.
    """
    from mlflow.entities import Param, RunTag

    for metric in metrics:
        if not math.isfinite(metric.value):
            raise ValueError(f"{metric.key} is {metric.value} at step {metric.step}, not a number")
    for texts, limit in ((params, MAX_PARAM_LENGTH), (tags, MAX_TAG_LENGTH)):
        for name, text in (texts or {}).items():
            if len(text) > limit:
                raise ValueError(f"{name} has {len(text)} characters, MLflow takes {limit}")
    for part in batched(metrics, _METRICS_PER_CALL):
        client.log_batch(run_id, metrics=part, synchronous=True)
    for some in batched(sorted((params or {}).items()), _PARAMS_PER_CALL):
        client.log_batch(run_id, params=[Param(*item) for item in some], synchronous=True)
    for some in batched(sorted((tags or {}).items()), _PARAMS_PER_CALL):
        client.log_batch(run_id, tags=[RunTag(*item) for item in some], synchronous=True)


def runs_of(client: MlflowClient, experiment_id: str, run: RunKey | None = None) -> list[Run]:
    """All runs of the experiment, or of one key, oldest first; deleted ones are left out."""
    from mlflow.entities import ViewType

    query = f"tags.`{RUN_TAG}` = '{run}'" if run else ""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            query,
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=_RUNS_PER_PAGE,
            page_token=token,
        )
        found.extend(page)
        token = page.token
        if not token:
            return sorted(found, key=lambda item: (item.info.start_time, item.info.run_id))


def newest_by_step(client: MlflowClient, run_id: str, name: str) -> dict[int, Metric]:
    """The value of a metric at each step; where a step was logged again, the later value."""
    logged = client.get_metric_history(run_id, name)
    return {
        metric.step: metric
        for metric in sorted(logged, key=lambda item: (item.step, item.timestamp, item.value))
    }


def changed_steps(
    client: MlflowClient, run_id: str, name: str, curve: Mapping[int, float]
) -> list[Metric]:
    """The steps of a curve that MLflow lacks or has with another value, to be logged.

    MLflow keeps the other value too; the time of the new one is later, so that it is the newest.
    """
    from mlflow.entities import Metric

    time, old = now_ms(), newest_by_step(client, run_id, name)
    return [
        Metric(name, value, max(time, old[step].timestamp + 1) if step in old else time, step)
        for step, value in sorted(curve.items())
        if step not in old or old[step].value != value
    ]


def _log_params(client: MlflowClient, run: Run, params: Mapping[str, Scalar]) -> bool:
    """Log what is missing; whether anything was written."""
    logged: dict[str, str] = run.data.params
    missing: dict[str, str] = {}
    tags: dict[str, str] = {}
    for name, value in params.items():
        text, tag = as_text(value), PARAM_TAG + name
        if name not in logged:
            missing[name] = text
        elif run.data.tags.get(tag, logged[name]) != text:
            if not name.startswith(MUTABLE_PREFIXES):
                raise MinivessError(
                    "MV-STATE-001",
                    what=f"the parameter {name} differs in a run of the same digest",
                    where=f"{run.data.tags[RUN_TAG]} in MLflow, run {run.info.run_id}",
                    found=text,
                    expected=logged[name],
                    fix="delete this run in MLflow and run the same command again",
                )
            tags[tag] = text
    write_values(client, run.info.run_id, params=missing, tags=tags)
    return bool(missing or tags)


def _identity_tags(run: RunKey, run_digest: str) -> dict[str, str]:
    return {
        RUN_TAG: str(run),
        DIGEST_TAG: run_digest,
        "minivess.model": run.model,
        "minivess.loss": run.loss,
        "minivess.seed": str(run.seed),
        "minivess.fold": str(run.fold),
    }


def find_or_create(
    client: MlflowClient, experiment_id: str, run: RunKey, run_digest: str
) -> tuple[Run, bool]:
    """The MLflow run of this identity and whether it is new; supersedes the others of its key.

    A superseded run that is still RUNNING is ended as KILLED: nothing will go on with it.

    The caller holds `store.exclusive`. On a server two processes may still make twins: the older
    one is the run, for everybody, and the other is superseded.
    """
    known = runs_of(client, experiment_id, run)
    same = [item for item in known if item.data.tags.get(DIGEST_TAG) == run_digest]
    created = not same
    if created:
        name = f"{run.model} {run.loss} seed{run.seed} fold{run.fold}"
        tags = _identity_tags(run, run_digest)
        same = [client.create_run(experiment_id, tags=tags, run_name=name)]
    chosen = same[0]
    for other in known:
        if other.info.run_id == chosen.info.run_id:
            continue
        if other.info.status == "RUNNING":
            client.set_terminated(other.info.run_id, status="KILLED")
        if SUPERSEDED_TAG not in other.data.tags:
            client.set_tag(other.info.run_id, SUPERSEDED_TAG, "true")
    if SUPERSEDED_TAG in chosen.data.tags:
        client.delete_tag(chosen.info.run_id, SUPERSEDED_TAG)
    return chosen, created


def update_run(
    client: MlflowClient, run: Run, params: Mapping[str, Scalar], tags: Mapping[str, str]
) -> bool:
    """Bring parameters and tags up to date; whether anything was written.

    Raises:
        MinivessError: MV-STATE-001 a parameter that determines the run differs.
    """
    changed = {name: text for name, text in tags.items() if run.data.tags.get(name) != text}
    wrote = _log_params(client, run, params)
    write_values(client, run.info.run_id, tags=changed)
    return wrote or bool(changed)


def open_run(
    uri: str,
    experiment: str,
    run: RunKey,
    run_digest: str,
    params: Mapping[str, Scalar],
    tags: Mapping[str, str],
    timeout_s: float = LOCK_TIMEOUT_S,
) -> OpenRun:
    """Open the run of this identity, new or from before, with status RUNNING.

    Args:
        uri: see `tracking_uri`.
        experiment: name of the experiment, created where missing.
        run: model, loss, seed, fold.
        run_digest: digest of all that determines the run.
        params: parameters with their prefix (arch_, sys_, data_, loss_, eval_, ...).
        tags: what is known of the code and the place of the files, as tags of any name.
        timeout_s: longest wait for a locked database, in seconds.

    Raises:
        MinivessError: MV-TRACK-001, MV-TRACK-002 see `store.connection`; MV-STATE-001 a parameter
            outside `MUTABLE_PREFIXES` differs from what this digest was logged with.
    """
    with exclusive(uri):
        experiment_id = prepare_locked(uri, experiment, timeout_s)
        with connection(uri, timeout_s) as client:
            found, created = find_or_create(client, experiment_id, run, run_digest)
            update_run(client, found, params, tags)
            if found.info.status != "RUNNING":
                client.update_run(found.info.run_id, status="RUNNING")
    return OpenRun(uri, experiment, found.info.run_id, run, run_digest, not created, timeout_s)


def log_epoch(handle: OpenRun, epoch: int, values: Mapping[str, float]) -> None:
    """Log the values of an epoch, from 1, as metrics at that step.

    A value that an earlier process logged for the same epoch is not logged again; where it differs,
    the new one is logged at a later time and is the one that is exported.

    Raises:
        MinivessError: MV-TRACK-001 the store cannot be reached or is locked.
        ValueError: a value is NaN or infinite.
    """
    with connection(handle.uri, handle.timeout_s) as client:
        metrics = [
            metric
            for name, value in sorted(values.items())
            for metric in changed_steps(client, handle.run_id, name, {epoch: float(value)})
        ]
        write_values(client, handle.run_id, metrics=metrics)


def tag_runs(uri: str, experiment: str, tags: Mapping[str, str]) -> int:
    """Tag every run of an experiment; how many there are.

    Raises:
        MinivessError: MV-TRACK-001 the store cannot be reached or is locked.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return 0
    with connection(uri) as client:
        found = client.get_experiment_by_name(experiment)
        runs = [] if found is None else runs_of(client, found.experiment_id)
        for run in runs:
            write_values(client, run.info.run_id, tags=tags)
    return len(runs)


def close_run(handle: OpenRun, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
    """End the run with this status.

    Raises:
        MinivessError: MV-TRACK-001 the store cannot be reached or is locked.
    """
    with connection(handle.uri, handle.timeout_s) as client:
        client.set_terminated(handle.run_id, status=status)
