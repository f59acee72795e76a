"""What is done to a run. Each leaves the folder as the harm left it, for a plain restart."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil

from chaos import processes
from chaos.stage import TARGETS, DisorderError, SkippedError, Stage

PAGE = 4096
# Where a run opens the database; that takes a process some seconds after it has begun.
USES_DATABASE = (": epoch 1/", "Job .*: MLflow gets what it lacks", "Job .*: tables from MLflow")


def cores1(stage: Stage) -> None:
    """Everything on one core."""
    stage.cores = 1


def cores2(stage: Stage) -> None:
    """Everything on two cores."""
    stage.cores = 2


def shuffled(stage: Stage) -> None:
    """Jobs in another order: random results first, one after the other, by another scheduler."""
    names = list(stage.reference.sums)
    chosen = [names[index] for index in stage.rng.choice(len(names), size=3, replace=False)]
    stage.more = ("--scheduler", "greedy")
    for name in chosen:
        stage.say(f"first {name}")
        stage.complete(f"results/{stage.bench.name}/{name}")


def kill(stage: Stage) -> None:
    """SIGKILL to Snakemake or to any process below it."""
    process = stage.start()
    moment = stage.random_moment(process)
    victim = stage.choose(processes.tree(process.pid)) if moment else None
    if victim is None:
        stage.say(f"ended before the kill, status {stage.wait(process)}")
        return
    name, own = processes.title(victim), victim.pid == process.pid
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        name += ", which had just ended"
    status = stage.wait(process)
    if own and status != -signal.SIGKILL:
        raise DisorderError(f"Snakemake was killed and ended with status {status}")
    # Steps that lost their parent go on for a while; the restart comes before or after their end.
    early = bool(stage.rng.random() < 0.5)
    if not early:
        stage.nobody_left()
    stage.say(
        f"SIGKILL to {name} {moment}, Snakemake's status {status}"
        + (f", {len(processes.left(stage.bench.folder))} processes go on" if early else "")
    )


def sigterm(stage: Stage) -> None:
    """SIGTERM to Snakemake, which lets its jobs end and ends."""
    process = stage.start()
    moment = stage.random_moment(process)
    process.send_signal(signal.SIGTERM)
    status = stage.wait(process)
    stage.nobody_left(10.0)
    stage.say(f"SIGTERM to Snakemake {moment or 'after its end'}, its status {status}")


def interrupt(stage: Stage) -> None:
    """SIGINT to Snakemake and all its jobs, as Ctrl-C on a terminal does."""
    process = stage.start()
    moment = stage.random_moment(process)
    if moment:
        os.killpg(process.pid, signal.SIGINT)
    status = stage.wait(process)
    stage.nobody_left(10.0)
    stage.say(f"SIGINT to the group {moment or 'not sent: it had ended'}, status {status}")


def disk_full(stage: Stage) -> None:
    """Results on a disk too small for them, and made larger after the error."""
    results = stage.bench.folder / "results"
    if results.exists():
        raise SkippedError("a disk can only be small from the start")
    results.mkdir()
    files = [path for path in stage.reference.bench.root.rglob("*") if path.is_file()]
    sizes = [path.stat().st_size for path in files]
    needed = sum(-(-size // PAGE) * PAGE for size in sizes)
    size = int(needed * stage.rng.uniform(0.1, 0.75))
    mount(results, f"size={size}")
    stage.mounted.append(results)
    stage.bench.look_like_the_project()
    command = [sys.executable, "-m", "minivess", "experiment", f"{stage.bench.name}.yaml"]
    status = stage.wait(stage.launch([*command, *TARGETS, "--cores", str(stage.cores)]))
    stage.nobody_left(10.0)
    free = shutil.disk_usage(results).free
    stage.say(f"a disk of {size} bytes for {needed}, {free} free at the end, status {status}")
    if "MV-SYSTEM-002" not in stage.text or status != 4:
        raise DisorderError(
            f"a full disk gave status {status} instead of MV-SYSTEM-002 and 4:\n"
            + stage.text[-3000:]
        )
    mount(results, "remount,size=1g")


def mount(folder: Path, options: str) -> None:
    """Mount a file system in memory, or change it.

    Raises:
        SkippedError: it is not permitted here.
    """
    program = shutil.which("mount")
    if program is None:
        raise SkippedError("the program mount is missing")
    command = [program, "-t", "tmpfs", "-o", options, "minivess-chaos", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SkippedError(f"the right to mount a tmpfs is missing: {done.stderr.strip()}")


def database(stage: Stage) -> None:
    """The MLflow database deleted, at a random moment of the run or after its end."""
    if stage.rng.random() < 0.5:
        stage.complete()
        when = "after the end"
        delete_database(stage.bench.folder)
    else:
        process = stage.start()
        when = stage.random_moment(process) or "after the end"
        delete_database(stage.bench.folder)
        when += f", status {stage.wait(process)}"
    stage.say(f"database deleted {when}")


def delete_database(folder: Path) -> None:
    """Delete the database with its journals."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        (folder / f"mlflow.db{suffix}").unlink(missing_ok=True)


def database_locked(stage: Stage) -> None:
    """Another program holds the database for some seconds: nothing but a delay."""
    trained = any(stage.bench.root.rglob("run.json"))
    pattern = str(stage.rng.choice(USES_DATABASE[1:] if trained else USES_DATABASE))
    seconds = stage.rng.uniform(4.0, 10.0)
    path = stage.bench.folder / "mlflow.db"
    process = stage.start()
    came = stage.reached(process, lambda text: re.search(pattern, text) is not None)
    # Connecting would make an empty one.
    if not came or not path.exists():
        stage.say(f"nothing to lock: no {pattern!r}, status {stage.wait(process)}")
        return
    with closing(sqlite3.connect(path, timeout=60.0)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.rollback()
    status = stage.wait(process)
    stage.say(f"database locked for {seconds:.1f} s at {pattern!r}, status {status}")
    # After a kill there may be processes that lost their parent, and it may be their doing.
    if status != 0 and stage.attempts == 1:
        raise DisorderError(
            f"a database locked for {seconds:.1f} s stopped the run:\n" + stage.text[-3000:]
        )


DISTURBANCES: dict[str, Callable[[Stage], None]] = {
    "cores1": cores1,
    "cores2": cores2,
    "shuffled": shuffled,
    "kill": kill,
    "sigterm": sigterm,
    "interrupt": interrupt,
    "disk_full": disk_full,
    "database": database,
    "database_locked": database_locked,
}
