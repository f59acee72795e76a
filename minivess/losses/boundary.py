"""Losses of distances to the vessel's surface.

Those of `boundary` follow the spacing of the case, those of `hausdorff_dt` count voxels. Neither
has anything to say where a patch has no surface (no vessel, or nothing else), so they are meant to
be added to another loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.losses.regions import both_channels, generalized_dice
from minivess.monai_import import import_monai

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


def signed_distance(label: torch.Tensor, spacing_um: torch.Tensor) -> torch.Tensor:
    """Signed Euclidean distance in units of the sample's smallest spacing, same shape as the label.

    Args:
        label: (B, 1, x, y, z) of 0 and 1.
        spacing_um: (B, 3) spacing (x, y, z) of each sample.

    Outside the distance to the nearest vessel voxel; inside minus that to the nearest background
    voxel, plus 1, so that the vessel's outermost voxels along the finest axis are 0. All 0 where
    there is no surface. Where voxels are cubes the unit is the voxel, whatever its size; with
    1 x 1 x 5 um it is still that within the plane, and a step along the optical axis counts 5.

    Source: Kervadec et al. 2019, arXiv:1812.07032, and the distance maps that the authors released
    (`one_hot2dist`), whose `resolution` is here the spacing over its smallest entry.

    >>> import torch
    >>> label = torch.zeros(1, 1, 1, 1, 4)
    >>> label[..., :2] = 1
    >>> signed_distance(label, torch.tensor([[1.0, 1.0, 5.0]])).ravel().tolist()
    [-9.0, -4.0, 5.0, 10.0]
    """
    from minivess.losses.distance import to_background

    inside, spacing = label > 0, spacing_um.detach().cpu().double()
    steps = spacing / spacing.amin(dim=1, keepdim=True)
    depth = (to_background(inside, steps) - 1.0).clamp(min=0.0)
    return (to_background(~inside, steps) - depth).float()


def boundary(config: LossConfig) -> Loss:
    """Mean over voxels of vessel probability times signed distance; negative where it is good.

    Source: Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation,
    arXiv:1812.07032. Distances follow the spacing of the case; their unit is its smallest entry.
    """
    import torch

    del config

    def loss(logits: torch.Tensor, label: torch.Tensor, spacing_um: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            probability = torch.softmax(logits.float(), dim=1)[:, 1:]
            return (probability * signed_distance(label, spacing_um)).mean()

    return loss


def generalized_dice_boundary(config: LossConfig) -> Loss:
    """generalized_dice + `boundary_weight` boundary; the weight stays as it is over the epochs.

    Source: Kervadec et al. 2019, arXiv:1812.07032, whose weight rises with the epochs.
    """
    regions, surface = generalized_dice(config), boundary(config)

    def loss(logits: torch.Tensor, label: torch.Tensor, spacing_um: torch.Tensor) -> torch.Tensor:
        distances = surface(logits, label, spacing_um)
        return regions(logits, label) + config.boundary_weight * distances

    return loss


def hausdorff_dt(config: LossConfig) -> Loss:
    """Mean over voxels of (probability - label)^2 (distance to its surface^2 + to the label's^2).

    Source: Karimi and Salcudean 2019, Reducing the Hausdorff Distance, arXiv:1904.10030,
    with exponent 2: MONAI's HausdorffDTLoss (softmax, background left out). Distances are in voxels
    of the patch, whatever the spacing: a step along a coarse axis counts no more than any other.
    """
    del config
    import_monai()
    from monai.losses.hausdorff_loss import HausdorffDTLoss

    return both_channels(HausdorffDTLoss(softmax=True))
