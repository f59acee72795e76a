"""Attention U-Net: a U-Net whose skips pass a gate that the level below controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.models.adapter import ModelAdapter
from minivess.models.dynunet import kernels_and_strides
from minivess.models.levels import CUBE, Level, listed
from minivess.monai_import import import_monai
from minivess.types import Shape

if TYPE_CHECKING:
    import torch


class AttentionUnetAdapter(ModelAdapter):
    """U-Net whose skips are weighted voxel by voxel, by a gate from the level below.

    MONAI's AttentionUnet: kernels of 3 along all axes, strides from the spacing, batch
    normalisation (so it does not train on several devices, and batches of 1 train it badly).

    Source: Oktay et al. 2018, arXiv:1804.03999.
    """

    # The gate's maps are kept as well.
    kept = 7.0

    def _strides(self) -> list[Shape]:
        return kernels_and_strides(self.spacing_um, len(self.config.filters))[1]

    def build(self) -> torch.nn.Module:
        """See `ModelAdapter.build`."""
        import_monai()
        from monai.networks.nets.attentionunet import AttentionUnet

        network: torch.nn.Module = AttentionUnet(
            spatial_dims=3,
            in_channels=1,
            out_channels=2,
            channels=self.config.filters,
            strides=self._strides()[1:],  # type: ignore[arg-type]  # one for each axis works
            dropout=self.config.dropout,
        )
        return network

    def any_window(self) -> bool:
        """See `ModelAdapter.any_window`."""
        return True

    def levels(self) -> tuple[Level, ...]:
        """See `ModelAdapter.levels`."""
        deepest = len(self.config.filters) - 1
        return tuple(
            Level(channels, stride, (CUBE, CUBE), (CUBE,) if index < deepest else (), upsample=CUBE)
            for index, (channels, stride) in enumerate(
                zip(self.config.filters, self._strides(), strict=True)
            )
        )

    def describe(self) -> dict[str, str]:
        """See `ModelAdapter.describe`."""
        return {"arch_strides": listed(self._strides())}
