"""The benchmark of losses measures every loss and writes its section."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "losses.py"


def test_one_loss_is_measured() -> None:
    command = [sys.executable, str(SCRIPT), "--shape", "32", "32", "8", "--runs", "1"]
    done = subprocess.run(
        [*command, "--part", "dice_ce"], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["seconds"] > 0
    assert found["mb"] >= 0


def test_the_section_has_a_row_for_each_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("bench_losses", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {"slow": {"seconds": 1.5, "mb": 20.4}, "fast": {"seconds": 0.25, "mb": 3.0}}
    lines = module.section(found, (8, 8, 4), 3).splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == ["| `fast` | 0.250 | 3 |", "| `slow` | 1.500 | 20 |"]
    assert any("8 x 8 x 4" in line for line in lines)
