"""Trainings on several devices as the command line starts them; on the CPU, over gloo."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from minivess import paths
from minivess.config.load import write_step_files
from minivess.errors import MinivessError
from minivess.statistics import tables
from minivess.training.checkpoint import CHECKPOINT
from minivess.training.distributed import Team
from minivess.training.launch import ERROR_FILE, LAUNCHER, first_error, reporting

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

PROJECT = Path(__file__).parents[2]
FILES = (paths.weights, paths.history, paths.run_record)
TEAM = Team(0, 2, 0)
ERROR = MinivessError("MV-TRAIN-001", what="the loss", where="here", found="nan", fix="less")
LOST = MinivessError("MV-TRAIN-002", what="another has ended")


@dataclass(frozen=True)
class Place:
    """A working folder with the results of every step before the training."""

    folder: Path

    @property
    def root(self) -> Path:
        return Path("results/demo")

    @property
    def run(self) -> Path:
        return self.folder / self.root / "runs" / "dynunet" / "dice_ce" / "seed0" / "fold0"

    @property
    def log(self) -> Path:
        return self.folder / "train.log"

    @property
    def epoch(self) -> int:
        """Epoch of the last checkpoint; 0 before the first."""
        from safetensors import safe_open

        found = list((self.folder / self.root / ".state").glob(f"*/{CHECKPOINT}"))
        if not found:
            return 0
        with safe_open(found[0], framework="numpy") as file:
            return int(json.loads(file.metadata()["state"])["epoch"])

    def command(self, *start: str) -> list[str]:
        log = [] if start else ["--log", str(self.log)]  # which torchrun takes for its own
        key = ["--model", "dynunet", "--loss", "dice_ce", "--progress", "plain"]
        words = ["-m", "minivess", *log, "train", "--experiment", "demo", *key]
        return [sys.executable, *start, *words]

    def start(self, *start: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*start),
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def train(self, *start: str) -> tuple[int, str]:
        """Exit status and what was said."""
        process = self.start(*start)
        _, said = process.communicate(timeout=300)
        return process.returncode, said

    def runs(self) -> list[str]:
        """Status of every MLflow run."""
        with sqlite3.connect(self.folder / "mlflow.db") as database:
            return [row[0] for row in database.execute("SELECT status FROM runs")]


@pytest.fixture
def make_place(
    root: Path, tmp_path: Path, make_experiment: Callable[..., Any]
) -> Callable[..., Place]:
    def make(name: str = "a", **changes: Any) -> Place:
        place = Place(tmp_path / name)
        shutil.copytree(root, place.folder / place.root)
        write_step_files(make_experiment(**changes), place.folder / place.root / "config")
        return place

    return make


SHARED: dict[str, Any] = {"compute": {"devices": 2}}
LONG: dict[str, Any] = {
    **SHARED,
    "training": {"epochs": 8},
    "patches": {"batch_size": 4, "patches_per_epoch": 16},
}


def members(process: subprocess.Popen[str], size: int) -> list[psutil.Process]:
    """The processes that a launcher has started, by rank, once all are there."""
    parent, found = psutil.Process(process.pid), dict[str, psutil.Process]()
    end = time.monotonic() + 120
    while len(found) < size:
        for child in parent.children():
            # Others come and go: git, or a process that has not become Python yet.
            with suppress(psutil.NoSuchProcess, KeyError):
                found[child.environ()["RANK"]] = child
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.02)
    return [found[rank] for rank in sorted(found)]


def wait_for_epoch(place: Place, epoch: int) -> None:
    end = time.monotonic() + 240
    while place.epoch < epoch:
        assert time.monotonic() < end, f"epoch {place.epoch}"
        time.sleep(0.01)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def same_files(one: Place, other: Place) -> None:
    for file in FILES:
        assert file(one.run).read_bytes() == file(other.run).read_bytes(), file.__name__


def test_two_processes_give_what_one_gives_up_to_rounding(
    make_place: Callable[..., Place],
) -> None:
    import numpy as np
    from safetensors.numpy import load_file

    alone, shared = make_place("alone"), make_place("shared", **SHARED)
    assert alone.train()[0] == 0
    status, said = shared.train()
    assert status == 0, said
    # One process writes and speaks.
    assert said.count("sys_device = cpu") == 1
    assert said.count("epoch 3/3") == 1
    assert said.count("best epoch") == 1
    assert shared.log.read_text(encoding="utf-8").count("best epoch") == 1
    assert shared.runs() == ["FINISHED"]
    histories = [tables.read("history", paths.history(place.run)) for place in (alone, shared)]
    for name, tolerance in (("train/loss", 1e-5), ("selection/dice", 1e-3)):
        one, other = (h.filter(h["name"] == name)["value"].to_list() for h in histories)
        assert len(one) == 3
        assert other == pytest.approx(one, rel=tolerance)
    # Seen: 2e-6. Where a gradient is nearly zero its rounding decides where AdamW steps, and a step
    # is as large as the learning rate, 1e-2: a wrong gradient is seen, rounding is not.
    one, other = (load_file(paths.weights(place.run)) for place in (alone, shared))
    for name, tensor in one.items():
        np.testing.assert_allclose(other[name], tensor, rtol=1e-3, atol=1e-3)
    records = [json.loads(paths.run_record(place.run).read_bytes()) for place in (alone, shared)]
    assert records[0]["run_digest"] != records[1]["run_digest"]


def test_however_it_is_stopped_nothing_is_left_and_it_goes_on_to_the_same_bytes(
    make_place: Callable[..., Place],
) -> None:
    plain, place = make_place("plain", **LONG), make_place("stopped", **LONG)
    assert plain.train()[0] == 0

    # SIGTERM to the command.
    process = place.start()
    team = members(process, 2)
    wait_for_epoch(place, 1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert said.count("the same command goes on from here") == 1
    assert place.runs() == ["KILLED"]
    assert_gone(team)

    # SIGKILL to one of its processes.
    process = place.start()
    team = members(process, 2)
    wait_for_epoch(place, 3)
    team[1].kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 8, said
    assert said.count("MV-TRAIN-002") == 1
    assert "SIGKILL" in said
    # The leading process meets the loss itself, or is told to end before it does.
    assert place.runs() in (["FAILED"], ["KILLED"])
    assert_gone(team)

    # SIGKILL to the command itself, and to nothing else.
    process = place.start()
    team = members(process, 2)
    wait_for_epoch(place, 5)
    process.kill()
    process.communicate(timeout=60)
    assert_gone(team)

    # Once more, this time by torchrun.
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    status, said = place.train(*torchrun)
    assert status == 0, said
    assert "epoch 5/8" not in said
    assert said.count("epoch 8/8") == 1
    assert place.runs() == ["FINISHED"]
    same_files(plain, place)


def test_an_error_of_a_process_is_the_error_of_the_command(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(**{**SHARED, "training": {"learning_rate": 1e30}})
    status, said = place.train()
    assert status == 8
    assert said.count("MV-TRAIN-001") == 1
    assert "lower training.learning_rate" in said
    assert "Traceback" not in said
    record = json.loads(place.log.with_suffix(".error.json").read_text(encoding="utf-8"))
    assert (record["code"], record["status"]) == ("MV-TRAIN-001", 8)
    log = place.log.read_text(encoding="utf-8")
    assert "sys_device = cpu" in log, "what was said before the error is still there"
    assert "In process" in log
    assert "_finite" in log, "the traceback of that process"
    assert place.runs() == ["FAILED"]


@pytest.mark.parametrize(
    ("changes", "environment", "code", "expected"),
    [
        ({"compute": {"devices": 3}}, {}, "MV-CONFIG-004", "patches.batch_size=3"),
        ({}, {"RANK": "0", "WORLD_SIZE": "2"}, "MV-CONFIG-004", "compute.devices=2"),
        (
            {"compute": {"devices": 2, "device": "cuda"}},
            {"CUDA_VISIBLE_DEVICES": ""},
            "MV-SYSTEM-003",
            "0 CUDA device(s)",
        ),
    ],
    ids=["shares", "torchrun without the key", "GPUs"],
)
def test_what_cannot_be_shared_is_said_before_anything_starts(
    make_place: Callable[..., Place],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    environment: dict[str, str],
    code: str,
    expected: str,
) -> None:
    from minivess.steps.train import train
    from minivess.types import RunKey

    place = make_place(**changes)
    monkeypatch.chdir(place.folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MinivessError) as caught:
        train(place.root, RunKey("dynunet", "dice_ce", 0, 0), "none")
    assert caught.value.code == code
    assert expected in str(caught.value)
    assert "compute.devices" in str(caught.value)


# Errors of the processes, as they leave them and as the launcher reads them


def left(folder: Path, rank: int, error: Exception | None, status: int) -> ProcessFailure:
    """A process that has failed, as torchrun's launcher describes it."""
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    file = folder / f"{rank}.json"
    if error is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ERROR_FILE, str(file))
            with pytest.raises((SystemExit, type(error))), reporting(Team(rank, 4, rank)):
                raise error
        assert file.exists()
    return ProcessFailure(rank, 1000 + rank, status, str(file))


