"""A project whose Snakefile has one job that takes as long, or fails, as a test likes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from workbench import PROJECT

EXPERIMENT = {"losses": ["dice_ce"], "phantom": {"n_cases": 4}, "folds": {"n_folds": 2}}
SNAKEFILE = """
from pathlib import Path
from minivess import paths
from minivess.job_events import record_events
from minivess.workflow import answer_sigterm, end_with_caller
from snakemake.logging import logger

end_with_caller()
ROOT = Path("results/small")

onstart:
    answer_sigterm()
    record_events(logger, paths.job_events(ROOT))

rule prepared_cases:
    input: ROOT / "made.txt"

rule make:
    output: ROOT / "made.txt"
    log: ROOT / "logs/make.log"
    message: "make the file"
    shell:
        "echo made with care >> {log}; sleep $(cat seconds); "
        "if [ -f error.json ]; then mv error.json results/small/logs/make.error.json; exit 1; fi; "
        "echo made > {output}"
"""


@dataclass(frozen=True)
class Project:
    """A working folder with that Snakefile."""

    folder: Path

    @property
    def made(self) -> Path:
        return self.folder / "results" / "small" / "made.txt"

    def job_takes(self, seconds: float) -> None:
        (self.folder / "seconds").write_text(str(seconds), encoding="utf-8")

    def job_fails_once(self, code: str, status: int) -> None:
        record = {"code": code, "status": status, "text": f"{code}: as the test wants it"}
        (self.folder / "error.json").write_text(json.dumps(record), encoding="utf-8")

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """`minivess ...` in this folder."""
        return subprocess.Popen(
            [sys.executable, "-m", "minivess", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run_flow(self, name: str = "data", **variables: str) -> tuple[int, str]:
        """Exit status and output of `minivess flow run`."""
        process = self.start("flow", "run", name, "--experiment", "small.yaml", **variables)
        text, _ = process.communicate(timeout=180)
        return process.returncode, text


def make_project(folder: Path) -> Project:
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    (folder / "small.yaml").write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")
    for name in ("profiles", "configs"):
        (folder / name).symlink_to(PROJECT / name)
    project = Project(folder)
    project.job_takes(0)
    return project


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until[T](found: Callable[[], T], what: str, timeout_s: float = 90.0) -> T:
    """What a function gives once that is not empty."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    pytest.fail(f"no {what} after {timeout_s:g} s")


def sleeper_of(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    """The whole tree below a process, once its job sleeps."""

    def tree() -> list[psutil.Process]:
        below = psutil.Process(process.pid).children(recursive=True)
        return below if any(one.name() == "sleep" for one in below) else []

    return wait_until(tree, "sleeping job")


def all_gone(processes: list[psutil.Process], timeout_s: float = 30.0) -> bool:
    """Whether all of them have ended, zombies included."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
