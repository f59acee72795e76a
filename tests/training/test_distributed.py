from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranks import in_ranks

from minivess.config.schema import ComputeConfig, PatchConfig
from minivess.errors import MinivessError
from minivess.losses import LOSSES, build_loss
from minivess.seeding import torch_seeded
from minivess.training.checkpoint import CHECKPOINT
from minivess.training.distributed import (
    ALONE,
    Team,
    check_network,
    check_shares,
    check_team,
    gathered,
    interleaved,
    team_of,
)
from minivess.training.loading import batches
from minivess.training.trainer import TrainingResult, TrainingTask, fit, train_epoch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from minivess.training.progress import EpochRow

    type MakeTask = Callable[..., TrainingTask]
    type Gradient = dict[str, np.ndarray]

BATCH = 6
ONE_STEP: dict[str, Any] = {
    "patches": {"batch_size": BATCH, "patches_per_epoch": BATCH},
    "training": {"gradient_clip": 1e9},
    "loss": {"skeleton_iterations": 2},
}


def nothing(row: EpochRow) -> None:
    """Shows no progress."""


def one_step(team: Team, task: TrainingTask, double: bool) -> tuple[Gradient, float]:
    """Gradient and loss of the first step, by the trainer itself."""
    import torch

    class Double(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network.double()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.network(images.double())
            return found

    with torch_seeded(0, "test"):
        network = task.adapter.build()
    whole = Double(network) if double else network
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    loss, _ = train_epoch(replace(task, team=team), whole, optimizer, 1)
    return gradient_of(network), loss


def gradient_of(network: torch.nn.Module) -> Gradient:
    named = network.named_parameters()
    return {name: p.grad.numpy() for name, p in named if p.grad is not None}


def difference(one: Gradient, other: Gradient) -> float:
    """Largest difference, relative to the largest entry of the gradient."""
    assert one.keys() == other.keys()
    assert len(one) > 10
    largest = max(float(np.abs(entry).max()) for entry in one.values())
    assert largest > 0
    return max(float(np.abs(one[name] - other[name]).max()) for name in one) / largest


@pytest.mark.parametrize(
    ("loss", "deep", "size"),
    [
        *((loss, False, 2) for loss in LOSSES),
        *(("cbdice_cldice", deep, size) for deep, size in ((True, 2), (False, 3), (True, 3))),
    ],
)
def test_the_gradient_is_that_of_one_process_on_the_whole_batch(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, loss: str, deep: bool, size: int
) -> None:
    import torch

    models = {"dynunet": {"deep_supervision": deep}}
    task = make_task(**ONE_STEP, losses=(loss,), models=models)
    alone, expected = one_step(ALONE, task, double=False)
    answers = in_ranks(size, one_step, task, False)
    for gradient, value in answers:
        assert value == pytest.approx(expected, rel=1e-6)
        # 2e-7 is half a unit in the last place of float32; a sum of thousands has some of them.
        assert difference(alone, gradient) < 1e-5
        for name, entry in gradient.items():
            np.testing.assert_array_equal(entry, answers[0][0][name])
    # Losses compute in float32 by `.float()`: here that is float64 too.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    alone, expected = one_step(ALONE, task, double=True)
    for gradient, value in in_ranks(size, one_step, task, True):
        assert {entry.dtype for entry in gradient.values()} == {np.dtype("float64")}
        assert value == pytest.approx(expected, rel=1e-12)
        assert difference(alone, gradient) < 1e-10


def test_the_mean_of_gradients_of_shares_would_be_another_gradient(make_task: MakeTask) -> None:
    """What DistributedDataParallel computes: the test above can tell it from ours."""
    task = make_task(**ONE_STEP, losses=("cbdice",))
    alone, _ = one_step(ALONE, task, double=False)
    half = BATCH // 2
    shares = replace(task, patches=task.patches.model_copy(update={"batch_size": half}))
    gradients = []
    for rank in range(2):
        indices = Team(rank, 2, rank).share(range(BATCH))
        one = replace(shares, patches=shares.patches.model_copy(update={"patches_per_epoch": half}))
        assert len(indices) == half
        gradients.append(gradient_of_share(one, indices))
    mean = {name: (gradients[0][name] + gradients[1][name]) / 2 for name in alone}
    assert difference(alone, mean) > 1e-3


def gradient_of_share(task: TrainingTask, indices: range) -> Gradient:
    import torch

    from minivess.data.augment import training_patch

    with torch_seeded(0, "test"):
        network = task.adapter.build()
    network.train()
    key = (task.seed, task.fold, 1)
    pairs = [training_patch(task.train, task.patches, task.augment, key, i) for i in indices]
    images, labels = (torch.stack(part) for part in zip(*pairs, strict=True))
    (head,) = task.adapter.heads(network(images))
    task.loss(head, labels).backward()
    return gradient_of(network)


def content(result: TrainingResult) -> tuple[bytes, str, int, float]:
    from safetensors.torch import save

    return save(result.weights), json.dumps(result.history), result.best_epoch, result.best_dice


def fitted(
    team: Team, task: TrainingTask, state: Path, last_epoch: int | None
) -> tuple[bytes, str, int, float] | None:
    """The result, or None where the training was left after an epoch."""

    class Interrupted(Exception):
        pass

    def stop(row: EpochRow) -> None:
        if row.epoch == last_epoch:
            raise Interrupted

    try:
        return content(fit(replace(task, team=team), state, stop))
    except Interrupted:
        return None


SHARED: list[dict[str, Any]] = [
    {"losses": ("cbdice_cldice",), "patches": {"patches_per_epoch": 6}},
    {"compute": {"workers": 1, "profile": "fast"}, "training": {"selection_every": 2}},
]


@pytest.mark.parametrize("changes", SHARED, ids=["strict", "fast, with workers"])
def test_two_trainings_and_a_resumed_one_give_the_same_bytes(
    make_task: MakeTask, tmp_path: Path, changes: dict[str, Any]
) -> None:
    task = make_task(**changes)
    first, other = in_ranks(2, fitted, task, tmp_path / "a", None)
    assert first is not None
    assert first == other, "every process knows the whole result"
    assert in_ranks(2, fitted, task, tmp_path / "b", None) == [first, first]
    assert in_ranks(2, fitted, task, tmp_path / "c", 1) == [None, None]
    assert (tmp_path / "c" / CHECKPOINT).exists()
    assert in_ranks(2, fitted, task, tmp_path / "c", None) == [first, first]


def test_a_shared_training_is_that_of_one_process_up_to_rounding(
    make_task: MakeTask, tmp_path: Path
) -> None:
    from safetensors.torch import load

    task = make_task(patches={"batch_size": 4, "patches_per_epoch": 8})
    alone = fit(task, tmp_path / "alone", nothing)
    weights, history, _, _ = in_ranks(2, fitted, task, tmp_path / "shared", None)[0]
    for ours, theirs in zip(json.loads(history), alone.history, strict=True):
        assert ours["epoch"] == theirs["epoch"]
        assert ours["train/learning_rate"] == theirs["train/learning_rate"]
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-5)
        # A voxel whose probability is 0.5 may fall on the other side.
        assert ours["selection/dice"] == pytest.approx(theirs["selection/dice"], abs=1e-3)
    # AdamW divides by the gradient's size, so that where a gradient is nearly zero its rounding
    # decides where it steps, and a step is as large as the learning rate, 1e-2.
    for name, tensor in load(weights).items():
        np.testing.assert_allclose(tensor, alone.weights[name], rtol=1e-3, atol=1e-3)


