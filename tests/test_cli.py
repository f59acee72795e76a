"""The command as a person types it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from running_service import free_port

from minivess import __version__


def minivess(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minivess", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_verb() -> None:
    text = minivess("--help").stdout
    for verb in ("data", "train", "predict", "evaluate", "export", "compare", "figure", "query"):
        assert verb in text


def test_version() -> None:
    assert minivess("version").stdout.strip() == __version__


def test_a_misspelt_verb_has_a_suggestion_and_status_2() -> None:
    done = minivess("trian")
    assert done.returncode == 2
    assert "train" in done.stderr


def test_a_step_before_its_time_says_what_to_run(tmp_path: Path) -> None:
    done = minivess("summary", "-e", "demo", cwd=tmp_path)
    assert done.returncode == 5
    assert "MV-STATE-002" in done.stderr
    assert "just experiment demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_left_beside_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "summary.log"
    done = minivess("--log", str(log), "summary", "-e", "demo", cwd=tmp_path)
    record = json.loads((tmp_path / "logs" / "summary.error.json").read_text(encoding="utf-8"))
    assert record["status"] == done.returncode == 5
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_the_traceback_is_for_those_who_ask(tmp_path: Path) -> None:
    done = minivess("--debug", "summary", "-e", "demo", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_query_prints_a_table_or_the_views(tmp_path: Path) -> None:
    import polars as pl

    from minivess import output, paths

    root = tmp_path / "results" / "demo"
    table = pl.DataFrame({"case": ["a"], "threshold": [0.5], "dice": [0.25]})
    output.write_parquet(table, paths.baseline(root))
    done = minivess("query", "SELECT avg(dice) AS mean FROM baseline", cwd=tmp_path)
    assert done.returncode == 0
    assert "0.25" in done.stdout
    wrong = minivess("query", "SELECT * FROM bseline", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "baseline" in wrong.stderr


def test_the_runs_are_shown_where_the_settings_say_they_are(tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, "MINIVESS_DEPLOY_MLFLOW_URI": "sqlite:///other.db"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "minivess", "ui", "--port", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        assert (tmp_path / "other.db").is_file()
        assert not (tmp_path / "mlflow.db").exists()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_runs_on_a_server_are_named(tmp_path: Path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "http://ada:secret@tracking:5000"}
    done = subprocess.run(
        [sys.executable, "-m", "minivess", "ui"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.strip() == "the runs are on this server: http://ada:***@tracking:5000"


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until a server answers; a minute at most."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, f"it ended with status {process.returncode}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(url)


def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = minivess("ui", "--port", str(other.getsockname()[1]), cwd=tmp_path)
    assert done.returncode != 0
    assert "another program answers there already" in done.stderr
    for verb in ("ui", "page"):
        assert minivess(verb, "--port", "99999999", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("verb", ["verify", "show"])
def test_no_log_of_a_misspelt_name_is_sound(verb: str, tmp_path: Path) -> None:
    done = minivess("audit", verb, "-e", "demoo", cwd=tmp_path)
    assert done.returncode == 5
    assert "MV-STATE-002" in done.stderr


def test_the_doctor_ignores_no_arguments(tmp_path: Path) -> None:
    done = minivess("doctor", "epochs=3", cwd=tmp_path)
    assert done.returncode == 2
    assert "minivess doctor --experiment demo epochs=3" in done.stderr


def test_errors_lists_codes_with_their_status() -> None:
    lines = minivess("errors").stdout.splitlines()
    assert any(line.split()[:2] == ["MV-DATA-009", "3"] for line in lines)
