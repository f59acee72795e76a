"""Processes of one working folder: those below Snakemake, and those that nobody waits for."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil

# Every process that a round starts inherits it, whatever folder or session it moves to.
VARIABLE = "MINIVESS_CHAOS"

_STEP = re.compile(r"-m minivess (?:--log \S+ )?((?:data )?\w+)")


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it, in the order of their ids; empty where it has ended."""
    try:
        top = psutil.Process(pid)
        return [top, *sorted(top.children(recursive=True), key=lambda process: process.pid)]
    except psutil.NoSuchProcess:
        return []


def title(process: psutil.Process) -> str:
    """What a process is, for people."""
    try:
        name, command = process.name(), " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return "a process that has just ended"
    if " -m snakemake " in command:
        return "snakemake"
    step = _STEP.search(command)
    if step is None:
        return name
    return f"minivess {step[1]}" if name.startswith("python") else f"{name} of minivess {step[1]}"


def left(folder: Path) -> list[psutil.Process]:
    """Processes of a working folder that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            # The environment of a zombie, or of another user's process, cannot be read.
            if process.environ().get(VARIABLE) == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_gone(folder: Path, timeout_s: float) -> list[psutil.Process]:
    """Wait for the processes of a folder to end by themselves; those that did not."""
    end = time.monotonic() + timeout_s
    while (running := left(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    return running


def kill_all(folder: Path) -> None:
    """SIGKILL to every process of a folder, until there is none."""
    while running := left(folder):
        for process in running:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(running, timeout=5)
