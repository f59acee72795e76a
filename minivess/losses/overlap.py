"""Dice plus cross-entropy, alone and with soft clDice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.losses.cldice import soft_cldice, soft_skeleton
from minivess.monai_import import import_monai

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


def dice_ce(config: LossConfig) -> Loss:
    """Soft Dice of the vessel class plus cross-entropy of both, with equal weights.

    Source: MONAI's DiceCELoss (softmax, background left out of the Dice term, smoothing 1e-5). The
    label goes in as two channels: torch has no deterministic CUDA kernel for class indices.
    """
    import torch

    import_monai()
    from monai.losses.dice import DiceCELoss

    del config  # its keys concern skeleton losses
    criterion = DiceCELoss(include_background=False, softmax=True)

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            target = label.float()
            value: torch.Tensor = criterion(logits.float(), torch.cat([1.0 - target, target], 1))
        return value

    return loss


def dice_ce_cldice(config: LossConfig) -> Loss:
    """0.5 dice_ce + 0.5 (1 - soft clDice)."""
    import torch

    overlap = dice_ce(config)

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            probability = torch.softmax(logits.float(), dim=1)[:, 1:]
            target = label.float()
            with torch.no_grad():
                theirs = soft_skeleton(target, config.skeleton_iterations)
            ours = soft_skeleton(probability, config.skeleton_iterations)
            topology = 1.0 - soft_cldice(probability, target, (ours, theirs), config.smooth)
            return 0.5 * overlap(logits, label) + 0.5 * topology.mean()

    return loss
