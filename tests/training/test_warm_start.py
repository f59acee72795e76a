"""Beginning with the weights of another training."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from minivess import paths
from minivess.config.models import ModelConfig
from minivess.errors import MinivessError
from minivess.models import build_adapter
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded
from minivess.training.run import plan_run, write_run
from minivess.training.trainer import TrainingTask, fit
from minivess.training.warm_start import begin_with, check_unseen, compare, seen_cases
from minivess.types import RunKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from minivess.config.schema import Experiment
    from minivess.data.folds import Folds

KEY = RunKey("dynunet", "dice_ce", 0, 0)


def network_of(filters: tuple[int, ...], seed: int = 0) -> torch.nn.Module:
    with torch_seeded(seed, "test"):
        return build_adapter(ModelConfig(filters=filters), (1.0, 1.0, 5.0)).build()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    weights = weights_of(network_of((4, 8, 8)))
    name = next(iter(weights))
    extra = {"head.of.another": weights.pop(name).clone()}
    save_file(weights | extra, tmp_path / "other.safetensors")
    return tmp_path / "other.safetensors"


def test_every_tensor_is_accounted_for(file: Path) -> None:
    network = network_of((4, 8, 12), seed=1)
    found, own = compare(file, network), set(weights_of(network))
    parts = [found.matched, found.other_shape, found.not_in_file]
    assert sum(map(len, parts)) == len(own)
    assert set().union(*parts) == own
    assert found.other_shape
    assert len(found.not_in_file) == 1
    assert found.unused == ("head.of.another",)
    assert found.text().startswith(f"{len(found.matched)} of {len(own)} tensors; ")


def test_what_matches_is_copied_and_nothing_else_touched(file: Path) -> None:
    import torch
    from safetensors.torch import load_file

    network = network_of((4, 8, 12), seed=1)
    before, given = weights_of(network), load_file(file)
    begin_with(file, network)
    matched = set(compare(file, network).matched)
    for name, tensor in weights_of(network).items():
        assert torch.equal(tensor, given[name] if name in matched else before[name]), name


def test_files_that_cannot_be_used_are_named(tmp_path: Path, file: Path) -> None:
    from safetensors.torch import save_file

    network = network_of((4, 8, 8))
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04 not safetensors")
    save_file({"encoder.weight": weights_of(network).popitem()[1]}, tmp_path / "x.safetensors")
    for name, code in (
        ("none.safetensors", "MV-DATA-001"),
        ("pickle.pt", "MV-STATE-003"),
        ("x.safetensors", "MV-CONFIG-004"),
    ):
        with pytest.raises(MinivessError) as caught:
            compare(tmp_path / name, network)
        assert caught.value.code == code


def test_a_run_that_has_seen_held_out_cases_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    check_unseen(path, ["a"], 0)  # no record beside it
    (tmp_path / "run.json").write_text('{"tool": "another"}', encoding="utf-8")
    check_unseen(path, ["a"], 0)
    record = {"cases": {"train": ["a", "b"], "selection": ["c"], "validation": ["d"]}}
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    check_unseen(path, ["d"], 0)
    for case in ("b", "c"):
        with pytest.raises(MinivessError, match="have seen held-out cases") as caught:
            check_unseen(path, ["d", case], 0)
        assert "{fold}" in caught.value.fix


def test_what_weights_began_with_is_followed(tmp_path: Path) -> None:
    def run(name: str, train: str, begin: dict[str, object] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        record: dict[str, object] = {"cases": {"train": [train], "selection": []}}
        record |= {} if begin is None else {"warm_start": begin}
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        return folder / "weights.safetensors"

    first = run("first", "a")
    second = run("second", "b", {"file": str(first)})
    third = run("third", "c", {"file": str(second)})
    assert seen_cases(third) == {"a", "b", "c"}
    with pytest.raises(MinivessError, match="have seen held-out cases"):
        check_unseen(third, ["a"], 0)
    check_unseen(third, ["d"], 0)
    # What the record says was seen counts, whatever is in that folder now, or none.
    moved = run("moved", "c", {"file": str(tmp_path / "gone/x"), "seen": ["a", "b"]})
    assert seen_cases(moved) == {"a", "b", "c"}
    assert seen_cases(run("alone", "c", {"file": str(first), "seen": []})) == {"c"}
    # A run that began with weights which have since been trained on from its own.
    round_about = run("one", "a", {"file": str(tmp_path / "other/x")})
    run("other", "b", {"file": str(round_about)})
    assert seen_cases(round_about) == {"a", "b"}


def test_weights_that_have_seen_locked_cases_begin_nothing(
    make_experiment: Callable[..., Experiment], folds: Folds, root: Path, file: Path
) -> None:
    cases = {"train": ["locked"], "selection": [folds.folds[0].train[0]]}
    (file.parent / "run.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    experiment = make_experiment(training={"warm_start": str(file)})
    begun = plan_run(experiment, KEY, folds, root).warm_start
    assert begun is not None
    assert begun.seen == tuple(sorted(["locked", folds.folds[0].train[0]]))
    with pytest.raises(MinivessError, match="have seen held-out cases") as caught:
        plan_run(experiment, KEY, replace(folds, test=("locked",)), root)
    assert caught.value.code == "MV-CONFIG-004"
    assert caught.value.found == "locked"


def test_a_warm_start_is_recorded_and_resumes(
    make_experiment: Callable[..., Experiment], folds: Folds, root: Path, tmp_path: Path, file: Path
) -> None:
    name = str(file).replace("other", "o{fold}her")
    (tmp_path / "o0her.safetensors").write_bytes(file.read_bytes())
    plans = [
        plan_run(make_experiment(training=training), KEY, folds, root)
        for training in ({"epochs": 1}, {"epochs": 1, "warm_start": name})
    ]
    assert plans[0].run_digest != plans[1].run_digest
    assert [d.name for d in plans[1].decisions][-1] == "warm_start"
    results = [fit(plan.task, tmp_path / str(i), lambda row: None) for i, plan in enumerate(plans)]
    assert results[0].history[0]["train/loss"] != results[1].history[0]["train/loss"]
    write_run(make_experiment(), plans[1], results[1], tmp_path / "run")
    record = json.loads(paths.run_record(tmp_path / "run").read_text(encoding="utf-8"))
    assert record["warm_start"]["unused"] == ["head.of.another"]
    assert record["warm_start"]["seen"] == []
    # Other bytes in the file are another run.
    (tmp_path / "o0her.safetensors").write_bytes(file.read_bytes() + b"")
    same = plan_run(make_experiment(training={"epochs": 1, "warm_start": name}), KEY, folds, root)
    assert same.run_digest == plans[1].run_digest


def test_another_checkpoint_metric_trains_nothing_anew(
    make_experiment: Callable[..., Experiment],
    make_task: Callable[..., TrainingTask],
    folds: Folds,
    root: Path,
    tmp_path: Path,
) -> None:
    training = {"epochs": 3, "learning_rate": 0.05, "selection_metrics": ("dice", "hd95_um")}
    plans = [
        plan_run(make_experiment(training={**training, **more}), KEY, folds, root)
        for more in ({}, {"checkpoint_metric": "hd95_um"})
    ]
    assert plans[0].run_digest != plans[1].run_digest
    assert plans[0].state_key == plans[1].state_key
    first = fit(plans[0].task, tmp_path / "state", lambda row: None)
    rows: list[object] = []
    second = fit(plans[1].task, tmp_path / "state", rows.append)
    assert rows == []
    assert set(first.others) == {"hd95_um"}
    from safetensors.torch import save

    assert save(second.weights) == save(first.others["hd95_um"])
    assert save(second.others["dice"]) == save(first.weights)
    assert second.best_dice == second.history[second.best_epoch - 1]["selection/dice"]
    write_run(make_experiment(), plans[1], second, tmp_path / "run")
    assert paths.best_weights(tmp_path / "run", "dice").is_file()
