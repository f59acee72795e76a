"""Job records: of every step that succeeded, of nothing else, and never instead of an error."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from minivess import provenance, stepcode
from minivess.config.load import resolve_mapping, write_step_files
from minivess.errors import MinivessError
from minivess.reproducibility.records import made_files, read_record, record_file

LOG = "results/x/logs/phantom.log"


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A working folder in which an experiment was planned."""
    values = {"name": "x", "phantom": {"n_cases": 2, "phantom_shape": [32, 32, 8]}}
    write_step_files(resolve_mapping(values, {}, "test"), tmp_path / "results/x/config")
    return tmp_path


def phantom(folder: Path, log: str | None = LOG) -> subprocess.CompletedProcess[str]:
    options = ["--log", log] if log else []
    return subprocess.run(
        [sys.executable, "-m", "minivess", *options, "data", "phantom", "-e", "x"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(provenance.PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_step_records_what_it_made_and_with_what(planned: Path) -> None:
    assert phantom(planned).returncode == 0
    record = read_record(record_file(planned / LOG))
    assert record is not None
    assert record.rule == "phantom"
    assert record.command == f"minivess --log {LOG} data phantom -e x"
    made = sorted((planned / "results/x/data/phantom").rglob("*.*"))
    digests = {
        path.relative_to(planned).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in made
    }
    assert len(digests) == 5  # two volumes, two labels, their list
    assert record.outputs == digests
    config = planned / "results/x/config/phantom.yaml"
    assert record.config["phantom"] == hashlib.sha256(config.read_bytes()).hexdigest()
    assert record.code == stepcode.step_digest("phantom")
    lock = provenance.PACKAGE.parent / "uv.lock"
    assert record.lock == hashlib.sha256(lock.read_bytes()).hexdigest()
    assert record.versions["sys_python"].startswith("3.")
    started, ended = (datetime.fromisoformat(time) for time in (record.started, record.ended))
    assert started.utcoffset() is not None
    assert started < ended
    assert made_files(planned / "results/x")["data/phantom/cases.csv"].rule == "phantom"


def test_paths_are_recorded_relative_to_the_working_folder(planned: Path) -> None:
    """The processes of one training are given the log by its whole path."""
    assert phantom(planned, str(planned / LOG)).returncode == 0
    text = record_file(planned / LOG).read_text(encoding="utf-8")
    assert str(planned) not in text
    assert json.loads(text)["root"] == "results/x"


@pytest.mark.parametrize("log", [None, "notes.log", "results/x/logs/notes.log"])
def test_only_a_rules_log_gets_a_record(planned: Path, log: str | None) -> None:
    assert phantom(planned, log).returncode == 0
    written = {path.name for path in planned.rglob("*.json")}
    assert not written & {"phantom.json", "notes.json"}


def test_a_step_that_fails_leaves_no_record_of_an_earlier_time(planned: Path) -> None:
    assert phantom(planned).returncode == 0
    (planned / "results/x/config/phantom.yaml").unlink()
    assert phantom(planned).returncode == 5
    assert not record_file(planned / LOG).exists()


def test_a_record_that_cannot_be_written_is_an_error(planned: Path) -> None:
    record_file(planned / LOG).mkdir(parents=True)
    done = phantom(planned)
    assert done.returncode == 4
    assert "MV-SYSTEM-001" in done.stderr
    assert "phantom.json" in done.stderr


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_record(path) is None
    path.write_text('{"rule": "train"}', encoding="utf-8")
    with pytest.raises(MinivessError, match="MV-STATE-003") as caught:
        read_record(path)
    assert str(path) in caught.value.where
