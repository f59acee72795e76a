"""The one interface between the trainer and every network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from minivess.config.models import ModelConfig
from minivess.types import Shape, Spacing

if TYPE_CHECKING:
    import torch


class ModelAdapter(ABC):
    """Builds a network for volumes of a spacing and says what it needs.

    Args:
        config: the network's keys.
        spacing_um: typical spacing (x, y, z) of the training cases in um.
    """

    def __init__(self, config: ModelConfig, spacing_um: Spacing) -> None:
        self.config = config
        self.spacing_um = spacing_um

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """A new network, weights drawn from torch's current generator.

        In evaluation mode it maps (B, 1, x, y, z) to logits (B, 2, x, y, z), background first.
        """

    def any_window(self) -> bool:
        """Whether an exported network takes every window that the divisor divides.

        False exports it for the one window that it is used with.
        """
        return False

    @abstractmethod
    def patch_divisor(self) -> Shape:
        """What each axis of a patch or window must be a multiple of."""

    @abstractmethod
    def heads(self, output: torch.Tensor) -> list[torch.Tensor]:
        """All logits (B, 2, x, y, z) of a forward pass in training mode, the finest first."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What was derived from the spacing, for the record (parameters with prefix arch_)."""
