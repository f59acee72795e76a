"""The training loop: from prepared cases to the weights that did best on the selection cases.

Without such cases those of the last epoch are taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minivess.config.augment import AugmentConfig
from minivess.config.schema import ComputeConfig, PatchConfig
from minivess.config.training import TrainingConfig
from minivess.data.patches import check_coarsest, check_patch_size
from minivess.data.preprocess import PreparedCase
from minivess.errors import MinivessError
from minivess.inference.device import choose_device, choose_precision
from minivess.inference.sliding_window import predict_probability
from minivess.models.adapter import ModelAdapter
from minivess.models.weights import weights_of
from minivess.seeding import reseed_torch, torch_seeded
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
from minivess.training.loading import batches
from minivess.training.optimisation import learning_rate, make_average, make_optimizer
from minivess.training.progress import EpochRow, clock
from minivess.training.selection import best_epoch, case_scores, is_over
from minivess.training.targets import targets
from minivess.training.warm_start import begin_with

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


@dataclass(frozen=True)
class TrainingTask:
    """All that determines a training."""

    adapter: ModelAdapter
    loss: Loss
    train: Sequence[PreparedCase]
    selection: Sequence[PreparedCase]  # none: the last epoch predicts
    seed: int
    fold: int
    patches: PatchConfig
    augment: AugmentConfig
    training: TrainingConfig
    compute: ComputeConfig
    team: Team = ALONE
    warm_start: Path | None = None
    # What the loss takes beside logits and label; with the skeleton, `train` was opened with it.
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TrainingResult:
    """The weights that predict, on the CPU, and how they came about.

    Without selection cases they are those of the last epoch, and there is no `best_dice`.
    """

    weights: dict[str, torch.Tensor]
    best_epoch: int
    best_dice: float | None
    history: list[dict[str, float]]
    averages: dict[str, torch.Tensor] = field(default_factory=dict)
    # Best weights by the selection metrics that do not predict.
    others: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


def head_weights(count: int) -> list[float]:
    """Weights of deep supervision's heads, halved from level to level, sum 1.

    >>> head_weights(1)
    [1.0]
    """
    raw = [0.5**level for level in range(count)]
    return [weight / sum(raw) for weight in raw]


def selection_scores(task: TrainingTask, network: torch.nn.Module) -> dict[str, float]:
    """Means over the selection cases of the metrics that the config asks for.

    The processes of a team have a part of the cases each, and all have the result.
    """
    device, precision = _compute(task)
    names = task.training.measured()
    scores: dict[str, list[float]] = {name: [] for name in names}
    for case in task.selection[task.team.rank :: task.team.size]:
        probability = predict_probability(
            network,
            np.asarray(case.image),
            task.patches.patch_size,
            task.training.selection_overlap,
            task.patches.batch_size,
            precision,
        )
        label = np.asarray(case.label) > 0
        for name, score in case_scores(probability, label, case.spacing_um, names).items():
            scores[name].append(score)
    count = len(task.selection)
    return {
        name: float(np.mean(interleaved(values, count, task.team, device)))
        for name, values in scores.items()
    }


def _compute(task: TrainingTask) -> tuple[torch.device, torch.dtype | None]:
    device, _ = choose_device(task.compute, task.team.device_number)
    return device, choose_precision(task.compute, device)[0]


def train_epoch(
    task: TrainingTask,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    average: torch.optim.swa_utils.AveragedModel | None = None,
    source: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> tuple[float, float]:
    """One epoch (from 1); mean loss and last learning rate.

    Args:
        task: what to train on what.
        network: trained in place.
        optimizer: of its parameters.
        epoch: which one.
        average: moving average of the weights, where there is one.
        source: batches of this epoch and of those after it; none: of this one alone.
    """
    import torch

    per_epoch = math.ceil(task.patches.patches_per_epoch / task.patches.batch_size)
    together = task.training.accumulate
    steps = math.ceil(per_epoch / together)
    network.train()
    losses, rate, on = [], 0.0, _compute(task)
    source = batches(task, epoch) if source is None else source
    # The seeds of the steps are not to reach what comes after.
    with torch_seeded(task.seed, "epoch", task.fold, epoch):
        for index, batch in enumerate(itertools.islice(source, per_epoch)):
            step, place = divmod(index, together)
            size = min(together, per_epoch - step * together)
            if place == 0:
                optimizer.zero_grad(set_to_none=True)
            loss = _batch_loss(task, network, batch, (epoch, index), on)
            (loss / size).backward()
            losses.append(loss.detach())
            if place + 1 < size:
                continue
            done, all_steps = (epoch - 1) * steps + step, steps * task.training.epochs
            rate = learning_rate(done, all_steps, task.training)
            for group in optimizer.param_groups:
                group["lr"] = rate
            sum_gradients(network.parameters(), task.team)
            torch.nn.utils.clip_grad_norm_(network.parameters(), task.training.gradient_clip)
            optimizer.step()
            if average is not None:
                average.update_parameters(network)
    # Read once an epoch: a GPU whose every loss is waited for stands still before each step.
    total = 0.0
    for value in torch.stack(losses).tolist():
        total += _finite(value, task, epoch)
    return total / per_epoch, rate


def _batch_loss(
    task: TrainingTask,
    network: torch.nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor],
    place: tuple[int, int],
    on: tuple[torch.device, torch.dtype | None],
) -> torch.Tensor:
    """Loss of a whole batch over all heads, on a device in a precision.

    `place` is the epoch of the batch and its index in the epoch.
    """
    import torch

    (device, precision), team = on, task.team
    other = () if team.leads else (team.rank,)
    images, labels = (part.to(device, non_blocking=True) for part in batch)
    # Dropout, where a network has it, draws from the global generator.
    reseed_torch(task.seed, "forward", task.fold, *place, *other)
    with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
        heads = task.adapter.heads(network(images))
    heads = [gathered(head, team) for head in heads]
    label, needed = targets(task, gathered(labels, team), place)
    weighted = zip(head_weights(len(heads)), heads, strict=True)
    return torch.stack(
        [weight * task.loss(head, label, **needed) for weight, head in weighted]
    ).sum()


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
            MV-CONFIG-004 a network that cannot be shared, MV-MODEL-... published weights; of a warm
            start see its `compare`.
    """
    divisor, cases = task.adapter.patch_divisor(), [*task.train, *task.selection]
    check_patch_size(task.patches.patch_size, divisor, cases, task.patches.pad_thin)
    check_coarsest(task.patches.patch_size, divisor)
    device, _ = _compute(task)
    with torch_seeded(task.seed, "weights", task.fold):
        network = task.adapter.build().to(device)
    check_network(network, task.team)
    optimizer = make_optimizer(network.parameters(), task.training)
    state = _begun(task, state_folder, network, optimizer)
    average = make_average(network, task.training, state.moving)
    chosen = network if average is None else average.module
    if task.compute.compile:
        network.compile()
    source = batches(task, state.epoch + 1, task.training.epochs)
    for epoch in range(state.epoch + 1, task.training.epochs + 1):
        if is_over(state.history, task.training):
            break
        begin = clock()
        loss, rate = train_epoch(task, network, optimizer, epoch, average, source)
        row = EpochRow(epoch, task.training.epochs, loss, rate, {}, False, 0.0)
        due = epoch % task.training.selection_every == 0 or epoch == task.training.epochs
        if task.selection and due:
            row = replace(row, selection=selection_scores(task, chosen))
        row = _advance(state, row, chosen, task.training)
        if average is not None:
            state.moving = weights_of(average.module)
        if task.training.keeps_weights():
            state.averages = kept(state.averages, weights_of(network), epoch, task.training)
        if task.team.leads:
            save_checkpoint(state_folder, state, network, optimizer)
        on_epoch(replace(row, seconds=clock() - begin))
    return _result(state, task, chosen)


