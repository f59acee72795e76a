"""From MLflow to the tables that statistics, figures and the paper read.

Only MLflow is read, through its client, so a server works like a local database. Run ids, times
and facts of the machine stay behind: the same experiment gives the same bytes from any database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minivess import output, paths
from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.tracking.address import shown, sqlite_path
from minivess.tracking.mlflow_log import (
    DIGEST_TAG,
    PARAM_TAG,
    RUN_TAG,
    SUPERSEDED_TAG,
    newest_by_step,
    runs_of,
)
from minivess.tracking.run_files import HISTORY_PREFIXES, STATUS_CODES, WITHDRAWN
from minivess.tracking.store import LOCK_TIMEOUT_S, connection
from minivess.types import RunKey

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from mlflow import MlflowClient
    from mlflow.entities import Run

type Row = dict[str, object]

TABLES = ("runs", "params", "metrics", "cases", "history")
_STATUS_NAMES = {code: name for name, code in STATUS_CODES.items()}


@dataclass(frozen=True)
class TrackedRun:
    """One run as MLflow has it."""

    run: RunKey
    columns: Row
    source: Run


def _run_key(run: Run) -> RunKey:
    tags = run.data.tags
    return RunKey(
        tags["minivess.model"],
        tags["minivess.loss"],
        int(tags["minivess.seed"]),
        int(tags["minivess.fold"]),
    )


def current_runs(client: MlflowClient, experiment: str) -> dict[RunKey, Run]:
    """The one run of each key that is not superseded; runs of other programs are left out."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return {}
    current: dict[RunKey, Run] = {}
    for run in runs_of(client, found.experiment_id):
        if RUN_TAG in run.data.tags and SUPERSEDED_TAG not in run.data.tags:
            # Oldest first: of twins that a server let through, the older one is the run.
            current.setdefault(_run_key(run), run)
    return current


def lacking(uri: str, experiment: str, missing: list[str], whose: str = "") -> MinivessError:
    """The error where the store does not have runs whose files are there.

    Args:
        uri: of the store.
        experiment: its name.
        missing: what is not there.
        whose: what the runs are, beside of the experiment.
    """
    root = paths.experiment_folder(experiment)
    made_with, target = paths.step_config(root, "experiment"), paths.tracked(root)
    return MinivessError(
        "MV-TRACK-003",
        what=f"MLflow lacks runs of {whose}the experiment {experiment}",
        where=shown(uri),
        found=", ".join(missing[:12]) + (", ..." if len(missing) > 12 else ""),
        expected="every run of the experiment, finished and with its metrics",
        fix=f"fill it from the files: snakemake --cores all --config experiment={made_with} "
        f"--force {target}",
    )


def _check_complete(
    uri: str, experiment: str, current: dict[RunKey, Run], runs: list[RunKey]
) -> None:
    missing = []
    for run in runs:
        if run not in current:
            missing.append(f"{run} (not there)")
        elif current[run].info.status != "FINISHED":
            missing.append(f"{run} ({current[run].info.status})")
        elif "run/best_epoch" not in current[run].data.metrics:
            missing.append(f"{run} (no metrics)")
    if missing:
        raise lacking(uri, experiment, missing)


def _run_row(tracked: TrackedRun) -> Row:
    """A run that did not finish has 0 for epochs and best_epoch: none."""
    metrics, tags = tracked.source.data.metrics, tracked.source.data.tags
    return {
        **tracked.columns,
        "status": tracked.source.info.status,
        "run_digest": tags[DIGEST_TAG],
        "config_digest": tags.get("minivess.config_digest", ""),
        "epochs": int(metrics.get("run/epochs", 0)),
        "best_epoch": int(metrics.get("run/best_epoch", 0)),
        "best_selection_dice": metrics.get("run/best_selection_dice"),
    }


