"""Weights beside the best ones: what is kept, and that a kill changes none of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from minivess.config.schema import TrainingConfig
from minivess.inference.averages import snapshots, swa_weights
from minivess.models.weights import weights_of
from minivess.training.averaging import collected, kept
from minivess.training.checkpoint import CHECKPOINT
from minivess.training.optimisation import learning_rate
from minivess.training.trainer import TrainingTask, fit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from minivess.training.progress import EpochRow

    type MakeTask = Callable[..., TrainingTask]

SWAG: dict[str, Any] = {"epochs": 4, "swa_start": 2, "swag_rank": 2, "swa_learning_rate": 5e-3}
SNAPSHOTS: dict[str, Any] = {"epochs": 4, "snapshot_cycles": 2}


def nothing(row: EpochRow) -> None:
    """Shows no progress."""


def trajectory(count: int) -> list[dict[str, torch.Tensor]]:
    import torch

    random = torch.Generator().manual_seed(0)
    return [{"layer.weight": torch.randn(3, 2, generator=random)} for _ in range(count)]


def test_moments_against_numpy() -> None:
    points = trajectory(5)
    averages: dict[str, torch.Tensor] = {}
    for point in points:
        averages = collected(averages, point, 3)
    stack = np.stack([point["layer.weight"].double().numpy() for point in points])
    np.testing.assert_allclose(averages["mean.layer.weight"], stack.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(averages["square.layer.weight"], (stack**2).mean(axis=0), rtol=1e-12)
    # Deviations from the mean as it was then, of the latest three: the fourth is in column 0.
    for column, index in ((0, 3), (1, 4), (2, 2)):
        expected = stack[index] - stack[: index + 1].mean(axis=0)
        found = averages[f"deviation.{column}.layer.weight"]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert averages["count"] == 5
    assert not any(name.startswith("deviation.3.") for name in averages)


def test_the_mean_against_torchs_own_averaged_model() -> None:
    import torch

    network = torch.nn.Linear(3, 2)
    theirs, ours = torch.optim.swa_utils.AveragedModel(network), {}
    for step in range(4):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.5 * step)
        theirs.update_parameters(network)
        ours = collected(ours, weights_of(network), 0)
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(swa_weights(ours)[name], parameter.detach())
    assert not any("square" in name or "deviation" in name for name in ours)


def test_nothing_is_kept_unless_asked_for(make_task: MakeTask, tmp_path: Path) -> None:
    from safetensors import safe_open

    point = trajectory(1)[0]
    assert kept({}, point, 1, TrainingConfig()) == {}
    assert kept({}, point, 2, TrainingConfig(epochs=9, swa_start=3)) == {}
    assert kept({}, point, 2, TrainingConfig(epochs=9, snapshot_cycles=3)) == {}
    assert fit(make_task(training={"epochs": 1}), tmp_path, nothing).averages == {}
    with safe_open(tmp_path / CHECKPOINT, framework="pt") as file:
        assert not any(name.startswith("average.") for name in file.keys())  # noqa: SIM118


@pytest.mark.parametrize("training", [SWAG, SNAPSHOTS], ids=["swag", "snapshots"])
def test_a_training_that_is_stopped_keeps_the_same_bytes(
    make_task: MakeTask, tmp_path: Path, training: dict[str, Any]
) -> None:
    from safetensors.torch import save

    class Interrupted(Exception):
        pass

    def stop(row: EpochRow) -> None:
        raise Interrupted

    whole = fit(make_task(training=training), tmp_path / "whole", nothing)
    for _ in range(training["epochs"]):  # after every epoch
        with pytest.raises(Interrupted):
            fit(make_task(training=training), tmp_path / "stopped", stop)
    result = fit(make_task(training=training), tmp_path / "stopped", nothing)
    assert save(result.averages) == save(whole.averages)
    assert save(result.weights) == save(whole.weights)
    if training is SWAG:
        assert whole.averages["count"] == 3
    else:
        first, last = snapshots(whole.averages)
        assert set(first) == set(whole.weights)
        assert save(first) != save(last)


def test_the_last_snapshot_is_the_network_at_the_end(make_task: MakeTask, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    result = fit(make_task(training=SNAPSHOTS), tmp_path, nothing)
    network = load_file(tmp_path / CHECKPOINT)
    for name, tensor in snapshots(result.averages)[-1].items():
        assert torch.equal(tensor, network[f"network.{name}"])


def test_swa_has_a_constant_learning_rate_from_its_start() -> None:
    config = TrainingConfig(epochs=4, swa_start=3, swa_learning_rate=0.25, learning_rate=1.0)
    plain = TrainingConfig(epochs=4, learning_rate=1.0)
    rates = [learning_rate(step, 20, config) for step in range(20)]
    assert rates[:10] == [learning_rate(step, 20, plain) for step in range(10)]
    assert rates[10:] == [0.25] * 10


def test_cycles_are_those_of_the_paper() -> None:
    """alpha(t) = alpha0 / 2 (cos(pi mod(t - 1, ceil(T / M)) / ceil(T / M)) + 1), t from 1."""
    config = TrainingConfig(epochs=6, snapshot_cycles=3, learning_rate=0.5)
    steps, length = 24, 8
    for t in range(1, steps + 1):
        expected = 0.5 / 2 * (math.cos(math.pi * ((t - 1) % length) / length) + 1)
        assert learning_rate(t - 1, steps, config) == pytest.approx(expected)
