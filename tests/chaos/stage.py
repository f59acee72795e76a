"""One working folder in which the experiment runs and is disturbed."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from workbench import Workbench

from chaos import processes

NAME = "chaos"
# All but the report, which is no part of the digests. `digests` alone would not miss a deleted
# database: Snakemake makes a lost file again only where it is asked for by name.
TARGETS = ("results", "digests")
# As small as the DAG allows, but with a training that can be hit between and within epochs.
CHANGES = {
    "losses": ["dice_ce"],
    "training": {"epochs": 6, "selection_every": 2, "learning_rate": 0.003},
    "statistics": {"bootstrap_resamples": 99, "permutation_resamples": 99},
}
# Lines of Snakemake's output by which the time of a run is told.
EVENT = re.compile(r"^(Job \d+: .*|Finished jobid: .*|\S+: epoch \d+/\d+)", re.MULTILINE)
RUN_TIMEOUT_S = 1800.0


class DisorderError(Exception):
    """Something that no disturbance may cause."""


class SkippedError(Exception):
    """A disturbance that cannot be made on this machine."""


@dataclass(frozen=True)
class Reference:
    """The undisturbed run."""

    bench: Workbench
    sums: dict[str, str]
    files: dict[str, str]  # more than is in sums: the config of each step
    events: int
    seconds: float = 0.0


@dataclass
class Stage:
    """The folder, where its random choices come from, and what was done so far."""

    bench: Workbench
    rng: np.random.Generator
    reference: Reference
    say: Callable[[str], None] = print
    cores: int = 2
    more: tuple[str, ...] = ()
    attempts: int = 1  # starts until a run must succeed
    seen: int = 0  # events of all starts so far
    starts: int = 0
    mounted: list[Path] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the newest start has printed."""
        return output(self.bench, self.starts).read_text(encoding="utf-8", errors="replace")

    def start(self, *targets: str) -> subprocess.Popen[bytes]:
        """Start Snakemake, by default to the end of the experiment."""
        return self.launch(
            self.bench.command(*(targets or TARGETS), cores=self.cores, more=self.more)
        )

    def launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a command in the folder, in a session of its own."""
        self.starts += 1
        with output(self.bench, self.starts).open("wb") as file:
            return subprocess.Popen(
                command,
                cwd=self.bench.folder,
                env=self.bench.env(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, process: subprocess.Popen[bytes], timeout_s: float = RUN_TIMEOUT_S) -> int:
        """The exit status of a process that was started here."""
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DisorderError(f"still running after {timeout_s:.0f} s") from None
        self.seen += len(EVENT.findall(self.text))
        return status

    def reached(self, process: subprocess.Popen[bytes], condition: Callable[[str], bool]) -> bool:
        """Wait until what the newest start prints fulfils a condition; whether it came so far."""
        while not condition(self.text):
            if process.poll() is not None:
                return condition(self.text)
            time.sleep(0.02)
        return True

    def random_moment(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for a random moment of what is left to do; empty where the run ended before it.

        The moment is a number of events in the output, and at once or up to two seconds later.
        """
        remaining = max(self.reference.events // 8, self.reference.events - self.seen)
        event, delay = int(self.rng.integers(remaining)), max(0.0, self.rng.uniform(-1.0, 2.0))
        if not self.reached(process, lambda text: len(EVENT.findall(text)) >= event):
            return ""
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            last = repr(EVENT.findall(self.text)[event - 1]) if event else "the start"
            return f"{delay:.1f} s after {last}"
        return ""

    def complete(self, *targets: str) -> None:
        """Run to the end, plainly again where it does not come there."""
        for attempt in range(1, self.attempts + 1):
            status = self.wait(self.start(*targets))
            if status == 0:
                return
            self.say(f"start {self.starts} ended with status {status}: {failure(self.text)}")
            if attempt < self.attempts:
                self.nobody_left()
        raise DisorderError(
            f"no end in {self.attempts} starts; see {output(self.bench, self.starts)}:\n"
            + self.text[-3000:]
        )

    def nobody_left(self, timeout_s: float = 120.0) -> None:
        """Wait for processes that lost their parent; raise where they do not end."""
        running = processes.wait_until_gone(self.bench.folder, timeout_s)
        if running:
            names = ", ".join(f"{process.pid} {processes.title(process)}" for process in running)
            raise DisorderError(f"processes are left: {names}")

    def choose(self, running: list[psutil.Process]) -> psutil.Process | None:
        """One of them at random."""
        return running[int(self.rng.integers(len(running)))] if running else None


def failure(text: str) -> str:
    """The errors in what a start printed, in a line."""
    lines = re.findall(
        r"^(?:MV-[A-Z]+-\d+:|\w*(?:Error|Exception)\b|Error in ).*", text, re.MULTILINE
    )
    return "; ".join(dict.fromkeys(lines)) or text[-300:]


def output(bench: Workbench, start: int) -> Path:
    """What a start printed."""
    return bench.folder / f"output-{start}.txt"


@contextmanager
def stage(
    folder: Path, rng: np.random.Generator, reference: Reference, say: Callable[[str], None]
) -> Iterator[Stage]:
    """A new working folder; whatever happens, no process and no mount is left of it."""
    bench = new_bench(folder, reference.bench.project)
    made = Stage(bench, rng, reference, say)
    try:
        yield made
    finally:
        processes.kill_all(bench.folder)
        for mount in made.mounted:
            unmount(mount)


def unmount(mount: Path) -> None:
    """Unmount a folder; what is in it stays, in a plain folder of the same name."""
    kept = mount.with_name(mount.name + ".kept")
    shutil.copytree(mount, kept, symlinks=True)
    subprocess.run([str(shutil.which("umount")), str(mount)], check=True)
    mount.rmdir()
    kept.rename(mount)


def new_bench(folder: Path, project: Path) -> Workbench:
    """A working folder with the config of the experiment."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        processes.VARIABLE: str(folder),
        # Its own store, whatever the shell says.
        "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    }
    bench = Workbench(folder, project, environment, NAME)
    bench.write_config(**CHANGES)
    return bench


def read_reference(bench: Workbench, seconds: float = 0.0) -> Reference:
    """The reference in a folder where it has run."""
    events = len(EVENT.findall(output(bench, 1).read_text(encoding="utf-8")))
    return Reference(bench, bench.recorded(), bench.digests(), events, seconds)


def make_reference(folder: Path, project: Path) -> Reference:
    """Run the experiment once, undisturbed, on two cores."""
    begin = time.monotonic()
    bench = new_bench(folder, project)
    undisturbed = Stage(bench, np.random.default_rng(0), Reference(bench, {}, {}, 0))
    try:
        undisturbed.complete()
    finally:
        processes.kill_all(folder)
    return read_reference(bench, time.monotonic() - begin)
