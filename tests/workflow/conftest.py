"""Experiments that the workflow's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    workbench = Workbench(tmp_path)
    workbench.write_config()
    return workbench


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The tiny experiment, run once to its end on two cores; tests only read it."""
    workbench = Workbench(tmp_path_factory.mktemp("finished"))
    workbench.write_config()
    workbench.complete()
    return workbench
