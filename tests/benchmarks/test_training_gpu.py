"""What the benchmark of a GPU does without one: sides in turn, operations, and its page."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FOLDER = Path(__file__).parents[2] / "benchmarks"
OWN = ("page", "sides", "networks", "nnunet", "training", "training_gpu")

SIDE = """
import argparse, os, time
import sides
parser = argparse.ArgumentParser()
sides.add_options(parser, ["one", "two"])
given = parser.parse_args()
(given.folder / given.part).write_text(str(os.getpid()))
asked = []
def work():
    asked.append(1)
    print("a library says something")
    return sides.Run(len(asked), 0.5, 1.0, {"part": given.part})
if given.part == "two" and given.runs == 9:
    while not (given.folder / "one").exists():
        time.sleep(0.01)
    raise SystemExit(3)
sides.answering(work)
"""


@pytest.fixture
def training_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("training_gpu")
    for name in OWN:
        sys.modules.pop(name, None)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    file = tmp_path / "side.py"
    file.write_text(SIDE, encoding="utf-8")
    return file


def test_sides_stay_and_answer_in_turn(training_gpu: ModuleType, script: Path) -> None:
    runs = training_gpu.in_turn(script, script.parent, [], ["one", "two"], 3)
    for name in ("one", "two"):
        assert [run.seconds for run in runs[name]] == [1, 2, 3], "one process for all runs"
        assert [run.found for run in runs[name]] == [{"part": name}] * 3


def test_a_side_that_fails_ends_the_others(training_gpu: ModuleType, script: Path) -> None:
    with pytest.raises(SystemExit, match="two ended with status 3"):
        training_gpu.in_turn(script, script.parent, ["--runs", "9"], ["one", "two"], 9)
    for name in ("one", "two"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((script.parent / name).read_text(encoding="utf-8")), 0)


def test_the_operations_of_a_step_are_counted(training_gpu: ModuleType) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    given = training_gpu.parsed(["--patch", "16", "16", "8", "--filters", "8", "16", "32"])
    network = sys.modules["networks"].plain(given.filters)
    image = torch.randn(given.batch, 1, *given.patch)
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    # The first convolution needs no gradient of the image.
    assert training_gpu.operations(given) == pytest.approx(counter.get_total_flops(), rel=0.04)


def test_the_page_says_whether_the_target_holds(
    training_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_gpu, "PACKAGES", ["torch"])
    run = sys.modules["sides"].Run
    seconds = {"fast": 0.010, "compiled": 0.005, "nnunet": 0.010, "nnunet_eager": 0.012}
    runs = {name: [run(value, 0.0, 1.0)] * 2 for name, value in seconds.items()}
    text = training_gpu.section(training_gpu.parsed([]), runs, "a card", 1e14, 1e11)
    assert "nnU-Net's two: 1.00 times (target: at least 1.3, does not hold)" in text
    assert "Compiled, faster than the faster of nnU-Net's two: 2.00 times" in text
    assert "| 100.0 | 10.0 | 10.0 to 10.0 | 10.0% | 1.00 |" in text
    assert "Machine: a card" in text


def test_without_a_gpu_it_says_so(training_gpu: ModuleType) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit, match="no CUDA device"):
        training_gpu.main([])
