"""Losses of overlap and of voxels, as MONAI computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.monai_import import import_monai

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from minivess.losses import Loss


def dice(config: LossConfig) -> Loss:
    """1 - soft Dice of the vessel class, mean over samples.

    Source: Milletari et al. 2016, V-Net, arXiv:1606.04797, without squares in the denominator:
    MONAI's DiceLoss (softmax, background left out, smoothing 1e-5).
    """
    del config
    import_monai()
    from monai.losses.dice import DiceLoss

    return both_channels(DiceLoss(include_background=False, softmax=True))


def generalized_dice(config: LossConfig) -> Loss:
    """1 - generalized Dice of vessel and background, each weighted by 1 / (its volume squared).

    Source: Sudre et al. 2017, arXiv:1707.03237: MONAI's GeneralizedDiceLoss (softmax, a class that
    a sample lacks gets the largest weight among the others). Its smoothing of 1e-5 is as large as
    the weighted sums of a patch of 100,000 voxels, hence 1e-12.
    """
    del config
    import_monai()
    from monai.losses.dice import GeneralizedDiceLoss

    return both_channels(GeneralizedDiceLoss(softmax=True, smooth_nr=1e-12, smooth_dr=1e-12))


def tversky(config: LossConfig) -> Loss:
    """1 - TP / (TP + `tversky_alpha` FP + `tversky_beta` FN) of the vessel class.

    Source: Salehi et al. 2017, arXiv:1706.05721: MONAI's TverskyLoss (softmax, background left
    out, mean over samples, smoothing 1e-5). Both at 0.5 it is the Dice loss.
    """
    import_monai()
    from monai.losses.tversky import TverskyLoss

    alpha, beta = config.tversky_alpha, config.tversky_beta
    return both_channels(
        TverskyLoss(include_background=False, softmax=True, alpha=alpha, beta=beta)
    )


def focal(config: LossConfig) -> Loss:
    """-(1 - p)^`focal_gamma` log p of the true class's probability p, half its mean over voxels.

    Source: Lin et al. 2017, arXiv:1708.02002, without class weights: MONAI's FocalLoss (softmax;
    its mean is over both channels, of which one is zero, hence the half).
    """
    import_monai()
    from monai.losses.focal_loss import FocalLoss

    return both_channels(FocalLoss(gamma=config.focal_gamma, use_softmax=True))


def both_channels(criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Loss:
    """A criterion of logits and one-hot label, in float32."""
    import torch

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            target = label.float()
            return criterion(logits.float(), torch.cat([1.0 - target, target], 1))

    return loss
