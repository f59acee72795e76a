"""Soft clDice: overlap of each mask with the other's soft skeleton.

Source: Shit et al. 2021, clDice, arXiv:2003.07311, with its soft skeleton of iterated min- and
max-pooling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


def _erode(volume: torch.Tensor) -> torch.Tensor:
    from minivess.losses.pooling import AXES, largest_along

    negative = -volume
    x, y, z = (largest_along(negative, axis) for axis in AXES)
    return -x.maximum(y).maximum(z)


def _dilate(volume: torch.Tensor) -> torch.Tensor:
    from minivess.losses.pooling import largest_around

    return largest_around(volume)


def soft_skeleton(volume: torch.Tensor, iterations: int) -> torch.Tensor:
    """Soft skeleton of a probability or label.

    Args:
        volume: (B, 1, x, y, z), values 0 to 1.
        iterations: erosions; at least the largest radius in voxels for a one-voxel skeleton.

    Source: Shit et al. 2021, Algorithm 1. Each erosion is computed once, not twice.
    """
    from torch.nn import functional

    eroded = _erode(volume)
    skeleton = functional.relu(volume - _dilate(eroded))
    for _ in range(iterations):
        volume, eroded = eroded, _erode(eroded)
        ridge = functional.relu(volume - _dilate(eroded))
        skeleton = skeleton + functional.relu(ridge - skeleton * ridge)
    return skeleton


def soft_cldice(
    probability: torch.Tensor,
    label: torch.Tensor,
    skeletons: tuple[torch.Tensor, torch.Tensor],
    smooth: float,
) -> torch.Tensor:
    """Soft clDice of each sample, shape (B,), 1 where both agree.

    Args:
        probability: (B, 1, x, y, z) vessel probability.
        label: the same shape, 0 or 1.
        skeletons: soft skeletons of probability and label, the same shape.
        smooth: added to numerator and denominator of precision and sensitivity.

    Source: Shit et al. 2021, Equations 1 and 2.
    """
    axes = tuple(range(1, probability.ndim))
    ours, theirs = skeletons
    precision = ((ours * label).sum(axes) + smooth) / (ours.sum(axes) + smooth)
    sensitivity = ((theirs * probability).sum(axes) + smooth) / (theirs.sum(axes) + smooth)
    return 2.0 * precision * sensitivity / (precision + sensitivity)


def cldice(config: LossConfig) -> Loss:
    """1 - soft clDice, mean over samples.

    Source: Shit et al. 2021, clDice, arXiv:2003.07311, Equation 3 with alpha 1. It is blind to
    voxels on neither skeleton; the paper adds it to Dice, as `dice_ce_cldice` does.
    """
    import torch

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            probability, target = torch.softmax(logits.float(), dim=1)[:, 1:], label.float()
            with torch.no_grad():
                theirs = soft_skeleton(target, config.skeleton_iterations)
            ours = soft_skeleton(probability, config.skeleton_iterations)
            return (1.0 - soft_cldice(probability, target, (ours, theirs), config.smooth)).mean()

    return loss
