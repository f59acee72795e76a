"""What the jobs of a run do, as lines of JSON that the Snakefile writes while they do it.

Whoever started Snakemake follows the file; nothing of it is a result.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from minivess import output
from minivess.logs import not_logged

STARTED, FINISHED, FAILED, PROGRESS = "started", "finished", "failed", "progress"
# Snakemake's names for what we write down.
_KINDS = {
    "job_info": STARTED,
    "job_finished": FINISHED,
    "job_error": FAILED,
    "progress": PROGRESS,
}


@dataclass(frozen=True)
class JobEvent:
    """A job began or ended, or how many jobs of the run are done.

    Attributes:
        kind: started, finished, failed or progress.
        time: ISO 8601 with time zone.
        job: number of the job in its run.
        rule, message, log: of a job that began: its rule, what it does in words, its log file.
        done, total: of progress: jobs that are done, and all jobs.
    """

    kind: str
    time: str
    job: int = -1
    rule: str = ""
    message: str = ""
    log: str = ""
    done: int = 0
    total: int = 0


class _Recorder(logging.Handler):
    """Writes Snakemake's structured records to a file, each at once."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self.file = file

    def emit(self, record: logging.LogRecord) -> None:
        event = event_of(record)
        if event is not None:
            try:
                _write(self.file, asdict(event))
            except OSError:
                not_logged(record)  # the jobs go on


def event_of(record: logging.LogRecord) -> JobEvent | None:
    """The event of a record of Snakemake's logger; none where it is about something else."""
    values = vars(record)
    kind = _KINDS.get(str(values.get("event")))
    if kind is None:
        return None
    time = datetime.fromtimestamp(record.created, UTC).isoformat()
    if kind == PROGRESS:
        return JobEvent(kind, time, done=values["done"], total=values["total"])
    job = int(values["job_id"] if kind == FINISHED else values["jobid"])
    if kind != STARTED:
        return JobEvent(kind, time, job)
    rule = str(values["rule_name"])
    log = str(next(iter(values["log"] or []), ""))
    return JobEvent(kind, time, job, rule, str(values["rule_msg"] or rule), log)


def record_events(logger: logging.Logger, path: Path) -> None:
    """Write every event of Snakemake's logger to a new file, after a line with our process id.

    Raises:
        MinivessError: MV-SYSTEM-001 or -002 it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
        _write(file, {"pid": os.getpid()})
    except OSError as error:
        raise output.os_error(error, path) from error
    logger.addHandler(_Recorder(file))


def _write(file: IO[str], values: dict[str, object]) -> None:
    file.write(json.dumps(values) + "\n")
    file.flush()


@dataclass
class Follower:
    """Reads the events of one run while another process writes them.

    Attributes:
        path: file of the events.
        pid: process that writes them; the file of another run is not read.
        position: bytes read so far.
    """

    path: Path
    pid: int
    position: int = 0

    def new_events(self) -> list[JobEvent]:
        """Events since the last call."""
        return list(self._read())

    def _read(self) -> Iterator[JobEvent]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines or json.loads(lines[0]) != {"pid": self.pid}:
            return
        start = self.position or len(lines[0])
        for line in content[start : content.rfind(b"\n") + 1].splitlines():
            yield JobEvent(**json.loads(line))
        self.position = content.rfind(b"\n") + 1
