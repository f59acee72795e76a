"""What the files of a finished run say, under the names that it has in MLflow."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivess import output, paths
from minivess.data.volume import read_note
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from minivess.tracking.mlflow_log import Scalar
    from minivess.types import RunKey

STATUS_CODES: dict[str, int] = {
    "ok": 0,
    "empty_prediction": 1,
    "empty_reference": 2,
    "both_empty": 3,
}
# The status of a case or metric that MLflow has and the files no longer have.
WITHDRAWN = -1

HISTORY_PREFIXES = ("train/", "selection/")
ARTIFACT_TAG = "artifact/"
# Of a case that was not predicted as the config says: with smaller windows after out of memory.
NOTE_TAG = "minivess.prediction/"
FACTS = ("epochs", "best_epoch", "best_selection_dice")


@dataclass(frozen=True)
class Provenance:
    """Facts of the machine (sys_ parameters) and of the code (tags) of a training."""

    params: dict[str, Scalar]
    tags: dict[str, str]


@dataclass(frozen=True)
class RunFiles:
    """What the files of one run say."""

    run: RunKey
    record: dict[str, Any]
    provenance: Provenance
    history: dict[str, dict[int, float]]
    metrics: dict[str, float]
    digests: dict[str, str]
    notes: dict[str, str]


def check_present(root: Path, runs: list[RunKey]) -> None:
    """Raise where files of any of the runs are missing, before anything is written.

    Which cases must have metrics is known only where the record of the run is there.

    Raises:
        MinivessError: MV-STATE-002; MV-STATE-001 and MV-STATE-003 see `read_run`.
    """
    missing: list[str] = []
    for run in runs:
        folder = paths.run_folder(root, run)
        record = paths.run_record(folder)
        needed = [record, paths.history(folder), paths.weights(folder)]
        if record.exists():
            cases = _validation_cases(_read_record(record, run))
            needed += [paths.case_metrics(folder, case) for case in cases]
        missing.extend(path.as_posix() for path in needed if not path.exists())
    if missing:
        raise MinivessError(
            "MV-STATE-002",
            what=f"{len(missing)} files of the runs are missing",
            where=", ".join(missing[:8]) + (", ..." if len(missing) > 8 else ""),
            expected="every run trained and evaluated",
            fix=f"snakemake --cores all {paths.tracked(root).as_posix()}",
        )


def _read_table(name: str, path: Path) -> pl.DataFrame:
    from minivess.statistics import tables

    return tables.read(name, path)


def _read_record(path: Path, run: RunKey) -> dict[str, Any]:
    record: dict[str, Any] = output.read_json(path)
    found = "/".join(str(record.get(key)) for key in ("model", "loss", "seed", "fold"))
    expected = f"{run.model}/{run.loss}/{run.seed}/{run.fold}"
    if found != expected:
        raise MinivessError(
            "MV-STATE-001",
            what="the record of a run belongs to another run",
            where=path.as_posix(),
            found=found,
            expected=expected,
            fix="delete the folder of this run and run the experiment again",
        )
    cases = record.get("cases")
    if not isinstance(cases, dict) or not cases.get("validation"):
        raise output.damaged(path, "no list of validation cases")
    return record


def _validation_cases(record: dict[str, Any]) -> list[str]:
    """Cases of the fold. Files of other cases are of an earlier fold and no longer of the run."""
    return sorted(record["cases"]["validation"])


def _read_provenance(path: Path) -> Provenance:
    """Nothing where the file is not there: runs from before it was written have none."""
    if not path.exists():
        return Provenance({}, {})
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Provenance(dict(facts["params"]), dict(facts["tags"]))
    except (ValueError, KeyError, TypeError) as error:
        raise output.damaged(path, error) from error


def _read_history(path: Path) -> dict[str, dict[int, float]]:
    history: dict[str, dict[int, float]] = {}
    for row in _read_table("history", path).iter_rows(named=True):
        if not row["name"].startswith(HISTORY_PREFIXES):
            raise ValueError(f"{path}: {row['name']} has none of the prefixes {HISTORY_PREFIXES}")
        history.setdefault(row["name"], {})[row["epoch"]] = row["value"]
    return history


def _metric_values(record: dict[str, Any], files: list[Path]) -> dict[str, float]:
    """All metrics of a run but its curves, by their name in MLflow."""
    values: dict[str, float] = {}
    by_metric: dict[str, list[float]] = {}
    for path in files:
        for row in _read_table("cases", path).iter_rows(named=True):
            name = f"{row['case']}/{row['metric']}"
            values[f"case/{name}"] = row["value"]
            if row["status"] != "ok":
                values[f"status/{name}"] = STATUS_CODES[row["status"]]
            by_metric.setdefault(row["metric"], []).append(row["value"])
    # fsum rounds once, whatever the order of the cases.
    for metric, numbers in by_metric.items():
        values[f"mean/{metric}"] = math.fsum(numbers) / len(numbers)
    for fact in FACTS:
        if record[fact] is not None:
            values[f"run/{fact}"] = float(record[fact])
    return values


def _digests(folder: Path, cases: list[str]) -> dict[str, str]:
    """SHA-256 of each file of the run, by the tag that names its path inside the run's folder.

    Predictions may be absent: the metrics are what is logged.
    """
    files = [paths.run_record(folder), paths.history(folder), paths.weights(folder)]
    for case in cases:
        files.append(paths.case_metrics(folder, case))
        predicted = (paths.prediction(folder, case), paths.probability(folder, case))
        files.extend(path for path in predicted if path.exists())
    digests: dict[str, str] = {}
    for path in sorted(files):
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        digests[ARTIFACT_TAG + path.relative_to(folder).as_posix()] = digest
    return digests


def _notes(folder: Path, cases: list[str]) -> dict[str, str]:
    """What is noted in predictions, by tag; most have no note."""
    predicted = {case: paths.prediction(folder, case) for case in cases}
    notes = {case: read_note(path) for case, path in predicted.items() if path.exists()}
    return {NOTE_TAG + case: note for case, note in notes.items() if note}


def read_run(root: Path, run: RunKey) -> RunFiles:
    """Everything that the files of a finished and evaluated run say.

    Raises:
        MinivessError: MV-STATE-003 a file is damaged, MV-STATE-001 it belongs to another run.
    """
    folder = paths.run_folder(root, run)
    record = _read_record(paths.run_record(folder), run)
    cases = _validation_cases(record)
    return RunFiles(
        run=run,
        record=record,
        provenance=_read_provenance(paths.run_provenance(root, run)),
        history=_read_history(paths.history(folder)),
        metrics=_metric_values(record, [paths.case_metrics(folder, case) for case in cases]),
        digests=_digests(folder, cases),
        notes=_notes(folder, cases),
    )