def test_the_error_of_a_process_comes_before_those_of_its_companions(tmp_path: Path) -> None:
    failures = {
        0: left(tmp_path, 0, LOST, 8),
        1: left(tmp_path, 1, None, 143),
        2: left(tmp_path, 2, ERROR, 8),
    }
    found = first_error(failures, 4)
    assert asdict(found) == asdict(ERROR)
    assert found.exit_status == 8
    assert any("In process 2 of 4" in note for note in found.__notes__)


def test_of_two_errors_the_first_one_counts(tmp_path: Path) -> None:
    second = MinivessError("MV-SYSTEM-002", what="disk full")
    failures = {1: left(tmp_path, 1, ERROR, 8), 0: left(tmp_path, 0, second, 4)}
    assert first_error(failures, 2).code == "MV-TRAIN-001"


def test_a_killed_process_explains_its_companions(tmp_path: Path) -> None:
    failures = {
        0: left(tmp_path, 0, LOST, 8),
        1: left(tmp_path, 1, None, -15),
        2: left(tmp_path, 2, None, -9),
    }
    found = first_error(failures, 4)
    assert found.code == "MV-TRAIN-002"
    assert found.found == "SIGKILL"
    assert found.where.startswith("process 2 of 4")


def test_a_process_that_ends_without_a_word_is_named(tmp_path: Path) -> None:
    failures = {0: left(tmp_path, 0, None, 143), 1: left(tmp_path, 1, None, 3)}
    assert first_error(failures, 2).found == "exit status 3"


