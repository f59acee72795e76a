"""An auxiliary loss for probabilities that mean what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.losses.overlap import dice_ce

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


def hard_l1_ace(probability: torch.Tensor, target: torch.Tensor, bins: int) -> torch.Tensor:
    """Average calibration error with hard bins of equal width, mean over samples and classes.

    Args:
        probability: (B, C, ...) probability of each class.
        target: the same shape, 0 or 1.
        bins: bins of (0, 1]; a probability of 0 is in the first one.

    In each bin that has voxels the absolute difference of mean probability and mean label, then
    the mean over those bins. The gradient flows through the probabilities, not through the bins.

    Source: Barfoot et al. 2024, Average Calibration Error: A Differentiable Loss for Improved
    Reliability in Image Segmentation, arXiv:2403.06759 (hL1-ACE).

    >>> import torch
    >>> chances, truth = torch.tensor([[[0.2, 0.8]]]), torch.tensor([[[0.0, 1.0]]])
    >>> round(hard_l1_ace(chances, truth, bins=2).item(), 4)
    0.2
    """
    import torch

    flat = probability.flatten(2)
    excess = flat - target.flatten(2)
    edges = torch.linspace(0.0, 1.0, bins + 1, device=flat.device)[1:-1]
    with torch.no_grad():
        number = torch.bucketize(flat, edges)
    total = torch.zeros_like(flat[..., 0])
    filled = torch.zeros_like(total)
    # A sum per bin: adding at indices has no deterministic kernel on every device.
    for index in range(bins):
        inside = number == index
        count = inside.sum(dim=-1)
        total = total + (excess * inside).sum(dim=-1).abs() / count.clamp(min=1)
        filled = filled + (count > 0)
    return (total / filled).mean()


def dice_ce_hl1ace(config: LossConfig) -> Loss:
    """dice_ce + `ace_weight` hL1-ACE of vessel and background with `ace_bins` bins.

    Source: Barfoot et al. 2024, arXiv:2403.06759, whose weights of the three terms are equal.
    """
    import torch

    main = dice_ce(config)

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            target = label.float()
            probability = torch.softmax(logits.float(), dim=1)
            error = hard_l1_ace(probability, torch.cat([1.0 - target, target], 1), config.ace_bins)
            return main(logits, label) + config.ace_weight * error

    return loss
