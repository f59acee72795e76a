"""SegResNet: a residual encoder and a light decoder that adds its skips."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from minivess.models.adapter import ModelAdapter
from minivess.models.levels import POINT, Level, listed
from minivess.monai_import import import_monai
from minivess.types import Shape, Spacing

if TYPE_CHECKING:
    import torch


def residual_levels(
    filters: int, blocks: tuple[int, ...], strides: list[Shape], kernels: list[Shape]
) -> tuple[Level, ...]:
    """Levels of MONAI's SegResNetDS.

    Args:
        filters: channels of the finest level, doubled from level to level.
        blocks: residual blocks of each encoder level, of two convolutions each.
        strides: from the level above into each level.
        kernels: of the blocks of each level, which are also those of the convolution into the next.
    """
    levels = []
    for index, (count, stride, kernel) in enumerate(zip(blocks, strides, kernels, strict=True)):
        first = kernels[index - 1] if index else kernel
        deepest = index == len(blocks) - 1
        levels.append(
            Level(
                filters * 2**index,
                stride,
                (first, *[kernel] * (2 * count)),
                () if deepest else (kernel, kernel),
                POINT if deepest else kernel,
                concatenated=False,
            )
        )
    return tuple(levels)


def scales(spacing_um: Spacing, levels: int) -> list[Shape]:
    """Stride from each level to the next, and of the last one to where none follows.

    An axis is pooled as often as it is finer than the coarsest by a factor of two; then all are.

    Source: MONAI's SegResNetDS with a resolution, which derives its kernels from these too.

    >>> scales((1.0, 1.0, 5.0), 3)
    [(2, 2, 1), (2, 2, 1), (2, 2, 2)]
    """
    finer = [int(math.log2(max(spacing_um) / length)) for length in spacing_um]
    found: list[Shape] = []
    for level in range(levels):
        even = level >= max(finer)
        x, y, z = (2 if even or level < times else 1 for times in finer)
        found.append((x, y, z))
    return found


class SegResNetAdapter(ModelAdapter):
    """Residual blocks on the way down, one on each level of the way up, skips that are added.

    MONAI's SegResNetDS, without the paper's variational branch: instance normalisation, kernels
    and strides from the spacing, transposed convolutions (their gradient is deterministic on GPUs).

    Source: Myronenko 2018, arXiv:1810.11654.
    """

    kept = 2.5

    def _scales(self) -> list[Shape]:
        return scales(self.spacing_um, len(self.config.blocks_down))

    def _kernels(self) -> list[Shape]:
        # 3 along an axis that is pooled after the level, else 1.
        return [(2 * x - 1, 2 * y - 1, 2 * z - 1) for x, y, z in self._scales()]

    def build(self) -> torch.nn.Module:
        """See `ModelAdapter.build`."""
        import_monai()
        from monai.networks.nets.segresnet_ds import SegResNetDS

        network: torch.nn.Module = SegResNetDS(
            spatial_dims=3,
            in_channels=1,
            out_channels=2,
            init_filters=self.config.init_filters,
            blocks_down=self.config.blocks_down,
            norm="instance",
            upsample_mode="deconv",
            resolution=self.spacing_um,
        )
        return network

    def any_window(self) -> bool:
        """See `ModelAdapter.any_window`."""
        return True

    def levels(self) -> tuple[Level, ...]:
        """See `ModelAdapter.levels`."""
        strides = [POINT, *self._scales()[:-1]]
        return residual_levels(
            self.config.init_filters, self.config.blocks_down, strides, self._kernels()
        )

    def describe(self) -> dict[str, str]:
        """See `ModelAdapter.describe`."""
        return {
            "arch_kernels": listed(self._kernels()),
            "arch_strides": listed([POINT, *self._scales()[:-1]]),
        }
