"""Losses of distances to the vessel's surface.

Distances are in voxels of the patch: a loss sees no spacing. Neither has anything to say where a
patch has no surface (no vessel, or nothing else), so they are meant to be added to another loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.losses.regions import both_channels, generalized_dice
from minivess.monai_import import import_monai

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


def signed_distance(label: torch.Tensor) -> torch.Tensor:
    """Signed Euclidean distance in voxels, for each sample of (B, 1, x, y, z).

    Outside the distance to the nearest vessel voxel; inside minus that to the nearest background
    voxel, plus 1, so that the vessel's outermost voxels are 0. All 0 where there is no surface.

    Source: Kervadec et al. 2019, arXiv:1812.07032, and the distance maps that the authors released.
    """
    import numpy as np
    import torch
    from scipy import ndimage

    array = label.detach().cpu().numpy() > 0
    distances = np.zeros(array.shape, dtype=np.float32)
    for index, sample in enumerate(array[:, 0]):
        if sample.any() and not sample.all():
            inside = ndimage.distance_transform_edt(sample)
            outside = ndimage.distance_transform_edt(~sample)
            distances[index, 0] = outside - np.maximum(inside - 1.0, 0.0)
    return torch.from_numpy(distances).to(label.device)


def boundary(config: LossConfig) -> Loss:
    """Mean over voxels of vessel probability times signed distance; negative where it is good.

    Source: Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation,
    arXiv:1812.07032.
    """
    import torch

    del config

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            probability = torch.softmax(logits.float(), dim=1)[:, 1:]
            return (probability * signed_distance(label)).mean()

    return loss


def generalized_dice_boundary(config: LossConfig) -> Loss:
    """generalized_dice + `boundary_weight` boundary; the weight stays as it is over the epochs.

    Source: Kervadec et al. 2019, arXiv:1812.07032, whose weight rises with the epochs.
    """
    regions, surface = generalized_dice(config), boundary(config)

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return regions(logits, label) + config.boundary_weight * surface(logits, label)

    return loss


def hausdorff_dt(config: LossConfig) -> Loss:
    """Mean over voxels of (probability - label)^2 (distance to its surface^2 + to the label's^2).

    Source: Karimi and Salcudean 2019, Reducing the Hausdorff Distance, arXiv:1904.10030,
    with exponent 2: MONAI's HausdorffDTLoss (softmax, background left out).
    """
    del config
    import_monai()
    from monai.losses.hausdorff_loss import HausdorffDTLoss

    return both_channels(HausdorffDTLoss(softmax=True))
