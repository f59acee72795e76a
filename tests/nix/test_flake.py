"""The Nix flake: its lock, every output, the demo where it is called, and broken copies of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run")


@pytest.mark.skipif(shutil.which("nix") is None, reason="no program nix: tests/nix/run installs it")
def test_the_flake_is_sound_and_broken_ones_are_found_out() -> None:
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok: ") == 12
