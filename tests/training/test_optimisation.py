"""Optimisers, learning rates, the moving average of weights, and gradients of several batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from minivess.config.training import TrainingConfig
from minivess.models.weights import weights_of
from minivess.training.optimisation import learning_rate, make_average, make_optimizer
from minivess.training.trainer import TrainingTask, fit, train_epoch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.training.progress import EpochRow

    type MakeTask = Callable[..., TrainingTask]

# Every knob that has a state.
ALL_ON: dict[str, Any] = {
    "epochs": 4,
    "optimizer": "sgd",
    "momentum": 0.9,
    "schedule": "polynomial",
    "accumulate": 2,
    "ema_decay": 0.5,
    "selection_metrics": ("cldice", "hd95_um"),
    "patience": 2,
    "stopping_metric": "masd_um",
    "learning_rate": 0.01,
}


def test_schedules_by_hand() -> None:
    config = TrainingConfig(learning_rate=0.5, warmup_fraction=0.2, schedule="polynomial")
    rates = [learning_rate(step, 10, config) for step in range(10)]
    np.testing.assert_allclose(rates[:3], [0.25, 0.5, 0.5])
    np.testing.assert_allclose(rates[2:], [0.5 * (1 - k / 8) ** 0.9 for k in range(8)])
    constant = config.model_copy(update={"schedule": "constant"})
    assert [learning_rate(step, 10, constant) for step in range(1, 10)] == [0.5] * 9


def test_sgd_against_its_formula() -> None:
    import torch

    config = TrainingConfig(optimizer="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.2)
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = make_optimizer([weight], config)
    expected, velocity = 1.0, 0.0
    for gradient in (0.3, -0.2, 0.4):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        full = gradient + 0.2 * expected
        velocity = 0.5 * velocity + full
        expected -= 0.1 * (full + 0.5 * velocity)
    # The first velocity is the first gradient: the same, as it begins at 0.
    assert weight.item() == pytest.approx(expected, rel=1e-12)


def test_the_moving_average_by_hand() -> None:
    import torch

    network = torch.nn.Linear(2, 1, bias=False)
    average = make_average(network, TrainingConfig(ema_decay=0.75), {})
    assert average is not None
    expected = None
    for step in range(1, 5):
        with torch.no_grad():
            network.weight.fill_(float(step**2))
        average.update_parameters(network)
        expected = step**2 if expected is None else 0.75 * expected + 0.25 * step**2
        np.testing.assert_allclose(average.module.weight.detach(), expected, rtol=1e-6)
    again = make_average(network, TrainingConfig(ema_decay=0.75), weights_of(average.module))
    for one in (average, again):
        one.update_parameters(network)
    assert torch.equal(again.module.weight, average.module.weight)
    assert make_average(network, TrainingConfig(), {}) is None


def test_two_small_batches_make_the_step_of_a_large_one(make_task: MakeTask) -> None:
    """With a loss that is a mean over samples, gradients of equal batches have the same mean."""
    from minivess.seeding import torch_seeded

    found = []
    for size, together in ((4, 1), (2, 2)):
        task = make_task(
            patches={"batch_size": size, "patches_per_epoch": 8},
            training={"accumulate": together, "optimizer": "sgd", "epochs": 1},
            losses=("focal",),
        )
        with torch_seeded(0, "test"):
            network = task.adapter.build()
        optimizer = make_optimizer(network.parameters(), task.training)
        loss, rate = train_epoch(task, network, optimizer, 1)
        found.append((loss, rate, weights_of(network)))
    (one, rate, ours), (two, other_rate, theirs) = found
    assert one == pytest.approx(two, rel=1e-4)
    assert rate == other_rate
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, theirs[name], atol=1e-5)


def test_an_epoch_ends_with_a_step(make_task: MakeTask) -> None:
    """Five batches, two to a step: the third step has the last one alone, at full weight."""
    steps = []
    task = make_task(
        patches={"batch_size": 2, "patches_per_epoch": 10}, training={"accumulate": 2, "epochs": 1}
    )
    network = task.adapter.build()
    optimizer = make_optimizer(network.parameters(), task.training)
    optimizer.register_step_post_hook(lambda *_: steps.append(optimizer.param_groups[0]["lr"]))
    train_epoch(task, network, optimizer, 1)
    assert steps == [learning_rate(step, 3, task.training) for step in range(3)]


def test_stopped_anywhere_with_every_knob_on_it_goes_on_to_the_same_bytes(
    make_task: MakeTask, tmp_path: Path
) -> None:
    import json

    from safetensors.torch import save

    class Interrupted(Exception):
        pass

    def stop(row: EpochRow) -> None:
        raise Interrupted

    def content(folder: str) -> list[bytes]:
        result = fit(task, tmp_path / folder, lambda row: None)
        texts = json.dumps([result.history, result.best_epoch, result.best_dice])
        return [save(result.weights), *map(save, result.others.values()), texts.encode()]

    task = make_task(training=ALL_ON, patches={"patches_per_epoch": 6})
    whole = content("whole")
    for _ in range(len(json.loads(whole[-1])[0])):
        with pytest.raises(Interrupted):
            fit(task, tmp_path / "stopped", stop)
    assert content("stopped") == whole


def test_the_average_selects_and_predicts(make_task: MakeTask, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from minivess.training.checkpoint import CHECKPOINT

    task = make_task(training={"epochs": 1, "ema_decay": 0.9})
    result = fit(task, tmp_path, lambda row: None)
    state = load_file(tmp_path / CHECKPOINT)
    name = next(iter(result.weights))
    assert torch.equal(result.weights[name], state[f"moving.{name}"])
    assert not torch.equal(result.weights[name], state[f"network.{name}"])
