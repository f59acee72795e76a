"""The training loop: from prepared cases to the weights that did best on the selection cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess.config.schema import AugmentConfig, ComputeConfig, PatchConfig
from minivess.config.training import TrainingConfig
from minivess.data.augment import training_patch
from minivess.data.patches import check_coarsest, check_patch_size
from minivess.data.preprocess import PreparedCase
from minivess.errors import MinivessError
from minivess.inference.device import choose_device, choose_precision
from minivess.inference.sliding_window import predict_probability
from minivess.models.adapter import ModelAdapter
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded
from minivess.training.averaging import kept
from minivess.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    remove_half_written,
    save_checkpoint,
)
from minivess.training.distributed import (
    ALONE,
    Team,
    check_network,
    gathered,
    interleaved,
    sum_gradients,
)
from minivess.training.progress import EpochRow, clock

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


@dataclass(frozen=True)
class TrainingTask:
    """All that determines a training."""

    adapter: ModelAdapter
    loss: Loss
    train: Sequence[PreparedCase]
    selection: Sequence[PreparedCase]
    seed: int
    fold: int
    patches: PatchConfig
    augment: AugmentConfig
    training: TrainingConfig
    compute: ComputeConfig
    team: Team = ALONE


@dataclass(frozen=True)
class TrainingResult:
    """Best weights, on the CPU, and how they came about."""

    weights: dict[str, torch.Tensor]
    best_epoch: int
    best_dice: float
    history: list[dict[str, float]]
    averages: dict[str, torch.Tensor] = field(default_factory=dict)


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """Learning rate of a step (from 0): linear warm-up, then cosine decay towards zero.

    With `swa_start` it is constant from that epoch on; with `snapshot_cycles` it decays in so many
    equal cycles without warm-up.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, without restarts; the cycles are
    those of Huang et al. 2017, arXiv:1704.00109.

    >>> learning_rate(0, 100, TrainingConfig(learning_rate=1.0, warmup_fraction=0.1))
    0.1
    """
    if config.snapshot_cycles is not None:
        length = steps // config.snapshot_cycles
        return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step % length) / length))
    per_epoch = steps // config.epochs
    if config.swa_start is not None and step >= (config.swa_start - 1) * per_epoch:
        return config.swa_learning_rate
    warmup = round(config.warmup_fraction * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


def head_weights(count: int) -> list[float]:
    """Weights of deep supervision's heads, halved from level to level, sum 1.

    >>> head_weights(1)
    [1.0]
    """
    raw = [0.5**level for level in range(count)]
    return [weight / sum(raw) for weight in raw]


class _EpochPatches:
    """The patches of one epoch as a map-style data set: the index alone decides the patch."""

    def __init__(self, task: TrainingTask, epoch: int) -> None:
        self.task, self.epoch = task, epoch

    def __len__(self) -> int:
        return self.task.patches.patches_per_epoch

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        task = self.task
        key = (task.seed, task.fold, self.epoch)
        return training_patch(task.train, task.patches, task.augment, key, index)


def batches(task: TrainingTask, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of an epoch: images (B, 1, x, y, z) and labels, in a fixed order.

    Of a team each process gets its share of every batch.
    """
    import torch

    patches: Any = _EpochPatches(task, epoch)
    indices, size = range(len(patches)), task.patches.batch_size
    firsts = range(0, len(patches), size)
    loader = torch.utils.data.DataLoader(
        patches,
        batch_sampler=[list(task.team.share(indices[first : first + size])) for first in firsts],
        num_workers=task.compute.most_workers,
        # Forked workers share the memory maps and need no pickle of the task.
        multiprocessing_context="fork" if task.compute.workers else None,
        # The loader seeds its workers from here instead of from the global generator.
        generator=torch.Generator().manual_seed(0),
    )
    return iter(loader)


def selection_dice(task: TrainingTask, network: torch.nn.Module) -> float:
    """Mean Dice of the selection cases at probability 0.5; 1 for two empty masks.

    The processes of a team have a part of the cases each, and all have the result.
    """
    device, precision = _compute(task)
    scores = []
    for case in task.selection[task.team.rank :: task.team.size]:
        probability = predict_probability(
            network,
            np.asarray(case.image),
            task.patches.patch_size,
            task.training.selection_overlap,
            task.patches.batch_size,
            precision,
        )
        mask, label = probability > 0.5, np.asarray(case.label) > 0
        total = int(mask.sum()) + int(label.sum())
        scores.append(2.0 * int((mask & label).sum()) / total if total else 1.0)
    return float(np.mean(interleaved(scores, len(task.selection), task.team, device)))


def _compute(task: TrainingTask) -> tuple[torch.device, torch.dtype | None]:
    device, _ = choose_device(task.compute, task.team.device_number)
    return device, choose_precision(task.compute, device)[0]


