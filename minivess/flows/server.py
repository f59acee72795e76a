"""The Prefect server: one of our own on loopback, or the one that the settings name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minivess import output, paths
from minivess.config.settings import load_settings
from minivess.environment import PRIVATE
from minivess.errors import MinivessError
from minivess.flows.snakemake import stop_group
from minivess.logs import say
from minivess.signals import signals_later

HOME = paths.RESULTS / ".prefect"
RECORD = "server.json"
LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 5.0


def client_environment(api: str, home: Path = HOME) -> dict[str, str]:
    """Variables of processes that talk to a server; they must be set before Prefect is imported."""
    return {
        **PRIVATE,
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(home.absolute()),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # Prefect's own lines are for its pages; the screen shows what Snakemake says.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # A server that has gone must not hold up a run by a minute for each question.
        "PREFECT_CLIENT_MAX_RETRIES": "2",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    }


def server_environment(home: Path, port: int) -> dict[str, str]:
    """Variables of a server whose every file is in one folder."""
    return {
        **PRIVATE,
        "PREFECT_HOME": str(home.absolute()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": f"{address(port)}/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str((home / "ui").absolute()),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }


def address(port: int) -> str:
    """Where a server on this machine is.

    >>> address(4200)
    'http://127.0.0.1:4200'
    """
    return f"http://{LOOPBACK}:{port}"


def answers(api: str) -> bool:
    """Whether a Prefect server answers at this API."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310
            return bool(json.load(answer) is True)
    except (OSError, ValueError):
        return False


def find_server() -> str | None:
    """API of the server that the settings name, or that `minivess flow start` runs here; or none.

    Raises:
        MinivessError: MV-FLOW-002 the server of the settings does not answer.
    """
    api = load_settings().prefect_api_url
    if api:
        if not answers(api):
            raise MinivessError(
                "MV-FLOW-002",
                what="the Prefect server does not answer",
                where=api,
                expected="a Prefect server, as the setting prefect_api_url or PREFECT_API_URL says",
                fix="start it, or unset the setting: flows run without a server, too",
            )
        return api
    record = HOME / RECORD
    if not record.is_file():
        return None
    found = str(json.loads(record.read_text(encoding="utf-8"))["api"])
    return found if answers(found) else None


def use_server(api: str) -> None:
    """Let this process's Prefect talk to a server."""
    assert "prefect" not in sys.modules, "Prefect reads its settings when it is imported"
    os.environ.update(client_environment(api))


@contextmanager
def running_server(port: int, home: Path = HOME) -> Iterator[str]:
    """A Prefect server with its pages on loopback, on SQLite; yields its API's address.

    Args:
        port: to listen on.
        home: folder of its database, pages and log; made where missing.

    Raises:
        MinivessError: MV-FLOW-002 the port is taken, or the server does not start.
    """
    api = f"{address(port)}/api"
    if answers(api):
        raise MinivessError(
            "MV-FLOW-002",
            what="a Prefect server runs on this port already",
            where=api,
            fix="end it, choose another prefect_port, or use it: set prefect_api_url",
        )
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--host", LOOPBACK, "--port", str(port)],
            env={**os.environ, **server_environment(home, port)},
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        _wait_for(process, api, log)
        output.write_json({"api": api, "pid": process.pid}, home / RECORD)
        yield api
    finally:
        with signals_later():
            (home / RECORD).unlink(missing_ok=True)
            stop_group(process)


def _wait_for(process: subprocess.Popen[Any], api: str, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not answers(api):
        if process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
            continue
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise MinivessError(
            "MV-FLOW-002",
            what="the Prefect server does not start",
            where=api,
            found=" / ".join(lines[-3:]),
            fix=f"look into {log}; is the port in use?",
        )
    say(f"Prefect is at {api.removesuffix('/api')}")
