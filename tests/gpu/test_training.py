"""A training on a GPU: its bytes, after a kill too, and where memory runs out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from minivess.config.augment import AugmentConfig
from minivess.config.schema import ComputeConfig, PatchConfig
from minivess.config.training import LossConfig, TrainingConfig
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.preprocess import PreparedCase
from minivess.inference.memory import is_out_of_memory, release
from minivess.inference.sliding_window import predict_probability
from minivess.losses import LOSSES, build_loss, needs_of
from minivess.losses.needs import SKELETON
from minivess.training.trainer import TrainingTask, fit

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from minivess.training.progress import EpochRow
    from minivess.training.trainer import TrainingResult

SPACING = (1.0, 1.0, 5.0)


class Killed(Exception):
    """In place of a signal: nothing of the training runs after it."""


def case(number: int) -> PreparedCase:
    """A noisy tube; its label has the value 2 on its axis, as losses on skeletons need it."""
    rng = np.random.default_rng(number)
    label = np.zeros((40, 40, 12), dtype=np.uint8)
    label[:, 10 + number : 17 + number, 3:8] = 1
    image = rng.normal(0, 0.5, label.shape) + 2.0 * label
    label[:, 13 + number, 5] = 2
    shape = (40, 40, 12)
    return PreparedCase(
        f"case{number}",
        f"case{number}",
        image.astype(np.float32),
        label,
        np.flatnonzero(label),
        Geometry(shape, diagonal_affine(SPACING)),
    )


def task(loss: str = "cbdice_cldice", **keys: Any) -> TrainingTask:
    from small_networks import SMALL

    from minivess.config.models import ModelConfig
    from minivess.models import build_adapter

    needs = needs_of(loss)
    cases = [case(number) for number in range(3)]
    if SKELETON not in needs:
        for one in cases:
            np.minimum(one.label, 1, out=one.label)
    network = ModelConfig.model_validate({"architecture": "dynunet", **SMALL["dynunet"]})
    return TrainingTask(
        adapter=build_adapter(network, SPACING),
        loss=build_loss(loss, LossConfig(skeleton_iterations=2)),
        train=cases[:2],
        selection=cases[2:],
        seed=0,
        fold=0,
        patches=PatchConfig(patch_size=(32, 32, 8), batch_size=2, patches_per_epoch=4),
        augment=AugmentConfig(),
        training=TrainingConfig(epochs=3, selection_every=1, learning_rate=1e-2),
        compute=ComputeConfig(**({"device": "cuda"} | keys)),
        needs=needs,
    )


def ignore(row: EpochRow) -> None:
    """Nothing is shown."""


def same(one: TrainingResult, other: TrainingResult) -> bool:
    import torch

    equal = [torch.equal(one.weights[name], other.weights[name]) for name in one.weights]
    return all(equal) and one.history == other.history


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_two_trainings_have_the_same_bytes(loss: str, tmp_path: Path) -> None:
    results = [fit(task(loss), tmp_path / name, ignore) for name in ("one", "two")]
    assert same(*results)


@pytest.mark.parametrize(
    "keys",
    [{"profile": "fast"}, {"workers": 3}, {"profile": "fast", "workers": 3}],
    ids=["bfloat16", "workers", "both"],
)
def test_workers_and_kills_change_no_byte(keys: dict[str, Any], tmp_path: Path) -> None:
    whole = fit(task(**(keys | {"workers": 0})), tmp_path / "whole", ignore)

    def kill(row: EpochRow) -> None:
        if row.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(task(**keys), tmp_path / "killed", kill)
    assert same(whole, fit(task(**keys), tmp_path / "killed", ignore))


def test_it_learns_what_the_cpu_learns(tmp_path: Path) -> None:
    on_gpu = fit(task(), tmp_path / "gpu", ignore)
    on_cpu = fit(task(device="cpu"), tmp_path / "cpu", ignore)
    losses = [[row["train/loss"] for row in one.history] for one in (on_gpu, on_cpu)]
    np.testing.assert_allclose(*losses, rtol=2e-2)


def test_a_compiled_training_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    keys = {"profile": "fast", "compile": True}
    results = [fit(task(**keys), tmp_path / name, ignore) for name in ("one", "two")]
    assert same(*results)


def test_a_moving_average_and_sgd_are_resumed(tmp_path: Path) -> None:
    training = TrainingConfig(epochs=3, selection_every=1, ema_decay=0.9, optimizer="sgd")
    given = replace(task(), training=training)
    whole = fit(given, tmp_path / "whole", ignore)

    def kill(row: EpochRow) -> None:
        if row.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        fit(given, tmp_path / "killed", kill)
    assert same(whole, fit(given, tmp_path / "killed", ignore))


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_a_volume_is_predicted_as_on_the_cpu(precision: str | None, gpu: torch.device) -> None:
    import torch

    from minivess.seeding import torch_seeded

    with torch_seeded(0, "test"):
        network = task().adapter.build()
    image = np.asarray(case(0).image)
    dtype = None if precision is None else torch.bfloat16
    expected = predict_probability(network, image, (32, 32, 8), 0.5)
    network = network.to(gpu)
    found = predict_probability(network, image, (32, 32, 8), 0.5, 2, dtype)
    np.testing.assert_allclose(found, expected, atol=5e-3 if dtype is None else 5e-2)
    again = predict_probability(network, image, (32, 32, 8), 0.5, 2, dtype)
    assert np.array_equal(found, again)


def test_running_out_of_memory_is_told_from_other_errors(gpu: torch.device) -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device=gpu)
    assert is_out_of_memory(caught.value)
    release()
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2, device=gpu) @ torch.zeros(3, device=gpu)
    assert not is_out_of_memory(other.value)
