"""How weights move: the optimiser, its learning rate, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from minivess.config.training import TrainingConfig
from minivess.models.weights import load_weights

if TYPE_CHECKING:
    import torch

POLYNOMIAL_POWER = 0.9


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """Learning rate of a step (from 0): linear warm-up, then the schedule.

    With `swa_start` it is constant from that epoch on; with `snapshot_cycles` it decays in so many
    equal cycles without warm-up.

    Source: cosine: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, without restarts; the cycles
    are those of Huang et al. 2017, arXiv:1704.00109; polynomial: Isensee et al. 2021, nnU-Net, doi
    10.1038/s41592-020-01008-z, there with one value per epoch.

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
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "polynomial":
        return config.learning_rate * math.pow(1.0 - share, POLYNOMIAL_POWER)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], config: TrainingConfig
) -> torch.optim.Optimizer:
    """The optimiser of a training."""
    import torch

    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        # Its square root is the CPU's own; the other ones use MKL's, which approximates by an
        # instruction whose result is not the same on all CPUs.
        fused=True,
    )


def make_average(
    network: torch.nn.Module, config: TrainingConfig, before: Mapping[str, torch.Tensor]
) -> torch.optim.swa_utils.AveragedModel | None:
    """The moving average of a network's weights; None where the config asks for none.

    It begins with the weights after the first step; buffers are the network's own.

    Args:
        network: the network that is trained.
        config: the key ema_decay.
        before: the averaged weights so far; empty at first.
    """
    if config.ema_decay is None:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    if before:
        load_weights(average.module, before, "the averaged weights of the checkpoint")
        average.n_averaged.fill_(1)
    return average
