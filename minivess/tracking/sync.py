"""Bringing MLflow up to date with the files of the runs. The files are the truth.

A database that was deleted, or that missed what happened while it was locked, is filled again;
what it already has is left alone. Names of the metrics in MLflow:

- `train/...`, `selection/...`: curves, step = epoch;
- `case/<case>/<metric>`: value of a case;
- `status/<case>/<metric>`: a code of `STATUS_CODES`, only where it is or once was not ok;
- `mean/<metric>`: mean over all cases of the fold;
- `run/epochs`, `run/best_epoch`, `run/best_selection_dice`: facts of the training.

A value that changed, by an evaluation with another tolerance say, is logged at the next step, so
that MLflow's latest value is the one in the files. Only the validation cases of the run's record
count: what earlier folds left in the folder is not read, and is withdrawn in MLflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from minivess import paths
from minivess.tracking.mlflow_log import (
    changed_steps,
    find_or_create,
    newest_by_step,
    now_ms,
    update_run,
    write_values,
)
from minivess.tracking.run_files import (
    ARTIFACT_TAG,
    NOTE_TAG,
    STATUS_CODES,
    WITHDRAWN,
    RunFiles,
    check_present,
    read_run,
)
from minivess.tracking.store import LOCK_TIMEOUT_S, connection, exclusive, prepare_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from minivess.tracking.mlflow_log import Scalar
    from minivess.types import RunKey

# Prefixes of the parameters that come with the synchronisation and not from the training.
ADDED_PREFIXES = ("eval_", "upstream_")


@dataclass(frozen=True)
class SyncReport:
    """What a synchronisation did. `refilled` runs were not in MLflow before."""

    refilled: tuple[RunKey, ...]
    updated: tuple[RunKey, ...]
    unchanged: tuple[RunKey, ...]
    values: int

    def __str__(self) -> str:
        return (
            f"{len(self.refilled)} runs filled into MLflow, {len(self.updated)} updated, "
            f"{len(self.unchanged)} unchanged, {self.values} metric values written"
        )


def _changed_metrics(client: MlflowClient, run: Run, wanted: dict[str, float]) -> list[Metric]:
    """Metrics to log so that the latest value of each name is the wanted one."""
    from mlflow.entities import Metric

    logged: dict[str, float] = run.data.metrics
    wanted = dict(wanted)
    for name in logged:
        kind, _, rest = name.partition("/")
        if kind in ("case", "status") and f"status/{rest}" not in wanted:
            gone = f"case/{rest}" not in wanted
            if gone or kind == "status":
                wanted[f"status/{rest}"] = WITHDRAWN if gone else STATUS_CODES["ok"]
    time = now_ms()
    metrics = []
    for name, value in sorted(wanted.items()):
        if logged.get(name) != value:
            old = newest_by_step(client, run.info.run_id, name) if name in logged else {}
            metrics.append(Metric(name, float(value), time, max(old, default=-1) + 1))
    return metrics


def _sync_run(
    client: MlflowClient,
    run: Run,
    files: RunFiles,
    experiment: str,
    added: Mapping[str, Scalar],
) -> tuple[bool, int]:
    """Bring one run up to date: whether anything was written, and how many metric values."""
    run_id = run.info.run_id
    folder = paths.run_folder(paths.experiment_folder(experiment), files.run)
    tags = {
        **files.provenance.tags,
        "minivess.config_digest": str(files.record["config_digest"]),
        "minivess.run_folder": folder.as_posix(),
        **files.digests,
        **files.notes,
    }
    params = {**files.provenance.params, **files.record["params"], **added}
    wrote = update_run(client, run, params, tags)
    for tag in run.data.tags:
        if tag.startswith((ARTIFACT_TAG, NOTE_TAG)) and tag not in tags:
            client.delete_tag(run_id, tag)
            wrote = True
    metrics = [
        metric
        for name, curve in sorted(files.history.items())
        for metric in changed_steps(client, run_id, name, curve)
    ]
    metrics += _changed_metrics(client, run, files.metrics)
    write_values(client, run_id, metrics=metrics)
    if run.info.status != "FINISHED":
        # Last, so that a run whose synchronisation was interrupted is not taken for complete.
        client.set_terminated(run_id, status="FINISHED")
        wrote = True
    return wrote or bool(metrics), len(metrics)


def sync_experiment(
    uri: str,
    experiment: str,
    root: Path,
    runs: list[RunKey],
    timeout_s: float = LOCK_TIMEOUT_S,
    *,
    params: Mapping[str, Scalar] = MappingProxyType({}),
) -> SyncReport:
    """Make sure that MLflow has everything the files of these runs have; report what was done.

    Args:
        uri: see `mlflow_log.tracking_uri`.
        experiment: name of the experiment.
        root: its results folder.
        runs: the runs that must be there; the others of the experiment are left alone.
        timeout_s: longest wait for a locked database, in seconds.
        params: more parameters of every run, of `ADDED_PREFIXES`; they may differ from those of an
            earlier synchronisation, and win over those of the files.

    Raises:
        ValueError: a parameter in `params` has another prefix.
        MinivessError: MV-STATE-002 files of a run are missing, MV-STATE-001 files that belong to
            another run, MV-STATE-003 a file is damaged, MV-TRACK-001 and MV-TRACK-002 see
            `store.connection`.
    """
    if wrong := sorted(name for name in params if not name.startswith(ADDED_PREFIXES)):
        raise ValueError(f"{', '.join(wrong)}: has none of the prefixes {ADDED_PREFIXES}")
    check_present(root, runs)
    experiment_id = prepare_store(uri, experiment, timeout_s)
    done: dict[str, list[RunKey]] = {"refilled": [], "updated": [], "unchanged": []}
    values = 0
    for run in sorted(set(runs)):
        files = read_run(root, run)
        with connection(uri, timeout_s) as client:
            with exclusive(uri):
                found, created = find_or_create(
                    client, experiment_id, run, str(files.record["run_digest"])
                )
            wrote, count = _sync_run(client, found, files, experiment, params)
        values += count
        done["refilled" if created else "updated" if wrote else "unchanged"].append(run)
    return SyncReport(**{name: tuple(keys) for name, keys in done.items()}, values=values)