def _begun(
    task: TrainingTask,
    state_folder: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> TrainingState:
    """The state to go on from: that of the checkpoint, or a new one with the weights asked for."""
    if task.team.leads:
        remove_half_written(state_folder)
    # All of a team read it: none can write the next one before all have taken a step.
    state = load_checkpoint(state_folder, network, optimizer)
    if state is not None:
        return state
    task.adapter.start(network)
    if task.warm_start is not None:
        begin_with(task.warm_start, network)
    return TrainingState()


def _advance(
    state: TrainingState, row: EpochRow, network: torch.nn.Module, training: TrainingConfig
) -> EpochRow:
    """Add an epoch to the state; the row, which says whether its weights will predict so far."""
    entry = {
        "epoch": float(row.epoch),
        "train/loss": row.train_loss,
        "train/learning_rate": row.learning_rate,
    }
    entry |= {f"selection/{name}": value for name, value in row.selection.items()}
    state.history.append(entry)
    state.epoch = row.epoch
    improved = [
        name for name in training.selection_metrics if best_epoch(state.history, name) == row.epoch
    ]
    # A copy each: a file of weights has every tensor once.
    state.best |= {name: weights_of(network) for name in improved}
    return replace(row, is_best=training.predicting_metric in improved)


def _result(state: TrainingState, task: TrainingTask, last: torch.nn.Module) -> TrainingResult:
    """What came of a training; `last` is the network, or its average, after the last epoch."""
    if not task.selection:
        weights = weights_of(last)
        return TrainingResult(weights, state.epoch, None, state.history, state.averages)
    chosen = task.training.predicting_metric
    epoch = best_epoch(state.history, chosen)
    return TrainingResult(
        state.best[chosen],
        epoch,
        state.history[epoch - 1]["selection/dice"],
        state.history,
        state.averages,
        {name: state.best[name] for name in task.training.other_metrics()},
    )
