"""Experiments that the workflow's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock
from workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    workbench = Workbench(tmp_path)
    workbench.write_config()
    return workbench


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The tiny experiment, run once to its end for all workers of pytest; tests only read it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return finish(Workbench(tmp_path_factory.mktemp("finished")))
    shared = tmp_path_factory.getbasetemp().parent / "finished"
    with FileLock(shared.with_suffix(".lock")):
        workbench = Workbench(shared)
        if not (shared / "done").exists():
            shared.mkdir(exist_ok=True)
            finish(workbench)
            (shared / "done").touch()
    return workbench


def finish(workbench: Workbench) -> Workbench:
    """Run the tiny experiment on two cores."""
    workbench.write_config()
    workbench.complete()
    return workbench
