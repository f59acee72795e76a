"""Job records: what each step made and with what, written beside its log when it has succeeded.

A record holds times and versions, so it is no output of any rule: the bytes of results stay apart
from when and where they were made. The files that a step reads are in the graph; see `graph`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from minivess import output, paths, provenance, stepcode
from minivess.errors import MinivessError

LOCK = "uv.lock"
# Below the results folder, but no results.
APART = frozenset({"config", "logs", ".state", "audit"})


@dataclass(frozen=True)
class JobRecord:
    """What one job made and with what.

    Attributes:
        rule: of the Snakefile; the step of `minivess` has the same name.
        command: as it was called, in the working folder.
        root: results folder, relative to the working folder.
        outputs: SHA-256 of every file it wrote, by its path in the working folder.
        config: SHA-256 of every resolved config of the experiment, by name.
        code: digest of the code behind the step.
        git: commit, and whether the checkout differed from it.
        lock: SHA-256 of uv.lock; none where the package lies outside a project.
        run_digest: of a training, what determines it but the code.
        versions: of Python, the platform and the libraries that compute.
        started, ended: ISO 8601 with time zone.
    """

    rule: str
    command: str
    root: str
    outputs: dict[str, str]
    config: dict[str, str]
    code: str
    git: dict[str, str]
    lock: str | None
    run_digest: str | None
    versions: dict[str, str]
    started: str
    ended: str


@dataclass(frozen=True)
class Made:
    """A file as its job left it."""

    digest: str
    rule: str


def record_file(log: Path) -> Path:
    """Where the record of a job is, from its log.

    >>> record_file(Path("results/demo/logs/train/a.b.log")).name
    'a.b.json'
    """
    return log.with_suffix(".json")


def begin(log: Path) -> datetime:
    """The time; an earlier record of the job goes, for what it made is made anew.

    Raises:
        MinivessError: MV-SYSTEM-001 it cannot be removed.
    """
    if _place(log) is not None:
        try:
            record_file(log).unlink(missing_ok=True)
        except OSError as error:
            raise output.os_error(error, record_file(log)) from error
    return datetime.now(UTC)


def write_record(log: Path, started: datetime) -> Path | None:
    """Write the record of the step that this process has run.

    Args:
        log: the step's log.
        started: when it began.

    Returns:
        The record's file. None where the log is not one of a rule, or nothing was written here: of
        several processes that train together one writes.

    Raises:
        MinivessError: MV-SYSTEM-... it cannot be written.
    """
    place = _place(log)
    if place is None:
        return None
    root, rule = place
    outputs = _outputs(root, output.written())
    if not outputs:
        return None
    code = stepcode.figure_digest if rule == "figure" else stepcode.step_digest
    record = JobRecord(
        rule=rule,
        command=_command(sys.argv[1:]),
        root=root.as_posix(),
        outputs=outputs,
        config={
            path.stem: provenance.file_sha256(path)
            for path in sorted(paths.step_config(root, "x").parent.glob("*.yaml"))
        },
        code=code(log.stem if rule == "figure" else rule),
        git=provenance.git_state(),
        lock=lock_digest(),
        run_digest=_run_digest(outputs) if rule == "train" else None,
        versions=provenance.system_facts(),
        started=started.isoformat(),
        ended=datetime.now(UTC).isoformat(),
    )
    output.write_json(asdict(record), record_file(log))
    return record_file(log)


def _place(log: Path) -> tuple[Path, str] | None:
    """Results folder and rule of a log, by where `paths.log` puts it; None elsewhere."""
    results = paths.RESULTS.absolute()
    if not log.absolute().is_relative_to(results):
        return None
    match log.absolute().relative_to(results).parts:
        case (experiment, "logs", *below, name):
            rule = below[0] if below else Path(name).stem
            return (paths.RESULTS / experiment, rule) if rule in stepcode.STEPS else None
    return None


def _outputs(root: Path, written: Iterable[Path]) -> dict[str, str]:
    made = {}
    for path in written:
        if path.absolute().is_relative_to(root.absolute()):
            below = path.absolute().relative_to(root.absolute())
            if below.parts[0] not in APART and path.is_file():
                made[(root / below).as_posix()] = provenance.file_sha256(path)
    return dict(sorted(made.items()))


def _command(arguments: Sequence[str]) -> str:
    """The command line, its paths relative to the working folder."""
    here = Path.cwd()
    words = [
        Path(word).relative_to(here).as_posix()
        if Path(word).is_absolute() and Path(word).is_relative_to(here)
        else word
        for word in arguments
    ]
    return " ".join(["minivess", *words])


def lock_digest() -> str | None:
    """SHA-256 of the project's uv.lock; None where the package is installed without a project."""
    path = provenance.PACKAGE.parent / LOCK
    return provenance.file_sha256(path) if path.is_file() else None


def _run_digest(outputs: Mapping[str, str]) -> str | None:
    for name in outputs:
        if Path(name).name == paths.run_record(Path()).name:
            return str(output.read_json(Path(name), "run_digest")["run_digest"])
    return None


def read_record(path: Path) -> JobRecord | None:
    """A record; None where there is none.

    Raises:
        MinivessError: MV-STATE-003 damaged.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return JobRecord(**{field.name: values[field.name] for field in fields(JobRecord)})
    except (ValueError, KeyError, TypeError) as error:
        raise MinivessError(
            "MV-STATE-003",
            what="the record of a job cannot be read",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            fix=f"remove {path}; then remove what the job made and run the experiment again, which "
            "makes both anew",
        ) from error


def read_records(root: Path) -> list[JobRecord]:
    """The records of all jobs of an experiment, the one that ended last at the end.

    Raises:
        MinivessError: MV-STATE-003 one is damaged.
    """
    logs = sorted((root / "logs").rglob("*.log"))
    found = [record for log in logs if (record := read_record(record_file(log)))]
    return sorted(found, key=lambda record: record.ended)


def made_files(root: Path) -> dict[str, Made]:
    """Digest and rule of every recorded file, by its path below the results folder.

    Raises:
        MinivessError: MV-STATE-003 a record is damaged.
    """
    return {
        Path(name).relative_to(record.root).as_posix(): Made(digest, record.rule)
        for record in read_records(root)
        for name, digest in record.outputs.items()
    }
