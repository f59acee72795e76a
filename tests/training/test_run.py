from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from minivess import output, paths, provenance
from minivess.config.schema import Experiment
from minivess.data.folds import Fold, Folds
from minivess.data.preprocess import CASE
from minivess.errors import MinivessError
from minivess.statistics import tables
from minivess.training.run import PlannedRun, _config, plan_run, typical_spacing, write_run
from minivess.training.trainer import TrainingResult, fit
from minivess.types import RunKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    type MakeExperiment = Callable[..., Experiment]

KEY = RunKey("dynunet", "dice_ce", 0, 0)

CHANGES: dict[str, dict[str, Any]] = {
    "epochs": {"training": {"epochs": 4}},
    "learning rate": {"training": {"learning_rate": 0.02}},
    "weight decay": {"training": {"weight_decay": 0.0}},
    "warm-up": {"training": {"warmup_fraction": 0.1}},
    "gradient clip": {"training": {"gradient_clip": 1.0}},
    "selection interval": {"training": {"selection_every": 2}},
    "selection overlap": {"training": {"selection_overlap": 0.5}},
    "patch size": {"patches": {"patch_size": (16, 16, 4)}},
    "batch size": {"patches": {"batch_size": 1}},
    "patches per epoch": {"patches": {"patches_per_epoch": 6}},
    "foreground": {"patches": {"foreground_fraction": 0.25}},
    "flips": {"augment": {"flip_probability": 0.0}},
    "rotation": {"augment": {"rotation_degrees": 10.0}},
    "gamma": {"augment": {"gamma_log_range": 0.1}},
    "filters": {"models": {"dynunet": {"filters": (4, 8, 16)}}},
    "deep supervision": {"models": {"dynunet": {"deep_supervision": True}}},
    "smooth": {"loss": {"smooth": 0.5}},
    "skeleton": {"loss": {"skeleton_iterations": 6}},
    "normalisation": {"preprocess": {"normalisation": "minmax"}},
    "selection fraction": {"folds": {"selection_fraction": 0.4}},
}


@pytest.fixture
def plan(make_experiment: MakeExperiment, folds: Folds, root: Path) -> PlannedRun:
    return plan_run(make_experiment(), KEY, folds, root)


def digest(experiment: Experiment, key: RunKey, folds: Folds, root: Path) -> str:
    return plan_run(experiment, key, folds, root).run_digest


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_the_digest_follows_every_key(
    make_experiment: MakeExperiment, folds: Folds, root: Path, plan: PlannedRun, name: str
) -> None:
    other = plan_run(make_experiment(**CHANGES[name]), KEY, folds, root)
    assert other.run_digest != plan.run_digest
    assert other.config_digest != plan.config_digest
    assert other.state_key != plan.state_key


def test_the_digest_is_the_same_twice(
    make_experiment: MakeExperiment, folds: Folds, root: Path, plan: PlannedRun
) -> None:
    again = plan_run(make_experiment(), KEY, folds, root)
    assert (again.run_digest, again.state_key) == (plan.run_digest, plan.state_key)
    assert again.params == plan.params


@pytest.mark.parametrize("compute", [{"workers": 2}, {"device": "cpu"}])
def test_how_it_is_computed_is_not_in_the_digest(
    make_experiment: MakeExperiment, folds: Folds, root: Path, compute: dict[str, Any]
) -> None:
    base = make_experiment(compute={"device": "auto"})
    other = make_experiment(compute={"device": "auto", **compute})
    assert base != other
    assert digest(base, KEY, folds, root) == digest(other, KEY, folds, root)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_profile_is_in_the_digest(
    make_experiment: MakeExperiment,
    folds: Folds,
    root: Path,
    plan: PlannedRun,
    monkeypatch: pytest.MonkeyPatch,
    bfloat16: bool,
) -> None:
    """Also where both compute in float32: their kernels are others."""
    monkeypatch.setattr("minivess.inference.device.cpu_has_bfloat16", lambda: bfloat16)
    other = plan_run(make_experiment(compute={"profile": "fast"}), KEY, folds, root)
    assert other.run_digest != plan.run_digest
    assert other.state_key != plan.state_key


def test_of_the_profile_strict_the_digest_knows_precision_and_threads(
    make_experiment: MakeExperiment,
) -> None:
    """Another entry would be another digest for every run there is."""
    assert _config(make_experiment(), "float32")["compute"] == {
        "precision": "float32",
        "threads": 1,
    }