def test_a_defect_in_a_process_is_reported_as_one(tmp_path: Path) -> None:
    found = first_error({1: left(tmp_path, 1, ZeroDivisionError("by zero"), 1)}, 2)
    assert found.code == "MV-INTERNAL-001"
    assert found.found == "ZeroDivisionError: by zero"
    assert "Traceback" in found.__notes__[0]


def test_started_by_us_a_process_leaves_the_telling_to_its_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys\n"
        "from minivess.errors import MinivessError\n"
        "from minivess.training.distributed import Team\n"
        "from minivess.training.launch import reporting\n"
        "with reporting(Team(1, 2, 1)):\n"
        "    raise MinivessError('MV-SYSTEM-002', what='disk full')\n"
    )
    environment = {**os.environ, LAUNCHER: str(os.getpid()), ERROR_FILE: str(tmp_path / "error")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (4, "")
    assert "MV-SYSTEM-002" in (tmp_path / "error").read_text(encoding="utf-8")
    # One whose launcher has ended before it came so far does not start at all.
    environment[LAUNCHER] = "1"
    late = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert late.returncode == 128 + signal.SIGTERM


def test_a_process_alone_reports_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "error"))
    with pytest.raises(MinivessError), reporting(Team()):
        raise ERROR
    assert not (tmp_path / "error").exists()


def test_one_device_needs_nothing_of_this() -> None:
    code = (
        "import sys\n"
        "from minivess.steps import train\n"
        "from minivess.training import distributed, launch, run, trainer\n"
        "assert not [name for name in sys.modules if name.startswith('torch')], 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