def shared_batches(team: Team, task: TrainingTask) -> list[tuple[np.ndarray, np.ndarray]]:
    parts = batches(replace(task, team=team), 1)
    return [(images.numpy(), labels.numpy()) for images, labels in parts]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_shares_are_the_batches_of_one_process(make_task: MakeTask, workers: int) -> None:
    # The last batch has two patches: a share of one each.
    patches = {"batch_size": 4, "patches_per_epoch": 6}
    task = make_task(patches=patches, compute={"workers": workers})
    shares = [shared_batches(Team(rank, 2, rank), task) for rank in range(2)]
    whole = shared_batches(ALONE, task)
    assert [len(images) for images, _ in whole] == [4, 2]
    for batch, one, other in zip(whole, *shares, strict=True):
        for entry in (0, 1):
            np.testing.assert_array_equal(batch[entry], np.concatenate([one[entry], other[entry]]))


@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 100))
def test_shares_are_equal_and_make_up_the_batch(size: int, each: int, first: int) -> None:
    batch = range(first, first + size * each)
    shares = [Team(rank, size, rank).share(batch) for rank in range(size)]
    assert {len(share) for share in shares} == {each}
    assert [index for share in shares for index in share] == list(batch)


def gathered_batch(team: Team) -> tuple[np.ndarray, np.ndarray, list[float]]:
    import torch

    own = (torch.arange(4.0).reshape(2, 2) + 10 * team.rank).requires_grad_()
    whole = gathered(own, team)
    (whole * torch.arange(12.0).reshape(6, 2)).sum().backward()
    assert own.grad is not None
    values = [float(item) for item in range(team.rank, 7, team.size)]
    ordered = interleaved(values, 7, team, torch.device("cpu"))
    return whole.detach().numpy(), own.grad.numpy(), ordered