@pytest.mark.parametrize(
    "key",
    [RunKey("dynunet", "cbdice", 0, 0), RunKey("dynunet", "dice_ce", 1, 0)],
    ids=["loss", "seed"],
)
def test_loss_and_seed_are_in_the_digest(
    make_experiment: MakeExperiment, folds: Folds, root: Path, plan: PlannedRun, key: RunKey
) -> None:
    assert digest(make_experiment(), key, folds, root) != plan.run_digest


def test_the_fold_is_in_the_digest(
    make_experiment: MakeExperiment, folds: Folds, root: Path, plan: PlannedRun
) -> None:
    others = {digest(make_experiment(), replace(KEY, fold=k), folds, root) for k in (1, 2)}
    assert len(others | {plan.run_digest}) == 3
    first = folds.folds[0]
    # The same number of the fold with other cases in it.
    swapped = Fold(first.train[1:], (*first.selection, first.train[0]), first.validation)
    changed = replace(folds, folds=(swapped, *folds.folds[1:]))
    assert digest(make_experiment(), KEY, changed, root) != plan.run_digest


def test_the_content_of_a_case_is_in_the_digest(
    make_experiment: MakeExperiment, folds: Folds, root: Path, plan: PlannedRun, tmp_path: Path
) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(root / "data", copy / "data")
    assert digest(make_experiment(), KEY, folds, copy) == plan.run_digest
    for case in (folds.folds[0].train[0], folds.folds[0].selection[0]):
        path = paths.preprocessed_case(copy, case) / CASE
        before = path.read_text(encoding="utf-8")
        facts = json.loads(before) | {"image_sha256": "other"}
        output.write_json(facts, path)
        assert digest(make_experiment(), KEY, folds, copy) != plan.run_digest
        path.write_text(before, encoding="utf-8")


def test_validation_cases_are_never_opened(
    make_experiment: MakeExperiment, folds: Folds, root: Path, tmp_path: Path
) -> None:
    experiment, fold = make_experiment(), folds.folds[0]
    copy = tmp_path / "demo"
    shutil.copytree(root / "data", copy / "data")
    for case in fold.validation:
        shutil.rmtree(paths.preprocessed_case(copy, case))
    plan = plan_run(experiment, KEY, folds, copy)
    opened = [case.case for case in (*plan.task.train, *plan.task.selection)]
    assert sorted(opened) == sorted([*fold.train, *fold.selection])
    result = fit(plan.task, tmp_path / "state", lambda row: None)
    assert result.best_epoch >= 1


@pytest.mark.parametrize("part", ["train", "selection"])
def test_a_case_that_is_not_preprocessed_is_an_earlier_step(
    make_experiment: MakeExperiment, folds: Folds, root: Path, tmp_path: Path, part: str
) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(root / "data", copy / "data")
    shutil.rmtree(paths.preprocessed_case(copy, getattr(folds.folds[0], part)[0]))
    with pytest.raises(MinivessError) as caught:
        plan_run(make_experiment(), KEY, folds, copy)
    assert caught.value.code == "MV-STATE-002"


@pytest.mark.parametrize(
    "key",
    [
        RunKey("unet", "dice_ce", 0, 0),
        RunKey("dynunet", "dice_cee", 0, 0),
        RunKey("dynunet", "dice_ce", 0, 3),
        RunKey("dynunet", "dice_ce", 0, -1),
    ],
)
def test_a_run_that_does_not_exist_is_named(
    make_experiment: MakeExperiment, folds: Folds, root: Path, key: RunKey
) -> None:
    with pytest.raises(MinivessError) as caught:
        plan_run(make_experiment(), key, folds, root)
    assert caught.value.code == "MV-CONFIG-003"


def test_parameters_and_decisions(plan: PlannedRun, folds: Folds) -> None:
    params = plan.params
    assert params["model"] == "dynunet"
    assert params["data_n_train"] == len(folds.folds[0].train)
    assert params["data_spacing_um"] == "1 1 5"
    assert params["data_patch_size"] == "16 16 8"
    assert params["arch_filters"] == "4 8 8"
    assert params["arch_kernels"] == "3x3x1 3x3x1 3x3x3"
    assert params["loss_smooth"] == 1.0
    assert params["epochs"] == 3
    names = [decision.name for decision in plan.decisions]
    assert names[:3] == ["sys_device", "sys_precision", "sys_cpu_kernels"]
    assert names[3:] == ["arch_kernels", "arch_strides"]
    assert all(decision.reason for decision in plan.decisions)


