"""cbDice: clDice whose skeleton and mask are weighted by the vessel's radius.

Source: Shi et al. 2024, Centerline Boundary Dice Loss for Vascular Segmentation, arXiv:2407.01517.
Distances are in voxels, as there: they only enter as ratios to the largest radius of the sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.losses.cldice import soft_cldice, soft_skeleton
from minivess.losses.overlap import dice_ce

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss


def radius_weights(
    mask: torch.Tensor, skeleton: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights of mask, radius and skeleton: Q_V, Q_SV and Q_S of the paper.

    Args:
        mask: (B, 1, x, y, z) probability or label; its values above 0.5 define the radii.
        skeleton: its soft skeleton, the same shape.

    Returns three tensors of that shape; gradients flow through `mask` and `skeleton`, not through
    the distances.

    Source: Shi et al. 2024, Section 2.2, with the subtractive inverse of the radius, squared in
    three dimensions, that the authors released.
    """
    import torch

    from minivess.losses.distance import to_background

    with torch.no_grad():
        inside = mask > 0.5
        on_skeleton = skeleton > 0.5
        distance = to_background(inside).float()
        radius = distance * on_skeleton
        largest = radius.amax(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1.0)
        depth = distance.minimum(largest) / largest
        # The thinner the vessel, the larger its weight.
        thinness = ((largest - radius + 1.0) / largest) ** 2 * on_skeleton
    return depth * mask, radius / largest * mask, thinness * skeleton


def _radius_where_known(
    own: torch.Tensor, other: torch.Tensor, skeleton: torch.Tensor
) -> torch.Tensor:
    """The skeleton weighted by the other mask's radius where it has one, else by its own."""
    import torch

    return torch.where((own != 0) & (other == 0), own, other) * skeleton


def hard_skeleton(probability: torch.Tensor, iterations: int) -> torch.Tensor:
    """Probability on the skeleton of its own mask, the skeleton cbDice is defined on.

    Args:
        probability: (B, 1, x, y, z); the gradient flows through it, not through the skeleton.
        iterations: as in `soft_skeleton`.
    """
    import torch

    with torch.no_grad():
        skeleton = soft_skeleton((probability > 0.5).float(), iterations)
    return skeleton * probability


def soft_cbdice(
    probability: torch.Tensor,
    label: torch.Tensor,
    skeletons: tuple[torch.Tensor, torch.Tensor],
    smooth: float,
) -> torch.Tensor:
    """cbDice over the whole batch, a scalar; 1 where both agree.

    Args:
        probability: (B, 1, x, y, z) vessel probability.
        label: the same shape, 0 or 1.
        skeletons: soft skeletons of probability and label, the same shape.
        smooth: added to numerator and denominator of precision and sensitivity.

    Source: Shi et al. 2024, Equations 3 and 4.
    """
    depth_label, radius_label, weight_label = radius_weights(label, skeletons[1])
    depth_ours, radius_ours, weight_ours = radius_weights(probability, skeletons[0])
    precision = ((weight_ours * depth_label).sum() + smooth) / (
        _radius_where_known(radius_ours, radius_label, weight_ours).sum() + smooth
    )
    sensitivity = ((weight_label * depth_ours).sum() + smooth) / (
        _radius_where_known(radius_label, radius_ours, weight_label).sum() + smooth
    )
    return 2.0 * precision * sensitivity / (precision + sensitivity)


def _cbdice_term(
    probability: torch.Tensor, label: torch.Tensor, label_skeleton: torch.Tensor, config: LossConfig
) -> torch.Tensor:
    return 1.0 - soft_cbdice(
        probability,
        label,
        (hard_skeleton(probability, config.skeleton_iterations), label_skeleton),
        config.smooth,
    )


def cbdice(config: LossConfig) -> Loss:
    """1 - cbDice."""
    import torch

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            probability, target = torch.softmax(logits.float(), dim=1)[:, 1:], label.float()
            theirs = soft_skeleton(target, config.skeleton_iterations)
            return _cbdice_term(probability, target, theirs, config)

    return loss


def cbdice_cldice(config: LossConfig) -> Loss:
    """0.5 (1 - cbDice) + 0.5 (0.5 dice_ce + 0.5 (1 - soft clDice)); one skeleton of the label."""
    import torch

    overlap = dice_ce(config)

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            probability, target = torch.softmax(logits.float(), dim=1)[:, 1:], label.float()
            theirs = soft_skeleton(target, config.skeleton_iterations)
            boundary = _cbdice_term(probability, target, theirs, config)
            ours = soft_skeleton(probability, config.skeleton_iterations)
            topology = 1.0 - soft_cldice(probability, target, (ours, theirs), config.smooth).mean()
            return 0.5 * boundary + 0.25 * overlap(logits, label) + 0.25 * topology

    return loss