def train_epoch(
    task: TrainingTask, network: torch.nn.Module, optimizer: torch.optim.Optimizer, epoch: int
) -> tuple[float, float]:
    """One epoch (from 1); mean loss and last learning rate."""
    import torch

    device, precision = _compute(task)
    team = task.team
    other = () if team.leads else (team.rank,)
    per_epoch = math.ceil(task.patches.patches_per_epoch / task.patches.batch_size)
    steps = per_epoch * task.training.epochs
    network.train()
    total, rate = 0.0, 0.0
    for index, batch in enumerate(batches(task, epoch)):
        rate = learning_rate((epoch - 1) * per_epoch + index, steps, task.training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = batch[0].to(device), batch[1].to(device)
        # Dropout, where a network has it, draws from the global generator.
        with (
            torch_seeded(task.seed, "forward", task.fold, epoch, index, *other),
            torch.autocast(device.type, dtype=precision, enabled=precision is not None),
        ):
            heads = task.adapter.heads(network(images))
        heads, labels = [gathered(head, team) for head in heads], gathered(labels, team)
        weighted = zip(head_weights(len(heads)), heads, strict=True)
        loss = torch.stack([weight * task.loss(head, labels) for weight, head in weighted]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        sum_gradients(network.parameters(), team)
        torch.nn.utils.clip_grad_norm_(network.parameters(), task.training.gradient_clip)
        optimizer.step()
        total += _finite(float(loss.detach()), task, epoch)
    return total / per_epoch, rate


def _finite(loss: float, task: TrainingTask, epoch: int) -> float:
    if not math.isfinite(loss):
        raise MinivessError(
            "MV-TRAIN-001",
            what="the loss is no longer finite",
            where=f"seed {task.seed}, fold {task.fold}, epoch {epoch}",
            found=str(loss),
            expected="a number",
            fix=f"lower training.learning_rate (now {task.training.learning_rate:g}) or "
            f"training.gradient_clip (now {task.training.gradient_clip:g})",
        )
    return loss


def fit(
    task: TrainingTask, state_folder: Path, on_epoch: Callable[[EpochRow], None]
) -> TrainingResult:
    """Train from scratch, or go on from the checkpoint in `state_folder`.

    Args:
        task: what to train on what.
        state_folder: where the checkpoint of each epoch goes; one folder per task.
        on_epoch: called after each epoch, when its checkpoint is on the disk.

    The result is the same however often the process was killed in between.

    Raises:
        MinivessError: MV-PATCH-... patch size, MV-STATE-003 checkpoint, MV-SYSTEM-... disk,
            MV-TRAIN-001 the training diverged, MV-TRAIN-002 another process of the team has ended,
            MV-CONFIG-004 a network that cannot be shared, MV-MODEL-... published weights.
    """
    import torch

    divisor, cases = task.adapter.patch_divisor(), [*task.train, *task.selection]
    check_patch_size(task.patches.patch_size, divisor, cases, task.patches.pad_thin)
    check_coarsest(task.patches.patch_size, divisor)
    device, _ = _compute(task)
    with torch_seeded(task.seed, "weights", task.fold):
        network = task.adapter.build().to(device)
    check_network(network, task.team)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=task.training.learning_rate,
        weight_decay=task.training.weight_decay,
        # Its square root is the CPU's own; the other ones use MKL's, which approximates by an
        # instruction whose result is not the same on all CPUs.
        fused=True,
    )
    if task.team.leads:
        remove_half_written(state_folder)
    # All of a team read it: none can write the next one before all have taken a step.
    state = load_checkpoint(state_folder, network, optimizer)
    if state is None:
        task.adapter.start(network)
        state = TrainingState()
    for epoch in range(state.epoch + 1, task.training.epochs + 1):
        begin = clock()
        loss, rate = train_epoch(task, network, optimizer, epoch)
        row = EpochRow(epoch, task.training.epochs, loss, rate, None, False, 0.0)
        if epoch % task.training.selection_every == 0 or epoch == task.training.epochs:
            dice = selection_dice(task, network)
            row = replace(row, selection_dice=dice, is_best=dice > state.best_dice)
        _advance(state, row, network)
        if task.training.keeps_weights():
            state.averages = kept(state.averages, weights_of(network), epoch, task.training)
        if task.team.leads:
            save_checkpoint(state_folder, state, network, optimizer)
        on_epoch(replace(row, seconds=clock() - begin))
    return TrainingResult(
        state.best_weights, state.best_epoch, state.best_dice, state.history, state.averages
    )


def _advance(state: TrainingState, row: EpochRow, network: torch.nn.Module) -> None:
    entry = {
        "epoch": float(row.epoch),
        "train/loss": row.train_loss,
        "train/learning_rate": row.learning_rate,
    }
    if row.selection_dice is not None:
        entry["selection/dice"] = row.selection_dice
    if row.is_best and row.selection_dice is not None:
        state.best_epoch, state.best_dice = row.epoch, row.selection_dice
        state.best_weights = weights_of(network)
    state.history.append(entry)
    state.epoch = row.epoch
