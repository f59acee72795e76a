"""Weights that a training keeps beside its best: stochastic weight averaging, SWAG, snapshots.

They are part of the checkpoint, so that a training that was killed goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from minivess.config.training import TrainingConfig

if TYPE_CHECKING:
    import torch

    type Tensors = Mapping[str, torch.Tensor]


def collected(averages: Tensors, weights: Tensors, rank: int) -> dict[str, torch.Tensor]:
    """The running moments with one more network, in float64.

    Args:
        averages: the moments so far; empty at first. See `minivess.inference.averages`.
        weights: of the network, by name.
        rank: latest deviations from the mean that are kept; 0 for SWA, which needs no moments.

    Source: Maddox et al. 2019, arXiv:1902.02476, algorithm 1.
    """
    import torch

    count = int(averages["count"]) if averages else 0
    found = dict(averages)
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            found[f"mean.{name}"] = tensor
            continue
        wide = tensor.to(torch.float64)
        old = averages.get(f"mean.{name}", torch.zeros_like(wide))
        mean = (old * count + wide) / (count + 1)
        found[f"mean.{name}"] = mean
        if rank:
            square = averages.get(f"square.{name}", torch.zeros_like(wide))
            found[f"square.{name}"] = (square * count + wide**2) / (count + 1)
            found[f"deviation.{count % rank}.{name}"] = wide - mean
    found["count"] = torch.tensor(count + 1)
    return found


def kept(
    averages: Tensors, weights: Tensors, epoch: int, training: TrainingConfig
) -> dict[str, torch.Tensor]:
    """What is kept after an epoch (from 1): nothing where the config asks for nothing.

    Args:
        averages: what was kept before.
        weights: of the network after the epoch.
        epoch: that epoch.
        training: the keys swa_start, swag_rank and snapshot_cycles.
    """
    found = dict(averages)
    if training.swa_start is not None and epoch >= training.swa_start:
        found = collected(found, weights, training.swag_rank or 0)
    if training.snapshot_cycles is not None:
        cycle, rest = divmod(epoch, training.epochs // training.snapshot_cycles)
        if rest == 0:
            found |= {f"snapshot.{cycle - 1}.{name}": value for name, value in weights.items()}
    return found
