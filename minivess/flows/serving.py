"""The exported champion in service: makes it where it is missing, starts and ends the programs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from minivess import paths
from minivess.config.settings import Settings
from minivess.deploy.bundle import why_not_exported
from minivess.errors import MinivessError
from minivess.flows import snakemake
from minivess.logs import say
from minivess.signals import signals_later
from minivess.statistics.champion import check_kind

START_S = 120.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Program:
    """A server to start.

    Attributes:
        name: as messages call it.
        command: its command line.
        url: where it listens.
        ready: address that answers 200 once it can work.
    """

    name: str
    command: tuple[str, ...]
    url: str
    ready: str


def exported(experiment: str, kind: str, cores: str) -> Path:
    """The folder of an experiment's exported champion.

    Snakemake makes it where it is missing, or where another network is the champion since. Results
    are those of the config they were made with, data and overrides included.

    Raises:
        MinivessError: MV-CONFIG-003 no such kind, MV-STATE-002 it is not there after all; and as
            `snakemake.request`.
    """
    check_kind(kind)
    root = paths.experiment_folder(experiment)
    folder, made_with = paths.bundle(root, kind), paths.step_config(root, "experiment")
    reason = why_not_exported(root, kind)
    if reason is not None:
        file = str(made_with) if made_with.is_file() else experiment
        command = f"minivess experiment {file} deploy"
        say(f"{folder} {reason}: making it with `{command}`")
        status = snakemake.run(snakemake.request(file, ["deploy"], cores, False))
        if status != 0 or why_not_exported(root, kind) is not None:
            raise MinivessError(
                "MV-STATE-002",
                what=f"the champion {kind} of {experiment} could not be exported",
                where=str(folder),
                found=f"exit status {status} of Snakemake",
                fix=f"correct what is wrong above; try: {command}",
            )
    return folder


def service(folder: Path, settings: Settings) -> Program:
    """The segmentation service for an exported champion.

    Raises:
        MinivessError: MV-SERVICE-001 it would be open to everybody without a token.

    >>> from minivess.config.settings import load_settings
    >>> service(Path("results/demo/deploy/overlap"), load_settings("ci")).url
    'http://127.0.0.1:3000'
    """
    from minivess.deploy.door import check_open

    where = f"setting host {settings.host}, environment {settings.environment}"
    check_open(settings.host, settings.token, where)
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    command = (sys.executable, "-m", "bentoml", "serve", "minivess.deploy.service:Segmenter")
    options = ("--host", host, "--port", str(settings.service_port))
    arguments = ("--arg", f"bundle={folder.resolve()}")
    url = f"http://{_reached(host)}:{settings.service_port}"
    return Program("service", (*command, *options, *arguments), url, f"{url}/readyz")


def page(experiment: str, kind: str, settings: Settings) -> Program:
    """The page for people, on this computer only."""
    champion = ("--experiment", experiment, "--kind", kind, "--no-announce")
    url = f"http://127.0.0.1:{settings.page_port}"
    return Program("page", (sys.executable, "-m", "minivess", "page", *champion), url, f"{url}/")


def _reached(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"  # noqa: S104
    return f"[{host}]" if ":" in host else host


def serve(programs: Sequence[Program], grace_s: float) -> None:
    """Start servers, each in a process group of its own, and stay until one of them ends.

    Whatever ends this, SIGTERM, SIGHUP and Ctrl-C included, ends all of them: they finish the
    requests that are running, for `grace_s` seconds at most.

    Raises:
        MinivessError: MV-SERVICE-009 another program listens there already, one did not start, or
            ended by itself.
    """
    for program in programs:
        check_free(program.name, program.url)
    with TemporaryDirectory(prefix="minivess-serve-") as home:
        environment = {**os.environ, "BENTOML_HOME": home}
        running: list[tuple[Program, subprocess.Popen[bytes]]] = []
        try:
            for program in programs:
                # one by one: what has started is ended, whatever comes after
                running.append((program, _started(program, environment)))  # noqa: PERF401
            for program, process in running:
                wait_until_ready(program, process)
                say(f"the {program.name} is ready: {program.url} (Ctrl-C ends it)")
            while all(process.poll() is None for _, process in running):
                time.sleep(_POLL_S)
            _report_ended(running)
        finally:
            # A second Ctrl-C, or one that `uv run` passes on, must not leave one of them running.
            with signals_later():
                for _, process in running:
                    snakemake.stop_group(process, grace_s)


def check_free(name: str, url: str) -> None:
    """Refuse a port where another server, an older one of ours say, would answer in our place.

    Args:
        name: what is to be started.
        url: where.

    Raises:
        MinivessError: MV-SERVICE-009.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    with suppress(OSError), socket.create_connection((address.hostname, address.port), 1.0):
        raise MinivessError(
            "MV-SERVICE-009",
            what=f"the {name} cannot start",
            where=url,
            found="another program answers there already",
            fix="end it, or choose another port: --port, or configs/deploy/settings.toml",
        )


def _started(program: Program, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(program.command, env=environment, start_new_session=True)


def wait_until_ready(program: Program, process: subprocess.Popen[bytes]) -> None:
    """Return when a server can work.

    Raises:
        MinivessError: MV-SERVICE-009 it has ended, or takes longer than two minutes.
    """
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(program.ready, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_S)
    ended = process.poll()
    raise _unwell(program, "is not ready", f"after {START_S:g} s" if ended is None else ended)


def _report_ended(running: Sequence[tuple[Program, subprocess.Popen[bytes]]]) -> None:
    for program, process in running:
        if process.poll() is not None:
            raise _unwell(program, "ended by itself", process.returncode)


def _unwell(program: Program, what: str, found: str | int) -> MinivessError:
    return MinivessError(
        "MV-SERVICE-009",
        what=f"the {program.name} {what}",
        where=program.url,
        found=f"exit status {found}" if isinstance(found, int) else found,
        fix="its messages above say why; is the port taken? see configs/deploy/settings.toml",
    )
