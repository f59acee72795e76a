"""The one interface between the trainer and every network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from minivess.config.models import ModelConfig
from minivess.models import levels
from minivess.models.levels import Level
from minivess.models.pretrained import Source, checked_file, load_pretrained
from minivess.types import Shape, Spacing

if TYPE_CHECKING:
    import torch

# Of the weights while they are trained: gradient, AdamW's two moments, the best ones so far, and
# a copy while the checkpoint is written.
COPIES = 6


class ModelAdapter(ABC):
    """Builds a network for volumes of a spacing and says what it needs.

    Args:
        config: the network's keys.
        spacing_um: typical spacing (x, y, z) of the training cases in um.
    """

    # Values that a training step keeps for each that a convolution gives: its output, what the
    # normalisation makes of it, skips, gradients on their way. Measured, see docs/reference/models.
    kept: ClassVar[float] = 4.0
    # Part of a training's values that is alive at once in a forward pass without gradient.
    alive: ClassVar[float] = 0.4
    # Published weights of the submodule `network`, without which no training starts.
    published: ClassVar[Source | None] = None
    # Normalisation of the intensities that those were trained on.
    normalisation: ClassVar[str | None] = None
    # Packages that compute the network, beside those that all trainings need.
    libraries: ClassVar[tuple[str, ...]] = ()

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
    def levels(self) -> Sequence[Level]:
        """Its resolution levels, finest first, from which the numbers below follow."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What was derived from the spacing, for the record (parameters with prefix arch_)."""

    def reason(self) -> str:
        """Why what `describe` says is as it is."""
        return f"from the typical spacing {self.spacing_um} um"

    @classmethod
    def check(cls, config: ModelConfig, where: str) -> None:
        """Raise for a missing file of published weights, without building anything.

        Raises:
            MinivessError: MV-MODEL-001.
        """
        if cls.published is not None:
            checked_file(config.weights, cls.published, where)

    def start(self, network: torch.nn.Module) -> None:
        """Give a new network the published weights that its training starts from, if it has any.

        Raises:
            MinivessError: MV-MODEL-001 no file of weights, MV-MODEL-002 weights of another network.
        """
        if self.published is not None:
            load_pretrained(network.get_submodule("network"), self.config.weights, self.published)

    def heads(self, output: torch.Tensor) -> list[torch.Tensor]:
        """All logits (B, 2, x, y, z) of a forward pass in training mode, the finest first."""
        return [output]

    def patch_divisor(self) -> Shape:
        """What each axis of a patch or window must be a multiple of."""
        return levels.divisor(self.levels())

    def receptive_field(self) -> Shape:
        """Voxels (x, y, z) around a voxel that its logits can depend on by convolutions."""
        return levels.receptive_field(self.levels())

    def parameters(self) -> int:
        """Number of weights, within a few percent."""
        return levels.parameters(self.levels())

    def multiply_adds(self) -> float:
        """Multiplications of a forward pass for each voxel."""
        return levels.multiply_adds(self.levels())

    def activations(self) -> float:
        """Values that a forward pass gives for each voxel."""
        return levels.activations(self.levels())

    def training_bytes(self, voxels: float) -> float:
        """Memory of a training step beside that of torch and of the loss.

        Args:
            voxels: of all patches of a batch.
        """
        kept = self.kept * self.activations() * voxels
        return 4.0 * (kept + COPIES * self.parameters())

    def prediction_bytes(self, voxels: float) -> float:
        """Memory of a forward pass without gradient.

        Args:
            voxels: of all windows of a batch.
        """
        kept = self.kept * self.activations() * voxels * self.alive
        return 4.0 * (kept + self.parameters())
