"""Experiments that the workflow's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.stage import Reference, make_reference, new_bench, read_reference
from filelock import FileLock
from workbench import PROJECT, Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    workbench = Workbench(tmp_path)
    workbench.write_config()
    return workbench


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The tiny experiment, run once to its end for all workers of pytest; tests only read it."""

    def finish(folder: Path) -> None:
        workbench = Workbench(folder)
        workbench.write_config()
        workbench.complete()

    return Workbench(made_once(tmp_path_factory, "finished", finish))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The experiment of the stress tests, run once and left in peace; tests only read it."""

    def finish(folder: Path) -> None:
        make_reference(folder, PROJECT)

    folder = made_once(tmp_path_factory, "undisturbed", finish)
    return read_reference(new_bench(folder, PROJECT))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker of pytest that needs it makes for all."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = factory.mktemp(name)
        make(folder)
        return folder
    shared = factory.getbasetemp().parent / name
    with FileLock(shared.with_suffix(".lock")):
        if not (shared / "done").exists():
            shared.mkdir(exist_ok=True)
            make(shared)
            (shared / "done").touch()
    return shared