def test_the_typical_spacing_is_the_median(plan: PlannedRun) -> None:
    assert typical_spacing(plan.task.train) == (1.0, 1.0, 5.0)


def made_up_result(plan: PlannedRun) -> TrainingResult:
    from minivess.models.weights import weights_of
    from minivess.seeding import torch_seeded

    with torch_seeded(0, "test"):
        weights = weights_of(plan.task.adapter.build())
    history = [
        {"epoch": 1.0, "train/loss": 0.1 + 0.2, "train/learning_rate": 1e-3},
        {"epoch": 2.0, "train/loss": 0.2, "train/learning_rate": 5e-4, "selection/dice": 2 / 3},
    ]
    return TrainingResult(weights, 2, 2 / 3, history)


def test_the_files_of_a_run(
    make_experiment: MakeExperiment, plan: PlannedRun, folds: Folds, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    from minivess.inference.predict import load_network
    from minivess.models.weights import weights_of

    result = made_up_result(plan)
    write_run(make_experiment(), plan, result, tmp_path)
    record = json.loads(paths.run_record(tmp_path).read_text(encoding="utf-8"))
    assert record["run_digest"] == plan.run_digest
    assert record["best_selection_dice"] == 2 / 3
    assert record["weights_sha256"] == provenance.file_sha256(paths.weights(tmp_path))
    assert record["cases"]["validation"] == list(folds.folds[0].validation)
    stored = load_file(paths.weights(tmp_path))
    assert all(torch.equal(stored[name], result.weights[name]) for name in stored)
    history = tables.read("history", paths.history(tmp_path))
    assert history.height == 5
    found = history.filter(history["name"] == "train/loss")["value"].to_list()
    assert found == [0.1 + 0.2, 0.2]
    # And a later step can use it.
    trained = load_network(tmp_path)
    assert trained.patch_size == (16, 16, 8)
    loaded = weights_of(trained.network)
    assert all(torch.equal(loaded[name], result.weights[name]) for name in loaded)


def test_a_run_without_selection_says_that_its_last_epoch_predicts(
    make_experiment: MakeExperiment, folds: Folds, root: Path, tmp_path: Path
) -> None:
    first = folds.folds[0]
    alone = replace(first, train=tuple(sorted((*first.train, *first.selection))), selection=())
    plan = plan_run(make_experiment(), KEY, replace(folds, folds=(alone,)), root)
    assert [case.case for case in plan.task.train] == list(alone.train)
    assert plan.params["data_n_selection"] == 0
    assert plan.run_digest != plan_run(make_experiment(), KEY, folds, root).run_digest
    write_run(make_experiment(), plan, fit(plan.task, tmp_path / "s", lambda row: None), tmp_path)
    record = json.loads(paths.run_record(tmp_path).read_text(encoding="utf-8"))
    assert record["checkpoint_metric"] == "last_epoch"
    assert record["best_selection_dice"] is None
    assert record["best_epoch"] == record["epochs"] == 3
    assert record["cases"]["selection"] == []
    names = tables.read("history", paths.history(tmp_path))["name"]
    assert set(names) == {"train/loss", "train/learning_rate"}


def test_a_run_is_written_with_the_same_bytes_twice(
    make_experiment: MakeExperiment, folds: Folds, root: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        plan = plan_run(make_experiment(), KEY, folds, root)
        write_run(make_experiment(), plan, made_up_result(plan), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["history.parquet", "run.json", "weights.safetensors"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_loss_of_ones_own_trains_and_an_edit_is_another_run(
    make_experiment: MakeExperiment,
    folds: Folds,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "def Mine(config):\n    return lambda logits, y: ((logits[:, 1:] - y) ** 2).mean()\n"
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    key, found = RunKey("dynunet", "mine.Mine", 0, 0), []
    experiment = make_experiment(losses=("mine:Mine",), training={"epochs": 1})
    for edit in ("", "# a comment\n"):
        file.write_text(text + edit, encoding="utf-8")
        found.append(plan_run(experiment, key, folds, root))
    assert found[0].run_digest != found[1].run_digest
    assert found[0].state_key != found[1].state_key
    result = fit(found[1].task, tmp_path / "state", lambda row: None)
    write_run(experiment, found[1], result, tmp_path / "run")
    record = json.loads(paths.run_record(tmp_path / "run").read_text(encoding="utf-8"))
    assert record["loss_source"] == {"file": "mine.py", "sha256": provenance.file_sha256(file)}
