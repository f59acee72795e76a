"""A finished experiment in miniature: real data, folds and networks, a champion given."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from minivess import output, paths, provenance
from minivess.config.load import resolve, write_step_files
from minivess.config.schema import Experiment
from minivess.data.folds import read_folds
from minivess.data.manifest import read_manifest
from minivess.reproducibility.graph import write_graph
from minivess.reproducibility.records import JobRecord, record_file
from minivess.steps import data, locked_set
from minivess.training.run import plan_run, write_run
from minivess.training.trainer import fit
from minivess.types import RunKey

LOCKED = "phantom_005"
SMALL: dict[str, Any] = {
    "presets": {"augment": "none"},
    "losses": ["dice_ce"],
    "models": {"tiny": {"filters": [4, 8, 8]}},
    "phantom": {"n_cases": 5, "phantom_shape": [16, 16, 8]},
    "folds": {"n_folds": 2, "test_cases": [LOCKED]},
    "patches": {"patch_size": [8, 8, 4], "patches_per_epoch": 4},
    "training": {"epochs": 1, "warmup_fraction": 0},
    "compute": {"device": "cpu"},
    "statistics": {"bootstrap_resamples": 99},
}
RUNS = [RunKey("tiny", "dice_ce", 0, fold) for fold in (0, 1)]


def configured(folder: Path, **changes: Any) -> Experiment:
    """The experiment with other sections; its step files are written."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}), encoding="utf-8")
    experiment = resolve(str(file))
    write_step_files(experiment, folder / "results" / "small" / "config")
    return experiment


def run_again(folder: Path, **changes: Any) -> None:
    """The experiment with other sections, and the records that its jobs leave then."""
    configured(folder, **changes)
    root = Path("results/small")
    configs = {path.stem: provenance.file_sha256(path) for path in root.glob("config/*.yaml")}
    jobs = []
    for rule in locked_set.RULES:
        log, made = paths.log(root, rule), (root / f"{rule}.made").as_posix()
        values: dict[str, Any] = {field.name: None for field in fields(JobRecord)}
        values |= {"rule": rule, "root": root.as_posix(), "outputs": {made: "0"}, "ended": ""}
        output.write_json(values | {"config": configs}, record_file(log))
        output.write_text("", log)
        job = {"rule": rule, "command": "", "log": [log.as_posix()], "outputs": [made]}
        jobs.append(job | {"inputs": [paths.step_config(root, rule).as_posix()]})
    write_graph(root, jobs, None)


def make_data(root: Path) -> None:
    """Every data step, as the DAG calls them."""
    data.manifest(root)
    data.validate_cases(root)
    data.accept_cases(root)
    data.folds(root)
    for fold in read_folds(paths.folds(root)).folds:
        for case in fold.validation:
            data.preprocess(root, case)


def make_runs(experiment: Experiment, root: Path) -> None:
    for run in RUNS:
        plan = plan_run(experiment, run, read_folds(paths.folds(root)), root)
        result = fit(plan.task, root / ".state" / str(run.fold), lambda row: None)
        write_run(experiment, plan, result, paths.run_folder(root, run))


def give_champion(root: Path) -> None:
    weights = paths.weights(paths.run_folder(root, RUNS[0]))
    champion = {"model": "tiny", "loss": "dice_ce", "run": str(RUNS[0])}
    champion["weights_sha256"] = provenance.file_sha256(weights)
    output.write_json({"champions": {"balanced": champion}}, paths.champions(root))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the experiment, made once; tests take copies."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("small")
    root = folder / "results" / "small"
    experiment = configured(folder)
    data.phantom(root)
    make_data(root)
    make_runs(experiment, root)
    give_champion(root)
    torch.set_num_threads(threads)
    assert read_manifest(paths.manifest(root))["locked"].sum() == 1
    return folder


@pytest.fixture
def root(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Results of one's own, in the working folder of the test."""
    shutil.copytree(small, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    threads, debug = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    # The manifest names the volumes where they were made.
    root = Path("results/small")
    data_folder = tmp_path / "work" / root
    run_again(tmp_path / "work")
    assert data_folder.is_dir()
    data.manifest(root)
    yield root
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(debug)
