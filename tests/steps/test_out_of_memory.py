"""Whatever predicts goes on with less where memory runs out, and notes it where its result is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from minivess import output, paths
from minivess.data.folds import read_folds
from minivess.data.volume import read_note
from minivess.errors import MinivessError
from minivess.inference import predict
from minivess.steps import calibrate, ensemble_networks, ensembles, external, train
from minivess.steps.notes import memory_notes
from minivess.training.run import plan_run, write_run
from minivess.training.trainer import fit

from .conftest import RUNS, configured
from .test_external import OTHER, write_phantom

NOTE = "window_batch=1 after out of memory"
FAST = {"device": "cpu", "profile": "fast"}


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that has room for one window at once."""
    real = predict.predict_case

    def limited(trained: Any, case: Any, inference: Any, *rest: Any) -> Any:
        if inference.window_batch > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(trained, case, inference, *rest)

    for module in (predict, ensemble_networks):
        monkeypatch.setattr(module, "predict_case", limited)


def test_ensembles_note_it_in_their_record_and_the_summary(root: Path, small_memory: None) -> None:
    kinds = ["mean", "vote", "uniform_soup", "greedy_soup"]
    experiment = configured(Path(), compute=FAST, seeds=[0, 1], ensembles={"kinds": kinds})
    folds = read_folds(paths.folds(root))
    second = replace(RUNS[0], seed=1)
    plan = plan_run(experiment, second, folds, root)
    result = fit(plan.task, Path("state"), lambda row: None)
    write_run(experiment, plan, result, paths.run_folder(root, second))
    for run in (RUNS[0], second):
        for case in folds.folds[0].validation:
            train.predict(root, run, case)
    ensembles.ensembles(root, "tiny", "dice_ce", 0)
    folder = paths.ensembles(root, "tiny", "dice_ce", 0)
    record = output.read_json(paths.ensembles_record(folder))
    noted = record["notes"]
    files = [name for name in record["files"] if "/predictions/" in name]
    assert set(noted) == set(files)
    for name, note in noted.items():
        joined = name.startswith(("mean/", "vote/"))
        assert note == (f"2 of 2 members: {NOTE}" if joined else NOTE)
    told = memory_notes(root)
    assert [line for line in told if line.startswith("ensembles/")] == [
        f"ensembles/tiny/dice_ce/fold0/{name}: {note}." for name, note in sorted(noted.items())
    ]


def test_calibrators_note_the_cases_they_were_fitted_on(root: Path, small_memory: None) -> None:
    configured(Path(), compute=FAST, conformal={"alphas": [0.5]})
    fold = read_folds(paths.folds(root)).folds[0]
    for case in fold.validation:
        train.predict(root, RUNS[0], case)
    calibrate.calibrate(root, RUNS[0])
    record = output.read_json(paths.calibrators(paths.run_folder(root, RUNS[0])))
    assert record["notes"] == dict.fromkeys(fold.selection, NOTE)


def test_an_external_set_notes_it_in_its_result(root: Path, small_memory: None) -> None:
    write_phantom(OTHER, Path("other"))
    other = {"other": {"source": "csv", "path": "other/cases.csv"}}
    configured(Path(), compute=FAST, external=other)
    external.evaluate_external(root, "other")
    folder = paths.external_folder(root, "other")
    note = f"2 of 2 members: {NOTE}"
    result = output.read_json(paths.set_result(folder))
    assert result["notes"] == {f"phantom_00{number}": note for number in (1, 2, 3)}
    for place in (folder, paths.vote_folder(folder)):
        assert read_note(paths.prediction(place, "phantom_001")) == note


def _calibrate(root: Path) -> None:
    calibrate.calibrate(root, RUNS[0])


def _external(root: Path) -> None:
    external.evaluate_external(root, "other")


@pytest.mark.parametrize("step", [_calibrate, _external])
def test_the_profile_strict_says_what_to_set(
    root: Path, small_memory: None, step: Callable[[Path], None]
) -> None:
    write_phantom(OTHER, Path("other"))
    other = {"other": {"source": "csv", "path": "other/cases.csv"}}
    configured(Path(), conformal={"alphas": [0.5]}, external=other)
    with pytest.raises(MinivessError) as caught:
        step(root)
    assert caught.value.code == "MV-SYSTEM-006"
    assert "inference.window_batch=2" in caught.value.fix
