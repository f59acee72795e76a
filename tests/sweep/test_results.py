"""Records, values and results of trials, without a training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sweep_project import RATES, Make

from minivess import output, paths
from minivess.config.load import resolve
from minivess.data.folds import Fold, Folds, write_folds
from minivess.errors import MinivessError
from minivess.flows import snakemake
from minivess.statistics import tables
from minivess.sweep import run
from minivess.sweep.figure import draw
from minivess.sweep.results import (
    best_trial,
    summary,
    trial_line,
    trials_table,
    write_best,
    write_results,
)
from minivess.sweep.trial import (
    SweepStopped,
    Trial,
    link_files,
    prepare_data,
    reached,
    read_trial,
    run_trial,
    shared_files,
    sweep_root,
    trial_digest,
    write_experiment,
)
from minivess.workflow import Plan, hold_lock, release_locks

FAILED = {"code": "MV-TRAIN-001", "text": "the loss is no longer finite"}
RUNS = ("tiny/dice_ce/seed0/fold0", "tiny/dice_ce/seed0/fold1")


def trial(number: int, rate: float, values: tuple[float, ...] = ()) -> Trial:
    changed = {"training.learning_rate": rate}
    runs = dict(zip(RUNS, values, strict=False))
    return Trial(number, changed, runs, None if values else FAILED)


TRIALS = [trial(0, 0.003, (0.5, 0.6)), trial(1, 0.01), trial(2, 0.001, (0.75, 0.65))]


def test_nothing_is_dropped_from_the_table(make: Make) -> None:
    sweep = make()
    text = write_results(sweep, TRIALS)
    files = [path for path in sweep_root(sweep).rglob("*") if path.is_file()]
    kinds = {".svg", ".pdf", ".png", ".json", ".csv", ".parquet", ".txt"}
    assert {path.suffix for path in files} == kinds
    table = pl.read_parquet(paths.table(sweep_root(sweep), "trials"))
    assert table["state"].to_list() == ["complete", "failed", "complete"]
    assert table["value"].to_list() == [pytest.approx(0.55), None, pytest.approx(0.7)]
    assert table["best"].to_list() == pytest.approx([0.55, 0.55, 0.7])
    assert table["seed0/fold1"].to_list() == [0.6, None, 0.65]
    assert table["training.learning_rate"].to_list() == [0.003, 0.01, 0.001]
    assert table["error"].to_list() == [None, "MV-TRAIN-001", None]
    written = pl.read_csv(paths.trials_csv(sweep_root(sweep)))
    assert written["value"].to_list() == pytest.approx(table["value"].to_list())
    assert "3 trials of tiny.yaml, 1 failed" in text
    assert "Failed: trial 1, MV-TRAIN-001" in text
    assert "Best: trial 2, 0.7000: training.learning_rate=0.001" in text
    assert "as it is (trial 0): 0.5500" in text
    flat = " ".join(text.split())
    assert "looked at 4 times; the best of 3 values is too good by chance" in flat
    assert "One training seed" in flat
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_sweep_whose_trials_all_failed_has_results_too(make: Make) -> None:
    sweep, failed = make(), [trial(0, 0.003), trial(1, 0.01)]
    assert best_trial(sweep, failed) is None
    assert trials_table(sweep, failed)["value"].to_list() == [None, None]
    assert "No trial has finished" in summary(sweep, failed, None)
    assert len(draw(sweep, failed).axes) == 3


def test_the_best_is_an_experiment(make: Make) -> None:
    sweep = make(overrides={"epochs": 3})
    best = best_trial(sweep, TRIALS)
    assert best is not None
    path = write_best(sweep, best, 3)
    found = resolve(str(path))
    assert (found.name, found.training.epochs) == ("rates-best", 3)
    assert found.training.learning_rate == 0.001
    assert "# Best of 3 trials" in path.read_text(encoding="utf-8")


def test_the_line_of_a_trial(make: Make) -> None:
    sweep = make()
    line = trial_line(sweep, TRIALS[:1], 3)
    assert line == (
        "trial 0 (1 of 3): selection dice 0.5500 (seed0/fold0 0.5000, seed0/fold1 0.6000); "
        "training.learning_rate=0.003; best: trial 0, 0.5500"
    )
    assert "trial 1 (2 of 3): failed, MV-TRAIN-001" in trial_line(sweep, TRIALS[:2], 3)


def test_the_value_is_of_the_selection_cases_alone(tmp_path: Path) -> None:
    run_columns = {"experiment": "x", "model": "m", "loss": "l", "seed": 0, "fold": 0}
    values: dict[str, list[float]] = {
        "selection/dice": [0.5, 0.8, 0.7],
        "selection/masd_um": [3.0, 2.0, 2.5],
        "selection/cldice": [0.5, 0.6, 0.9],
        "train/loss": [0.9, 0.95, 0.99],
    }
    rows: list[dict[str, object]] = [
        {**run_columns, "epoch": epoch, "name": name, "value": value}
        for name, curve in values.items()
        for epoch, value in enumerate(curve, 1)
    ]
    path = tmp_path / "history.parquet"
    output.write_parquet(tables.from_rows("history", rows), path)
    assert reached(path, "dice", "dice") == 0.8
    assert reached(path, "masd_um", "masd_um") == 2.0
    assert reached(path, "dice", "cldice") == 0.7, "with the weights that are kept"


def data_of(make: Make, **keys: Any) -> tuple[Any, Plan]:
    """A sweep, and the plan of its prepared data, of which only the folds are there."""
    sweep = make(**keys)
    path = write_experiment(sweep, "rates-sweep", {})
    plan = snakemake.planned(str(path), [])
    cases = [f"phantom_{n:03d}" for n in range(1, 5)]
    fold = Fold(tuple(cases[:1]), tuple(cases[1:2]), tuple(cases[2:]))
    other = Fold(tuple(cases[2:3]), tuple(cases[3:]), tuple(cases[:2]))
    write_folds(Folds((fold, other), (), "0" * 64), paths.folds(plan.root))
    return sweep, plan


def test_trials_share_what_their_keys_do_not_change(make: Make) -> None:
    sweep, data = data_of(make)

    def shared(**changed: Any) -> set[str]:
        path = write_experiment(
            sweep, "rates-trial-000", {k.replace("_X_", "."): v for k, v in changed.items()}
        )
        found = shared_files(data, snakemake.planned(str(path), []))
        assert all(data.root in target.parents for target in found.values())
        return {link.name for link in found}

    everything = shared(training_X_learning_rate=0.001)
    assert {"folds.json", "manifest.parquet", "image.npy", "accepted.json"} <= everything
    assert "phantom_001.nii.gz" in everything
    smaller = shared(patches_X_patch_size=[8, 8, 8])
    assert "image.npy" in smaller
    assert everything - smaller == {"accepted.json", "validation.parquet", "validation.html"}
    assert "image.npy" not in shared(preprocess_X_normalisation="minmax")
    # Skeletons, where the sweep has made them.
    made = {"label_skeleton.npy", "skeletons.json"}
    assert not made & everything
    for case in data.unlocked():
        output.write_json(case, paths.label_skeleton(data.root, case))
    assert shared(training_X_learning_rate=0.001) == everything | made
    assert not made & shared(preprocess_X_normalisation="minmax")


@pytest.mark.parametrize(
    ("losses", "choices", "wanted"),
    [
        (["dice_ce"], None, False),
        (["dice_ce_skeleton_recall"], None, True),
        (["dice_ce"], [["dice_ce"], ["dice_ce_skeleton_recall"]], True),
        (["dice_ce_skeleton_recall"], [["dice_ce"], ["cbdice"]], False),
    ],
)
def test_skeletons_are_made_once_for_all_trials_where_one_may_need_them(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    losses: list[str],
    choices: list[list[str]] | None,
    wanted: bool,
) -> None:
    more = {} if choices is None else {"losses": {"choices": choices}}
    sweep = make(space={**RATES, **more}, overrides={"losses": losses})
    asked: list[tuple[str, ...]] = []

    def attempt(request: snakemake.Request, **named: Any) -> snakemake.Outcome:
        asked.append(request.targets)
        return snakemake.Outcome(0)

    monkeypatch.setattr(snakemake, "attempt", attempt)
    prepare_data(sweep, "1")
    assert asked == [("prepared_cases", "skeletons") if wanted else ("prepared_cases",)]


def test_a_step_that_writes_leaves_the_shared_file_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "a" / "x.json", tmp_path / "b" / "c" / "x.json"
    output.write_json(1, target)
    link_files({link: target})
    link_files({link: target})
    assert link.is_symlink()
    assert not Path(link.readlink()).is_absolute()
    assert output.read_json(link) == 1
    output.write_json(2, link)
    assert (output.read_json(target), output.read_json(link)) == (1, 2)
    assert not link.is_symlink()


def test_a_trial_that_contradicts_itself_has_failed_and_stays_so(make: Make) -> None:
    space = {"training.schedule": {"choices": ["cosine", "constant"]}}
    sweep, data = data_of(make, space=space, overrides={"training.snapshot_cycles": 2})
    values = {"training.schedule": "constant"}
    assert read_trial(sweep, 1, values, data) is None
    failed = run_trial(sweep, 1, values, data, "1")
    assert failed.error is not None
    assert (failed.value, failed.error["code"]) == (None, "MV-CONFIG-004")
    assert "snapshot_cycles" in failed.error["text"]
    assert read_trial(sweep, 1, values, data) == failed
    assert read_trial(sweep, 1, {"training.schedule": "cosine"}, data) is None, "other values"


def test_a_trial_is_known_by_the_weights_that_it_begins_with(make: Make) -> None:
    sweep, data = data_of(make)
    Path("a.safetensors").write_bytes(b"a")
    begun = [{"training.warm_start": "a.safetensors"}, {"models.tiny.weights": "a.safetensors"}]
    plain = {"training.learning_rate": 0.01}
    before = [trial_digest(sweep, 0, values, data) for values in (*begun, plain)]
    Path("a.safetensors").write_bytes(b"b")
    after = [trial_digest(sweep, 0, values, data) for values in (*begun, plain)]
    assert [old != new for old, new in zip(before, after, strict=True)] == [True, True, False]


def test_a_trial_without_the_weights_of_the_experiment_does_not_depend_on_them(make: Make) -> None:
    Path("a.safetensors").write_bytes(b"a")
    sweep, data = data_of(make, overrides={"training.warm_start": "a.safetensors"})
    values: list[dict[str, Any]] = [{"training.warm_start": None}, {}]
    before = [trial_digest(sweep, 0, one, data) for one in values]
    Path("a.safetensors").write_bytes(b"b")
    after = [trial_digest(sweep, 0, one, data) for one in values]
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("key", "choices", "column"),
    [
        ("training.ema_decay", [None, 0.99], ["null", "0.99", "null"]),
        ("training.ema_decay", [0.99, None], ["0.99", "null", "0.99"]),
        ("compute_like", [2, "auto"], ["2", "auto", "2"]),
        ("compute_like", [True, 0.5], ["true", "0.5", "true"]),
    ],
)
def test_choices_of_more_than_one_kind_are_texts(
    make: Make, key: str, choices: list[Any], column: list[str]
) -> None:
    sweep = make()
    trials = [
        Trial(number, {key: value}, dict.fromkeys(RUNS, 0.5))
        for number, value in enumerate([*choices, choices[0]])
    ]
    table = trials_table(sweep, trials)
    assert table[key].to_list() == column
    assert pl.read_csv(table.write_csv().encode(), infer_schema=False)[key].to_list() == column


OUTCOMES = [
    (
        snakemake.Outcome(8, ({"code": "MV-TRAIN-001", "status": 8, "text": "no"},), 1),
        "MV-TRAIN-001",
    ),
    (snakemake.Outcome(1, (), 1), "killed"),
    (snakemake.Outcome(4, ({"code": "MV-SYSTEM-002", "status": 4, "text": "full"},), 1), None),
    (snakemake.Outcome(1, (), 0), None),
    # Of the machine: other trials would fail as well.
    (snakemake.Outcome(5, ({"code": "MV-SYSTEM-005", "status": 5, "text": "small"},), 1), None),
    (snakemake.Outcome(9, ({"code": "MV-INTERNAL-001", "status": 9, "text": "bug"},), 1), None),
]


@pytest.mark.parametrize(("outcome", "code"), OUTCOMES)
def test_what_fails_a_trial_and_what_stops_the_sweep(
    make: Make, monkeypatch: pytest.MonkeyPatch, outcome: snakemake.Outcome, code: str | None
) -> None:
    sweep, data = data_of(make)
    monkeypatch.setattr(snakemake, "attempt", lambda *arguments, **named: outcome)
    values = {"training.learning_rate": 0.01}
    if code is None:
        with pytest.raises(SweepStopped) as caught:
            run_trial(sweep, 0, values, data, "1")
        assert caught.value.status == outcome.status
        assert all(failure["text"] in str(caught.value) for failure in outcome.failures)
        assert read_trial(sweep, 0, values, data) is None
    else:
        error = run_trial(sweep, 0, values, data, "1").error
        assert error is not None
        assert error["code"] == code


def test_planning_a_trial_does_not_unlock_the_sweep(make: Make) -> None:
    sweep = make()
    hold_lock(paths.trial_record(sweep_root(sweep), 0).parent)
    try:
        path = write_experiment(sweep, "rates-trial-000", {})
        snakemake.request(str(path), ["trained_runs"], "1", False)
        code = "import pathlib; from minivess.workflow import hold_lock; "
        code += f"hold_lock(pathlib.Path({str(paths.trial_record(sweep_root(sweep), 0).parent)!r}))"
        command = [sys.executable, "-c", code]
        other = subprocess.run(command, check=False, capture_output=True, text=True)
    finally:
        release_locks()
    assert other.returncode != 0
    assert "MV-STATE-004" in other.stderr


def test_trials_of_another_space_are_not_taken_for_these(make: Make) -> None:
    run._check_same(make())
    run._check_same(make(trials=3))
    with pytest.raises(MinivessError, match="another seed") as caught:
        run._check_same(make(seed=1))
    assert caught.value.code == "MV-STATE-001"
    with pytest.raises(MinivessError, match="another experiment"):
        run._check_same(make(overrides={"epochs": 7}))


def test_fewer_trials_than_there_are_hides_none(make: Make) -> None:
    sweep = make(trials=3)
    for number in range(5):
        output.write_json({}, paths.trial_record(sweep_root(sweep), number))
    assert run._planned(sweep, None) == run._planned(sweep, 2) == 5
    assert run._planned(sweep, 9) == 9