def _param_rows(tracked: TrackedRun) -> list[Row]:
    data = tracked.source.data
    return [
        {**tracked.columns, "name": name, "value": data.tags.get(PARAM_TAG + name, value)}
        for name, value in data.params.items()
        if not name.startswith("sys_")
    ]


def _case_rows(tracked: TrackedRun) -> list[Row]:
    metrics = tracked.source.data.metrics
    rows: list[Row] = []
    for name, value in metrics.items():
        kind, _, rest = name.partition("/")
        code = int(metrics.get(f"status/{rest}", STATUS_CODES["ok"]))
        if kind != "case" or code == WITHDRAWN:
            continue
        case, _, metric = rest.rpartition("/")
        rows.append(
            {
                **tracked.columns,
                "case": case,
                "metric": metric,
                "value": value,
                "unit": METRICS[metric].unit,
                "status": _STATUS_NAMES[code],
            }
        )
    return rows


def _metric_rows(tracked: TrackedRun, cases: list[Row]) -> list[Row]:
    """Means as they were logged, with the counts of their cases."""
    statuses: dict[str, list[bool]] = {}
    for row in cases:
        statuses.setdefault(str(row["metric"]), []).append(row["status"] != "ok")
    return [
        {
            **tracked.columns,
            "metric": metric,
            "mean": tracked.source.data.metrics[f"mean/{metric}"],
            "n_cases": len(flags),
            "n_not_ok": sum(flags),
        }
        for metric, flags in statuses.items()
    ]


def _history_rows(client: MlflowClient, tracked: TrackedRun) -> list[Row]:
    names = [name for name in tracked.source.data.metrics if name.startswith(HISTORY_PREFIXES)]
    return [
        {**tracked.columns, "epoch": epoch, "name": name, "value": metric.value}
        for name in names
        for epoch, metric in newest_by_step(client, tracked.source.info.run_id, name).items()
    ]


def export_tables(
    uri: str,
    experiment: str,
    runs: list[RunKey] | None,
    timeout_s: float = LOCK_TIMEOUT_S,
) -> dict[str, pl.DataFrame]:
    """The tables runs, params, metrics, cases and history of an experiment, checked.

    Args:
        uri: see `mlflow_log.tracking_uri`.
        experiment: name of the experiment.
        runs: exactly these runs, all finished; none: whatever MLflow has, finished or not.
        timeout_s: longest wait for a locked database, in seconds.

    Raises:
        MinivessError: MV-TRACK-003 runs that MLflow lacks or that are not complete there,
            MV-TRACK-001 and MV-TRACK-002 see `store.connection`.
    """
    from minivess.statistics import tables

    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise lacking(uri, experiment, [str(run) for run in runs or []] or ["all"])
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    with connection(uri, timeout_s, write=False) as client:
        current = current_runs(client, experiment)
        if runs is None and not current:
            raise lacking(uri, experiment, ["all"])
        _check_complete(uri, experiment, current, runs or [])
        for run in sorted(current if runs is None else set(runs)):
            columns: Row = {
                "experiment": experiment,
                "model": run.model,
                "loss": run.loss,
                "seed": run.seed,
                "fold": run.fold,
            }
            tracked = TrackedRun(run, columns, current[run])
            cases = _case_rows(tracked)
            rows["runs"].append(_run_row(tracked))
            rows["params"] += _param_rows(tracked)
            rows["cases"] += cases
            rows["metrics"] += _metric_rows(tracked, cases)
            rows["history"] += _history_rows(client, tracked)
    return {
        name: tables.schema(name).validate(tables.from_rows(name, rows[name])) for name in TABLES
    }


def write_tables(tables: dict[str, pl.DataFrame], root: Path) -> list[Path]:
    """Write the tables to tables/<name>.parquet of a results folder; returns their paths.

    Raises:
        MinivessError: MV-SYSTEM-001 not writable, MV-SYSTEM-002 disk full.
    """
    written = []
    for name, table in sorted(tables.items()):
        path = paths.table(root, name)
        output.write_parquet(table, path)
        written.append(path)
    return written
