"""Centerline cross-entropy: the cross-entropy on the soft skeletons of label and prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.losses.cldice import soft_skeleton
from minivess.losses.regions import dice

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


def centerline_ce(config: LossConfig) -> Loss:
    """Mean over voxels of cross-entropy times label's skeleton, plus times prediction's skeleton.

    Source: Acebes et al. 2024, The Centerline-Cross Entropy Loss for Vessel-Like Structure
    Segmentation, MICCAI, papers.miccai.org/miccai-2024/770-Paper1081.html, as the authors released
    it: means over all voxels, soft skeletons, gradients through the prediction's. It says nothing
    of voxels on neither skeleton.
    """
    import torch

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            target = label.float()
            with torch.no_grad():
                theirs = soft_skeleton(target, config.skeleton_iterations)
            logs = torch.log_softmax(logits.float(), dim=1)
            entropy = -(logs[:, :1] * (1.0 - target) + logs[:, 1:] * target)
            ours = soft_skeleton(logs[:, 1:].exp(), config.skeleton_iterations)
            return (entropy * theirs).mean() + (entropy * ours).mean()

    return loss


def dice_centerline_ce(config: LossConfig) -> Loss:
    """0.5 dice + 0.5 centerline_ce."""
    overlap, line = dice(config), centerline_ce(config)

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return 0.5 * overlap(logits, label) + 0.5 * line(logits, label)

    return loss
