"""What a training keeps beside its best weights: their running mean, SWAG's moments, snapshots.

All of it is in one file of tensors by name: `count`, `mean.NAME`, `square.NAME`,
`deviation.K.NAME` (float64) and `snapshot.K.NAME` (as the network has them).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minivess import paths
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import torch

    type Tensors = Mapping[str, torch.Tensor]

# Variances below this are rounding; the value of the authors' code.
LEAST_VARIANCE = 1e-30


def under(tensors: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors below a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def read_averages(run: Path) -> dict[str, torch.Tensor]:
    """What a run has kept.

    Raises:
        MinivessError: MV-STATE-002 nothing, MV-STATE-003 the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = paths.averages(run)
    if not path.is_file():
        raise MinivessError(
            "MV-STATE-002",
            what="the run has kept no averaged weights and no snapshots",
            where=str(path),
            fix="set training.swa_start or training.snapshot_cycles and train it again",
        )
    try:
        found: dict[str, torch.Tensor] = load_file(path)
    except SafetensorError as error:
        raise MinivessError(
            "MV-STATE-003",
            what="the averaged weights cannot be read",
            where=str(path),
            found=str(error).splitlines()[0],
            fix="delete the file and run the experiment again",
        ) from error
    return found


def swa_weights(averages: Tensors) -> dict[str, torch.Tensor]:
    """Mean of the weights after each epoch from `swa_start` on, in float32.

    Source: Izmailov et al. 2018, Averaging weights leads to wider optima, arXiv:1803.05407.
    """
    import torch

    return {
        name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in under(averages, "mean.").items()
    }


def swag_sample(averages: Tensors, random: np.random.Generator) -> dict[str, torch.Tensor]:
    """Weights drawn from the Gaussian that SWAG fits to the trajectory, in float32.

    Mean plus half of the variance on the diagonal, half in the span of the latest K deviations:
    theta = mean + S z1 / sqrt(2) + D z2 / sqrt(2 (K - 1)), S the standard deviations.

    Args:
        averages: with `square` and at least two `deviation`s.
        random: draws z1 and z2; NumPy's, whose numbers no CPU changes.

    Source: Maddox et al. 2019, A simple baseline for Bayesian uncertainty in deep learning,
    arXiv:1902.02476, equation 1.
    """
    import torch

    mean, square = under(averages, "mean."), under(averages, "square.")
    columns: list[dict[str, torch.Tensor]] = []
    while deviation := under(averages, f"deviation.{len(columns)}."):
        columns.append(deviation)
    common = random.standard_normal(len(columns)) / np.sqrt(2.0 * (len(columns) - 1))
    sample = {}
    for name, tensor in sorted(mean.items()):
        if name not in square:
            sample[name] = tensor
            continue
        centre = tensor.numpy()
        variance = np.maximum(square[name].numpy() - centre**2, LEAST_VARIANCE)
        drawn = centre + np.sqrt(variance / 2.0) * random.standard_normal(centre.shape)
        for factor, column in zip(common, columns, strict=True):
            drawn = drawn + factor * column[name].numpy()
        sample[name] = torch.from_numpy(np.asarray(drawn, dtype=np.float32))
    return sample


def snapshots(averages: Tensors) -> list[dict[str, torch.Tensor]]:
    """Weights at the end of each cycle of the learning rate, in their order.

    Source: Huang et al. 2017, Snapshot ensembles: train 1, get M for free, arXiv:1704.00109.
    """
    found: list[dict[str, torch.Tensor]] = []
    while snapshot := under(averages, f"snapshot.{len(found)}."):
        found.append(snapshot)
    return found