def test_what_is_gathered_is_in_the_order_of_the_ranks() -> None:
    answers = in_ranks(3, gathered_batch)
    for rank, (whole, gradient, ordered) in enumerate(answers):
        np.testing.assert_array_equal(whole[:, 0], [0, 2, 10, 12, 20, 22])
        np.testing.assert_array_equal(gradient.ravel(), np.arange(4) + 4 * rank)
        assert ordered == [0, 1, 2, 3, 4, 5, 6]


def ends_early(team: Team, task: TrainingTask, state: Path) -> None:
    def leave(row: EpochRow) -> None:
        if team.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(replace(task, team=team), state, leave)


def test_a_process_whose_companion_was_killed_says_so(make_task: MakeTask, tmp_path: Path) -> None:
    error, killed = in_ranks(2, ends_early, make_task(), tmp_path)
    assert killed == -signal.SIGKILL
    assert error["code"] == "MV-TRAIN-002"
    assert error["where"] == "process 0 of 2"
    assert (tmp_path / CHECKPOINT).exists()


def test_a_process_alone_is_no_team() -> None:
    for environment in ({}, {"WORLD_SIZE": "1", "RANK": "0"}, {"RANK": "0"}):
        assert team_of(environment) == ALONE
    assert team_of({"WORLD_SIZE": "4", "RANK": "3"}) == Team(3, 4, 3)
    assert team_of({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}) == Team(3, 4, 1)


def test_another_number_of_processes_than_devices_is_refused() -> None:
    check_team(ComputeConfig(), ALONE)
    check_team(ComputeConfig(devices=2), Team(1, 2, 1))
    for devices, team in ((1, Team(0, 2, 0)), (2, ALONE), (2, Team(0, 4, 0))):
        with pytest.raises(MinivessError) as caught:
            check_team(ComputeConfig(devices=devices), team)
        assert caught.value.code == "MV-CONFIG-004"
        assert f"compute.devices={team.size}" in caught.value.fix


@pytest.mark.parametrize(
    ("batch", "epoch", "devices", "fix"),
    [
        (3, 12, 2, "patches.batch_size=4"),
        (1, 8, 2, "patches.batch_size=2"),
        (5, 15, 4, "patches.batch_size=4"),
        (4, 9, 2, "patches.patches_per_epoch=8"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(
    batch: int, epoch: int, devices: int, fix: str
) -> None:
    with pytest.raises(MinivessError) as caught:
        check_shares(PatchConfig(batch_size=batch, patches_per_epoch=epoch), devices)
    assert caught.value.code == "MV-CONFIG-004"
    assert f"compute.devices={devices}" in caught.value.found
    assert fix in caught.value.fix


def test_batches_that_can_be_shared_are_not() -> None:
    check_shares(PatchConfig(batch_size=4, patches_per_epoch=10), 2)
    check_shares(PatchConfig(batch_size=3, patches_per_epoch=7), 1)


def test_batch_normalisation_is_refused_where_batches_are_shared(make_task: MakeTask) -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))
    check_network(network, ALONE)
    check_network(make_task().adapter.build(), Team(0, 2, 0))
    with pytest.raises(MinivessError) as caught:
        check_network(network, Team(0, 2, 0))
    assert caught.value.code == "MV-CONFIG-004"
    assert caught.value.found == "BatchNorm3d in layer 1"


def test_every_loss_is_a_function_of_the_whole_batch(make_experiment: Callable[..., Any]) -> None:
    """Losses have no state of their own that a process could miss."""
    for name in LOSSES:
        assert not hasattr(build_loss(name, make_experiment().loss), "state_dict")
