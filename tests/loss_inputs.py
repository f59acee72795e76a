"""What a loss takes beside logits and label, made for a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.data.skeletons import tubed_skeleton
from minivess.losses import build_loss, needs_of
from minivess.losses.needs import SKELETON, SPACING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from minivess.config.training import LossConfig
    from minivess.types import Spacing


def needed(name: str, label: torch.Tensor, spacing: Spacing) -> dict[str, torch.Tensor]:
    """By name, of the loss with a name; label (B, 1, x, y, z)."""
    import torch

    masks = label.numpy() > 0
    tubes = np.array([[tubed_skeleton(mask) for mask in sample] for sample in masks])
    every = {
        SKELETON: torch.from_numpy(tubes).to(label.dtype),
        SPACING: torch.tensor([spacing] * len(label)),
    }
    return {need: every[need] for need in needs_of(name)}


def whole_loss(
    name: str, config: LossConfig, spacing: Spacing = (1.0, 1.0, 1.0)
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A loss of the registry as a function of logits and label alone."""
    loss = build_loss(name, config)
    return lambda logits, label: loss(logits, label, **needed(name, label, spacing))
