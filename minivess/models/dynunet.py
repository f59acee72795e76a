"""DynUNet: the U-Net of nnU-Net with kernels and strides derived from the spacing's anisotropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.models.adapter import ModelAdapter
from minivess.models.levels import POINT, Level, listed
from minivess.monai_import import import_monai
from minivess.types import Shape, Spacing

if TYPE_CHECKING:
    import torch


def kernels_and_strides(spacing_um: Spacing, levels: int) -> tuple[list[Shape], list[Shape]]:
    """Kernel and stride of each level, finest first.

    Args:
        spacing_um: spacing (x, y, z) in um.
        levels: resolution levels of the network.

    An axis at least twice as coarse as the finest is neither pooled nor convolved along until
    pooling has evened the spacing out.

    Source: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z (topology from spacing).

    >>> kernels_and_strides((1.0, 1.0, 5.0), 3)
    ([(3, 3, 1), (3, 3, 1), (3, 3, 3)], [(1, 1, 1), (2, 2, 1), (2, 2, 1)])
    """
    current = np.array(spacing_um, dtype=float)
    kernels: list[Shape] = []
    strides: list[Shape] = []
    for level in range(levels):
        stride = np.array([1, 1, 1])
        if level > 0:
            stride = np.where(current / current.min() < 2.0, 2, 1)
        current = current * stride
        kernel = np.where(current / current.min() < 2.0, 3, 1)
        kernels.append((int(kernel[0]), int(kernel[1]), int(kernel[2])))
        strides.append((int(stride[0]), int(stride[1]), int(stride[2])))
    return kernels, strides


def dynunet_levels(
    filters: tuple[int, ...], kernels: list[Shape], strides: list[Shape]
) -> tuple[Level, ...]:
    """Levels of MONAI's DynUNet: two convolutions each way.

    It decodes a level with the kernel of the one below.
    """
    deeper = [*kernels[1:], None]
    below = [*strides[1:], POINT]
    return tuple(
        Level(
            channels,
            stride,
            (kernel, kernel),
            (decoding, decoding) if decoding else (),
            upsample,
        )
        for channels, stride, kernel, decoding, upsample in zip(
            filters, strides, kernels, deeper, below, strict=True
        )
    )


class DynUNetAdapter(ModelAdapter):
    """U-Net of nnU-Net: kernels and strides follow the spacing; deep supervision on demand.

    MONAI's DynUNet with instance normalisation and leaky ReLU.

    Source: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z.
    """

    def _topology(self) -> tuple[list[Shape], list[Shape]]:
        return kernels_and_strides(self.spacing_um, len(self.config.filters))

    def build(self) -> torch.nn.Module:
        """See `ModelAdapter.build`."""
        import_monai()
        from monai.networks.nets.dynunet import DynUNet

        from minivess.models.channels_last import use_channels_last

        kernels, strides = self._topology()
        network: torch.nn.Module = DynUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=2,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=list(self.config.filters),
            dropout=self.config.dropout or None,
            deep_supervision=self.config.deep_supervision,
            deep_supr_num=max(1, len(self.config.filters) - 2),
        )
        return use_channels_last(network)

    def any_window(self) -> bool:
        """See `ModelAdapter.any_window`."""
        return True

    def levels(self) -> tuple[Level, ...]:
        """See `ModelAdapter.levels`."""
        return dynunet_levels(self.config.filters, *self._topology())

    def heads(self, output: torch.Tensor) -> list[torch.Tensor]:
        """See `ModelAdapter.heads`; DynUNet stacks its heads along a second axis."""
        return list(output.unbind(1)) if output.ndim == 6 else [output]

    def describe(self) -> dict[str, str]:
        """See `ModelAdapter.describe`."""
        kernels, strides = self._topology()
        return {"arch_kernels": listed(kernels), "arch_strides": listed(strides)}
