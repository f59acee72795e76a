"""`minivess serve` starts the service and the page, and ends both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from running_service import free_port, variables
from small_bundle import make_bundle

from minivess import paths
from minivess.config.settings import load_settings

PROJECT = Path(__file__).parents[2]


def status(url: str) -> int:
    """Status of the answer; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.URLError:
        return 0


def test_one_command_starts_and_ends_both(tmp_path: Path) -> None:
    make_bundle(tmp_path / paths.bundle(paths.experiment_folder("small"), "balanced"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = replace(load_settings("ci"), service_port=free_port(), page_port=free_port())
    service, page = (f"http://127.0.0.1:{p}" for p in (settings.service_port, settings.page_port))
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "minivess", "serve", "-e", "small"],
            cwd=tmp_path,
            env={
                **os.environ,
                **variables(settings),
                "PYTHONPATH": str(PROJECT),
                "TMPDIR": str(temporary),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            said = log.read_text(encoding="utf-8")
            assert process.poll() is None, said
            if f"the page is ready: {page}" in said:
                break
            time.sleep(0.1)
        assert f"the service is ready: {service}" in said
        assert (status(f"{service}/readyz"), status(page)) == (200, 200)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (status(f"{service}/readyz"), status(page)) == (0, 0)
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    assert "Traceback" not in log.read_text(encoding="utf-8")
