"""Skeleton recall: how much of the label's tubed skeleton is predicted.

Source: Kirchhoff et al. 2024, Skeleton Recall Loss for Connectivity Conserving and Resource
Efficient Segmentation of Thin Tubular Structures, arXiv:2404.03010.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.losses.overlap import dice_ce

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss

# The authors'.
SMOOTH = 1e-5


def soft_recall(probability: torch.Tensor, skeleton: torch.Tensor) -> torch.Tensor:
    """Predicted part of each sample's tubed skeleton, shape (B,); 1 where there is none.

    Args:
        probability: (B, 1, x, y, z) vessel probability.
        skeleton: the same shape, 1 on the tubed skeleton of the label, else 0.

    Source: Kirchhoff et al. 2024, arXiv:2404.03010, with the smoothing of 1e-5 that the authors
    released.

    >>> import torch
    >>> skeleton = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4, 1, 1)
    >>> probability = torch.tensor([0.9, 0.5, 0.9, 0.1]).reshape(1, 1, 4, 1, 1)
    >>> round(soft_recall(probability, skeleton).item(), 4)
    0.7
    """
    axes = tuple(range(1, probability.ndim))
    found = (probability * skeleton).sum(axes)
    return (found + SMOOTH) / (skeleton.sum(axes) + SMOOTH)


def skeleton_recall(config: LossConfig) -> Loss:
    """1 - soft recall over the label's tubed skeleton, mean over samples.

    Source: Kirchhoff et al. 2024, arXiv:2404.03010. It is blind to whatever is predicted off the
    skeleton; the paper adds it to Dice and cross-entropy, as `dice_ce_skeleton_recall` does. The
    authors' code returns it without the 1. The step `skeletons` makes the tubed skeletons, once,
    and the augmentation moves them with the label. A component that scikit-image erases, some
    straight ones, has no tube and no term; the step's log counts them.
    """
    import torch

    del config  # the tube's width is the authors', not a key

    def loss(logits: torch.Tensor, label: torch.Tensor, skeleton: torch.Tensor) -> torch.Tensor:
        del label
        with torch.autocast(logits.device.type, enabled=False):
            probability = torch.softmax(logits.float(), dim=1)[:, 1:]
            return (1.0 - soft_recall(probability, skeleton.float())).mean()

    return loss


def dice_ce_skeleton_recall(config: LossConfig) -> Loss:
    """dice_ce + skeleton_recall.

    Source: Kirchhoff et al. 2024, arXiv:2404.03010, whose weights of the three terms are equal.
    """
    overlap, recall = dice_ce(config), skeleton_recall(config)

    def loss(logits: torch.Tensor, label: torch.Tensor, skeleton: torch.Tensor) -> torch.Tensor:
        return overlap(logits, label) + recall(logits, label, skeleton)

    return loss
