"""The tiny experiment against the committed digests of this kind of machine."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from workbench import PROJECT, Workbench

from minivess.reproducibility.golden import GOLDEN, check_golden, machine_kind

pytestmark = pytest.mark.dag


def test_the_tiny_experiment_has_its_committed_bytes(finished: Workbench, tmp_path: Path) -> None:
    """On a kind of machine without committed digests the outcome is a warning, with the file."""
    shutil.copytree(PROJECT / GOLDEN / "tiny", tmp_path / "tiny")
    checked = check_golden(finished.root, tmp_path / "tiny", machine_kind())
    if checked.known:
        assert checked.equal_to == (machine_kind(),)
    else:
        warnings.warn(str(checked), stacklevel=1)
        assert len(checked.equal_to) + len(checked.different_from) >= 1
