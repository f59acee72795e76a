"""What the summary says of vessels that a loss never sees, and of memory that ran out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minivess import output, paths
from minivess.config.load import resolve_mapping, write_step_files
from minivess.data.folds import Fold, Folds, write_folds
from minivess.steps import data
from minivess.steps.notes import memory_notes, skeleton_notes
from minivess.types import RunKey

LOSSES = ("dice_ce", "dice_ce_skeleton_recall")


def test_components_without_a_skeleton_are_recorded_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import polars as pl

    counts = {"a": (1, 3), "b": (0, 5), "c": (2, 2)}
    table = pl.DataFrame({"case": [*counts, "d"], "locked": [False, False, False, True]})
    monkeypatch.setattr("minivess.data.manifest.read_manifest", lambda path: table)
    monkeypatch.setattr(
        "minivess.data.skeletons.write_label_skeleton", lambda folder: counts[folder.name]
    )
    said: list[str] = []
    monkeypatch.setattr(data, "say", said.append)
    data.skeletons(tmp_path)
    record = output.read_json(paths.skeletons_record(tmp_path))
    assert record == {
        case: {"components": count, "without_skeleton": erased}
        for case, (erased, count) in counts.items()
    }
    (note,) = skeleton_notes(tmp_path, LOSSES)
    assert "3 of 10 vessel components, in 2 of 3 cases" in note
    assert "for dice_ce_skeleton_recall" in note
    assert "warning a: 1 of 3" in " ".join(said)
    assert skeleton_notes(tmp_path, LOSSES[:1]) == [], "no loss of this experiment needs them"


def test_nothing_is_told_where_every_component_has_one(tmp_path: Path) -> None:
    record = {"a": {"components": 2, "without_skeleton": 0}}
    output.write_json(record, paths.skeletons_record(tmp_path))
    assert skeleton_notes(tmp_path, LOSSES) == []


def record_run(root: Path, run: RunKey) -> None:
    """A run that memory ran out in."""
    record = {"params": {"out_of_memory": "batch_size=1"}, "cases": {"validation": []}}
    output.write_json(record, paths.run_record(paths.run_folder(root, run)))


def test_a_run_of_an_earlier_config_is_none_of_the_experiment(tmp_path: Path) -> None:
    experiment = resolve_mapping({"name": "x", "losses": ["dice_ce"], "seeds": [0]}, {}, "test")
    write_step_files(experiment, tmp_path / "config")
    fold = Fold(train=("a",), selection=("b",), validation=("c",))
    write_folds(Folds((fold,), (), "0"), paths.folds(tmp_path))
    (run,) = experiment.runs(1)
    record_run(tmp_path, run)
    of_a_clean_run = memory_notes(tmp_path)
    assert of_a_clean_run == [f"Out of memory: {run} was trained with batch_size=1."]
    for left in ({"model": "gone"}, {"loss": "gone"}, {"seed": 7}, {"fold": 1}):
        record_run(tmp_path, replace(run, **left))
    assert memory_notes(tmp_path) == of_a_clean_run
