"""What the jobs do, from Snakemake's records to whoever follows them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from minivess.errors import MinivessError
from minivess.job_events import Follower, JobEvent, record_events

BEGUN = {
    "event": "job_info",
    "jobid": 3,
    "rule_name": "train",
    "rule_msg": "train dice",
    "log": ["a.log"],
}


@pytest.fixture
def logger() -> logging.Logger:
    made = logging.Logger("snakemake.logging")
    made.setLevel(logging.INFO)
    return made


def test_events_are_read_while_they_are_written(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "logs" / "jobs.jsonl"
    follower = Follower(path, os.getpid())
    assert follower.new_events() == []
    record_events(logger, path)
    assert follower.new_events() == []
    logger.info("something else")
    logger.info("", extra=BEGUN)
    [begun] = follower.new_events()
    assert (begun.kind, begun.job, begun.rule) == ("started", 3, "train")
    assert (begun.message, begun.log) == ("train dice", "a.log")
    logger.info("", extra={"event": "job_finished", "job_id": 3})
    logger.info("", extra={"event": "progress", "done": 1, "total": 4})
    logger.error("", extra={"event": "job_error", "jobid": 4})
    finished, progress, failed = follower.new_events()
    assert (finished.kind, finished.job) == ("finished", 3)
    assert (progress.kind, progress.done, progress.total) == ("progress", 1, 4)
    assert (failed.kind, failed.job) == ("failed", 4)
    assert begun.time < failed.time
    assert follower.new_events() == []


def test_a_job_without_message_and_log_is_told_by_its_rule(
    tmp_path: Path, logger: logging.Logger
) -> None:
    record_events(logger, tmp_path / "jobs.jsonl")
    logger.info("", extra={**BEGUN, "rule_msg": None, "log": []})
    [event] = Follower(tmp_path / "jobs.jsonl", os.getpid()).new_events()
    assert (event.message, event.log) == ("train", "")


def test_half_a_line_is_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    follower = Follower(path, 7)
    path.write_text('{"pid": 7}\n{"kind": "finished", "ti', encoding="utf-8")
    assert follower.new_events() == []
    with path.open("a", encoding="utf-8") as file:
        file.write('me": "now", "job": 2}\n')
    assert follower.new_events() == [JobEvent("finished", "now", 2)]


def test_the_file_of_another_run_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"pid": 7}\n{"kind": "finished", "time": "then", "job": 2}\n')
    assert Follower(path, 8).new_events() == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, logger: logging.Logger) -> None:
    (tmp_path / "logs").write_text("", encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        record_events(logger, tmp_path / "logs" / "jobs.jsonl")
    assert caught.value.code == "MV-SYSTEM-001"


def test_a_full_disk_stops_no_job(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    record_events(logger, tmp_path / "jobs.jsonl")
    [handler] = logger.handlers
    handler.file = Path("/dev/full").open("w", encoding="utf-8")  # type: ignore[attr-defined]  # noqa: SIM115
    logger.info("", extra=BEGUN)
    assert "could not be written" in capsys.readouterr().err
