"""The same through a real MLflow server: what a group that shares one gets."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from minivess.errors import MinivessError
from minivess.tracking.export import export_tables
from minivess.tracking.mlflow_log import close_run, log_epoch, open_run
from minivess.tracking.sync import sync_experiment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from minivess.types import RunKey

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the server's processes are ended as a group, which needs POSIX"
)


@pytest.fixture
def server(template: Path, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Address of a running server and the process group to end it by."""
    # A database with its schema starts in half the time; the experiment is not in it yet.
    with closing(sqlite3.connect(shutil.copyfile(template, tmp_path / "server.db"))) as database:
        database.execute("UPDATE experiments SET name = 'other' WHERE name = 'demo'")
        database.commit()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        # Processes for jobs that nobody starts.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    store = f"sqlite:///{tmp_path / 'server.db'}"
    options = ["--backend-store-uri", store, "--port", str(port), "--workers", "1"]
    with (tmp_path / "server.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            cwd=tmp_path,
            env={**os.environ, **quiet},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/health", tmp_path / "server.log")
        yield address, process.pid
    finally:
        _end(process.pid)
        process.wait()


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"the server did not start: {log.read_text(encoding='utf-8')}")


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_a_server_holds_the_same_tables_as_a_local_database(
    server: tuple[str, int],
    uri: str,
    experiment: str,
    root: Path,
    run: RunKey,
    run_folder: Any,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, group = server
    source = run_folder(run, statuses={("mv01", "dice"): "both_empty"})
    source.write(root)
    for epochs in ((1, 2), (2, 3)):
        handle = open_run(address, experiment, run, source.digest, source.params, {})
        for epoch in epochs:
            log_epoch(handle, epoch, {"train/loss": source.history()["train/loss"][epoch]})
        close_run(handle, "KILLED")
    assert handle.resumed
    assert sync_experiment(address, experiment, root, [run]).updated == (run,)
    assert sync_experiment(address, experiment, root, [run]).unchanged == (run,)
    sync_experiment(uri, experiment, root, [run])
    remote, local = (export_tables(store, experiment, [run]) for store in (address, uri))
    for name, table in local.items():
        assert table.equals(remote[name]), name
    assert capfd.readouterr() == ("", "")

    _end(group)
    # How long the retries of the default take is the concern of test_store.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MinivessError) as caught:
        log_epoch(handle, 4, {"train/loss": 0.1})
    assert caught.value.code == "MV-TRACK-001"
