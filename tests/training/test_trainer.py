from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import paths
from minivess.config.schema import TrainingConfig
from minivess.errors import MinivessError
from minivess.inference.device import cpu_has_bfloat16
from minivess.training.checkpoint import CHECKPOINT
from minivess.training.loading import batches
from minivess.training.optimisation import learning_rate
from minivess.training.trainer import (
    TrainingResult,
    TrainingTask,
    fit,
    head_weights,
    selection_scores,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.training.progress import EpochRow

    type MakeTask = Callable[..., TrainingTask]

KILLED_AT_RANDOM = """
import json, os, random, signal, sys, time
from pathlib import Path

import torch, torchio

from minivess.monai_import import import_monai
import_monai()
from minivess import paths
from minivess.config.schema import Experiment
from minivess.data.folds import read_folds
from minivess.inference.device import prepare_torch
from minivess.training.run import plan_run, write_run
from minivess.training.trainer import fit
from minivess.types import RunKey

experiment = Experiment.model_validate(json.loads(sys.argv[1]))
root, work, seed = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
key = RunKey("dynunet", "dice_ce", 0, 0)
prepare_torch(experiment.compute)
moments, kills, status = random.Random(seed), 0, 1
while status != 0:
    child = os.fork()
    if child == 0:
        plan = plan_run(experiment, key, read_folds(paths.folds(root)), root)
        result = fit(plan.task, work / "state", lambda row: None)
        write_run(experiment, plan, result, work / "run")
        os._exit(0)
    if kills < 25:
        time.sleep(moments.uniform(0.05, 1.2))
        if os.waitpid(child, os.WNOHANG) == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
            continue
        break
    _, status = os.waitpid(child, 0)
print(kills)
"""


class Interrupted(Exception):
    """Stands for Ctrl-C between two epochs."""


def nothing(row: EpochRow) -> None:
    """Shows no progress."""


def content(result: TrainingResult) -> tuple[bytes, str, int, float | None]:
    from safetensors.torch import save

    history = json.dumps(result.history)
    return save(result.weights), history, result.best_epoch, result.best_dice


@pytest.fixture(scope="session")
def known() -> dict[str, Any]:
    """What uninterrupted trainings gave, for the tests that compare with one."""
    return {}


@pytest.fixture
def uninterrupted(
    make_task: MakeTask, tmp_path: Path, known: dict[str, Any]
) -> tuple[bytes, str, int, float | None]:
    if "plain" not in known:
        known["plain"] = content(fit(make_task(), tmp_path / "uninterrupted", nothing))
    found: tuple[bytes, str, int, float | None] = known["plain"]
    return found


def test_the_learning_rate_by_hand() -> None:
    config = TrainingConfig(learning_rate=0.8, warmup_fraction=0.2)
    rates = [learning_rate(step, 20, config) for step in range(20)]
    np.testing.assert_allclose(rates[:4], [0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 0.8
    assert rates[12] == pytest.approx(0.4)
    assert rates[8] == pytest.approx(0.4 * (1 + math.sqrt(0.5)))
    assert rates[19] == pytest.approx(0.4 * (1 + math.cos(math.pi * 15 / 16)))
    assert 0 < rates[19] < 0.01


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 500), st.floats(0, 0.99), st.floats(1e-5, 1.0))
def test_the_learning_rate_rises_then_falls_and_stays_positive(
    steps: int, warmup: float, peak: float
) -> None:
    config = TrainingConfig(learning_rate=peak, warmup_fraction=warmup)
    rates = [learning_rate(step, steps, config) for step in range(steps)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    turn = round(warmup * steps)
    assert all(np.diff(rates[:turn]) > 0)
    assert all(np.diff(rates[turn:]) <= 0)
    if turn < steps:
        assert rates[turn] == peak


def test_weights_of_heads() -> None:
    np.testing.assert_allclose(head_weights(3), np.array([4, 2, 1]) / 7)
    assert sum(head_weights(5)) == pytest.approx(1.0)


def test_the_loss_falls(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(training={"epochs": 8, "selection_every": 8})
    result = fit(task, tmp_path, nothing)
    losses = [entry["train/loss"] for entry in result.history]
    assert np.mean(losses[-2:]) < 0.75 * losses[0]
    assert [entry["epoch"] for entry in result.history] == list(range(1, 9))


def test_deep_supervision_trains_as_well(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(models={"dynunet": {"deep_supervision": True}}, losses=("cbdice_cldice",))
    result = fit(task, tmp_path, nothing)
    losses = [entry["train/loss"] for entry in result.history]
    assert losses[-1] < losses[0]
    assert any("deep_supervision" in name or "heads" in name for name in result.weights)


def test_history_and_rows_say_the_same(make_task: MakeTask, tmp_path: Path) -> None:
    rows: list[EpochRow] = []
    task = make_task(training={"epochs": 3, "selection_every": 2})
    result = fit(task, tmp_path, rows.append)
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert ["selection/dice" in entry for entry in result.history] == [False, True, True]
    for row, entry in zip(rows, result.history, strict=True):
        assert entry["train/loss"] == row.train_loss
        assert entry["train/learning_rate"] == row.learning_rate
        assert entry.get("selection/dice") == row.selection.get("dice")
        assert row.epochs == 3
        assert row.seconds > 0
    steps = 2 * 3  # two batches an epoch
    expected = [learning_rate(step, steps, task.training) for step in (1, 3, 5)]
    assert [row.learning_rate for row in rows] == expected


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_stopped_after_an_epoch_it_goes_on_to_the_same_bytes(
    make_task: MakeTask,
    tmp_path: Path,
    epoch: int,
    uninterrupted: tuple[bytes, str, int, float | None],
) -> None:
    def stop(row: EpochRow) -> None:
        if row.epoch == epoch:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(make_task(), tmp_path / "state", stop)
    shown: list[int] = []
    result = fit(make_task(), tmp_path / "state", lambda row: shown.append(row.epoch))
    assert shown == list(range(epoch + 1, 4))
    assert content(result) == uninterrupted


def test_global_randomness_does_not_matter(
    make_task: MakeTask, tmp_path: Path, uninterrupted: tuple[bytes, str, int, float | None]
) -> None:
    import torch

    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert content(fit(make_task(), tmp_path / "state", nothing)) == uninterrupted
    assert torch.equal(before, torch.get_rng_state())


def test_the_number_of_workers_does_not_matter(
    make_task: MakeTask, tmp_path: Path, uninterrupted: tuple[bytes, str, int, float | None]
) -> None:
    task = make_task(compute={"workers": 2})
    assert content(fit(task, tmp_path / "state", nothing)) == uninterrupted


def test_seeds_make_a_difference(
    make_task: MakeTask, tmp_path: Path, uninterrupted: tuple[bytes, str, int, float | None]
) -> None:
    result = content(fit(make_task(seed=1), tmp_path / "state", nothing))
    assert result[0] != uninterrupted[0]


def test_a_training_killed_at_random_moments_gives_the_same_bytes(
    make_experiment: Callable[..., Any], root: Path, tmp_path: Path
) -> None:
    from minivess.data.folds import read_folds
    from minivess.training.run import plan_run, write_run
    from minivess.types import RunKey

    experiment = make_experiment(
        training={"epochs": 6}, patches={"patches_per_epoch": 16}, compute={"threads": 1}
    )
    seed = random.SystemRandom().randrange(2**31)
    print(f"moments of the kills from seed {seed}")  # shown where the test fails
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED_AT_RANDOM,
            experiment.model_dump_json(),
            str(root),
            str(tmp_path / "killed"),
            str(seed),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "no training was killed: it is too short for this test"
    plan = plan_run(
        experiment, RunKey("dynunet", "dice_ce", 0, 0), read_folds(paths.folds(root)), root
    )
    result = fit(plan.task, tmp_path / "state", nothing)
    write_run(experiment, plan, result, tmp_path / "run")
    for file in (paths.weights, paths.run_record, paths.history):
        ours, theirs = file(tmp_path / "run"), file(tmp_path / "killed" / "run")
        assert ours.read_bytes() == theirs.read_bytes(), file.__name__


def test_the_best_epoch_is_the_first_with_the_best_selection(
    make_task: MakeTask, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    def keep(row: EpochRow) -> None:
        shutil.copyfile(tmp_path / "state" / CHECKPOINT, tmp_path / f"{row.epoch}.safetensors")

    # So high a learning rate that the last epoch need not be the best.
    task = make_task(training={"epochs": 5, "learning_rate": 0.05})
    result = fit(task, tmp_path / "state", keep)
    scores = [entry["selection/dice"] for entry in result.history]
    assert result.best_dice == max(scores)
    assert result.best_epoch == 1 + scores.index(max(scores))
    then = load_file(tmp_path / f"{result.best_epoch}.safetensors")
    for name, tensor in result.weights.items():
        assert torch.equal(tensor, then[f"network.{name}"])


@pytest.mark.parametrize("decay", [None, 0.5])
def test_without_selection_cases_the_last_weights_predict(
    make_task: MakeTask, tmp_path: Path, decay: float | None
) -> None:
    """Those of a training that evaluates, after its last epoch; nothing is measured in between."""
    import torch
    from safetensors.torch import load_file

    task = make_task(training={"epochs": 3, "learning_rate": 0.05, "ema_decay": decay})
    fit(task, tmp_path / "with", nothing)
    rows: list[EpochRow] = []
    result = fit(replace(task, selection=[]), tmp_path / "without", rows.append)
    last = load_file(tmp_path / "with" / CHECKPOINT)
    kind = "network" if decay is None else "moving"
    for name, tensor in result.weights.items():
        assert torch.equal(tensor, last[f"{kind}.{name}"])
    assert (result.best_epoch, result.best_dice, result.others) == (3, None, {})
    assert all(
        set(entry) == {"epoch", "train/loss", "train/learning_rate"} for entry in result.history
    )
    assert not any(row.selection or row.is_best for row in rows)


@pytest.mark.parametrize("epoch", [2, 3])
@pytest.mark.parametrize("decay", [None, 0.5])
def test_without_selection_cases_it_goes_on_to_the_same_bytes(
    make_task: MakeTask, tmp_path: Path, epoch: int, decay: float | None
) -> None:
    def stop(row: EpochRow) -> None:
        if row.epoch == epoch:
            raise Interrupted

    task = replace(make_task(training={"ema_decay": decay}), selection=[])
    with pytest.raises(Interrupted):
        fit(task, tmp_path / "state", stop)
    resumed = content(fit(task, tmp_path / "state", nothing))
    assert resumed == content(fit(task, tmp_path / "other", nothing))


def test_selection_dice_is_the_mean_over_the_selection_cases(make_task: MakeTask) -> None:
    import torch

    task = make_task()

    class Everything(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.cat([batch * 0 - 1, batch * 0 + 1], dim=1)

    fractions = [float(np.mean(case.label)) for case in task.selection]
    expected = np.mean([2 * part / (1 + part) for part in fractions])
    found = selection_scores(task, Everything())
    assert found == {"dice": pytest.approx(expected, abs=1e-9)}


def test_an_epoch_has_the_promised_patches(make_task: MakeTask) -> None:
    import torch

    task = make_task(patches={"patches_per_epoch": 5, "batch_size": 2})
    sizes = [images.shape[0] for images, _ in batches(task, 1)]
    assert sizes == [2, 2, 1]
    one, other = list(batches(task, 1)), list(batches(task, 2))
    assert not torch.equal(one[0][0], other[0][0])
    again = list(batches(task, 1))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, again, strict=True))


def test_the_fast_profile_is_as_deterministic(make_task: MakeTask, tmp_path: Path) -> None:
    def stop(row: EpochRow) -> None:
        if row.epoch == 1:
            raise Interrupted

    def fast(name: str) -> tuple[bytes, str, int, float | None]:
        return content(fit(make_task(compute={"profile": "fast"}), tmp_path / name, nothing))

    first = fast("a")
    with pytest.raises(Interrupted):
        fit(make_task(compute={"profile": "fast"}), tmp_path / "b", stop)
    assert fast("b") == first


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this CPU has no bfloat16")
def test_the_fast_profile_computes_in_bfloat16(
    make_task: MakeTask, tmp_path: Path, uninterrupted: tuple[bytes, str, int, float | None]
) -> None:
    import torch

    result = fit(make_task(compute={"profile": "fast"}), tmp_path / "state", nothing)
    assert content(result)[0] != uninterrupted[0]
    assert {tensor.dtype for tensor in result.weights.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("size", "code"), [((32, 16, 8), "MV-PATCH-001"), ((16, 18, 8), "MV-PATCH-002")]
)
def test_a_wrong_patch_is_found_before_anything_is_trained(
    make_task: MakeTask, tmp_path: Path, size: tuple[int, int, int], code: str
) -> None:
    with pytest.raises(MinivessError) as caught:
        fit(make_task(patches={"patch_size": size}), tmp_path / "state", nothing)
    assert caught.value.code == code
    assert not (tmp_path / "state").exists()


def test_a_damaged_checkpoint_stops_the_training(make_task: MakeTask, tmp_path: Path) -> None:
    def stop(row: EpochRow) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        fit(make_task(), tmp_path, stop)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MinivessError) as caught:
        fit(make_task(), tmp_path, nothing)
    assert caught.value.code == "MV-STATE-003"


def test_a_training_that_diverges_stops_and_keeps_its_checkpoint(
    make_task: MakeTask, tmp_path: Path
) -> None:
    import torch

    task = make_task()
    calls = 0

    def diverging(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return task.loss(logits, label) * (float("nan") if calls > 3 else 1.0)

    with pytest.raises(MinivessError) as caught:
        fit(replace(task, loss=diverging), tmp_path, nothing)
    assert caught.value.code == "MV-TRAIN-001"
    assert "learning_rate" in caught.value.fix
    assert (tmp_path / CHECKPOINT).exists()


def test_what_a_kill_left_half_written_is_removed(make_task: MakeTask, tmp_path: Path) -> None:
    left = tmp_path / f".123.{CHECKPOINT}"
    left.write_bytes(b"half")
    fit(make_task(training={"epochs": 1}), tmp_path, nothing)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
