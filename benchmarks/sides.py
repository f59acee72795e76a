"""Sides of a benchmark that run one after the other, each run in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import page

ANSWER = "answer: "


@dataclass(frozen=True)
class Run:
    """What one process of a side used: seconds and CPU seconds of a unit, and its peak memory."""

    seconds: float
    cpu_seconds: float
    peak_gb: float
    found: dict[str, Any] = field(default_factory=dict)


def add_options(parser: argparse.ArgumentParser, sides: list[str]) -> None:
    """Add what every comparison takes: runs, the page, and which part a process is."""
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path, nargs="?", const=page.PAGE, help="the page to write")
    parser.add_argument("--part", choices=["prepare", *sides], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)


def peak_gb() -> float:
    """Return the largest memory of this process so far in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def timed(work: Callable[[], Any], units: int = 1) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a unit of some work."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - begin) / units, (time.process_time() - cpu) / units


def _environment(script: Path) -> dict[str, str]:
    """This process's, with the script's folder before what else is imported from."""
    others = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parent), *others])}


def child(script: Path, part: str, folder: Path, arguments: Sequence[str]) -> str:
    """Return the last line that a script prints as one part of its benchmark."""
    command = [sys.executable, str(script), *arguments, "--part", part, "--folder", str(folder)]
    environment = _environment(script)
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-4000:])
        raise SystemExit(f"{part} of {script.name} ended with status {done.returncode}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def alternate(
    script: Path, folder: Path, arguments: Sequence[str], names: Sequence[str], n_runs: int
) -> dict[str, list[Run]]:
    """Return the runs of each side; the order of the sides turns from round to round."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(n_runs):
        for name in names if number % 2 == 0 else names[::-1]:
            run = Run(**json.loads(child(script, name, folder, arguments)))
            runs[name].append(run)
            print(f"run {number + 1}, {name}: {run.seconds:.3f} s, {run.peak_gb:.2f} GB")
            sys.stdout.flush()
    return runs


def in_turn(
    script: Path, folder: Path, arguments: Sequence[str], names: Sequence[str], n_runs: int
) -> dict[str, list[Run]]:
    """Return the runs of sides that stay, as `answering` does: those of a GPU start slowly.

    The order of the sides turns from round to round; while one works, the others wait.
    """
    environment = _environment(script)
    made: dict[str, subprocess.Popen[str]] = {}
    runs: dict[str, list[Run]] = {name: [] for name in names}
    try:
        for name in names:
            command = [sys.executable, str(script), *arguments, "--part", name]
            made[name] = subprocess.Popen(
                [*command, "--folder", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,
            )
        for name in names:
            _answer(made[name], name)
        for number in range(n_runs):
            for name in names if number % 2 == 0 else names[::-1]:
                run = Run(**_asked(made[name], name))
                runs[name].append(run)
                print(f"run {number + 1}, {name}: {run.seconds:.4f} s, {run.peak_gb:.2f} GB")
                sys.stdout.flush()
    finally:
        # With the processes that a side has started.
        for process in made.values():
            with contextlib.suppress(ProcessLookupError):  # it has ended, and so have they
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return runs


def answering(work: Callable[[], Run]) -> None:
    """Say that this side of `in_turn` is ready, and answer each line with a run."""
    print(ANSWER + json.dumps({}), flush=True)
    for _ in sys.stdin:
        print(ANSWER + json.dumps(dataclasses.asdict(work())), flush=True)


def _asked(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return _answer(process, name)


def _answer(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """What a side says, past what its libraries print."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(ANSWER):
            found: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
            return found
    raise SystemExit(f"{name} ended with status {process.wait()}")


def medians(runs: dict[str, list[Run]]) -> dict[str, Run]:
    """Return the medians of each side's runs, with what the first of them found."""
    return {
        name: Run(
            statistics.median(run.seconds for run in many),
            statistics.median(run.cpu_seconds for run in many),
            max(run.peak_gb for run in many),
            many[0].found,
        )
        for name, many in runs.items()
    }


def table(runs: dict[str, list[Run]], titles: dict[str, str], unit: str, first: str) -> list[str]:
    """Return the lines of a table, with how many times longer each side takes than the first."""
    middle = medians(runs)
    rows = [
        f"| | s per {unit} | range, s | CPU s per {unit} | times as long | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    for name, many in runs.items():
        run, seconds = middle[name], [one.seconds for one in many]
        rows.append(
            f"| {titles[name]} | {run.seconds:.3f} | {min(seconds):.3f} to {max(seconds):.3f} "
            f"| {run.cpu_seconds:.3f} | {run.cpu_seconds / middle[first].cpu_seconds:.2f} "
            f"| {run.peak_gb:.2f} |"
        )
    return rows


def verdict(what: str, ratio: float, target: float) -> str:
    """Return a sentence on a ratio and its target."""
    holds = "holds" if ratio >= target else "does not hold"
    return f"{what}: {ratio:.2f} times (target: at least {target:g}, {holds})."
