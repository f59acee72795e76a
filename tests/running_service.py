"""A real service on a free port of loopback, as the tests and the benchmark start it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from minivess.config.settings import KEYS, PREFIX, Settings, load_settings
from minivess.flows import serving
from minivess.flows.snakemake import stop_group


@dataclass(frozen=True)
class Running:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def variables(settings: Settings) -> dict[str, str]:
    """The settings as variables of a process."""
    values = {key: getattr(settings, key) for key in KEYS}
    return {
        f"{PREFIX}_{key.upper()}": f'"{value}"' if isinstance(value, str) else str(value)
        for key, value in values.items()
    }


@contextmanager
def running_service(bundle: Path, folder: Path, **changes: object) -> Iterator[Running]:
    """Start the service; at the end it and all its processes are gone."""
    settings = replace(load_settings("ci"), service_port=free_port(), **changes)
    program = serving.service(bundle, settings)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "service.log"
    with TemporaryDirectory() as home, log.open("wb") as output:
        environment = {**os.environ, **variables(settings), "BENTOML_HOME": home, "TMPDIR": home}
        process = subprocess.Popen(
            program.command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            serving.wait_until_ready(program, process)
            yield Running(program.url, process, log)
        finally:
            stop_group(process)
