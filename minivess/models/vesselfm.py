"""vesselFM: a residual U-Net trained on many kinds of vessel images, then fine-tuned here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.models.adapter import ModelAdapter
from minivess.models.dynunet import dynunet_levels
from minivess.models.levels import CUBE, POINT, Level, listed
from minivess.models.pretrained import Source
from minivess.monai_import import import_monai
from minivess.types import Shape

if TYPE_CHECKING:
    import torch

FILTERS = (32, 64, 128, 256, 320, 320)
STRIDES: list[Shape] = [POINT, *[(2, 2, 2)] * 5]
SOURCE = Source("vesselFM", "vesselFM_base.pt", "https://huggingface.co/bwittmann/vesselFM")


class VesselFMAdapter(ModelAdapter):
    """Foundation model for vessels in 3D: its published weights, fine-tuned.

    MONAI's DynUNet with residual blocks, six levels and one logit, as its authors configured it
    (31,418,977 weights). It was trained on volumes in the order (z, y, x) with intensities between
    their 1st and 99th percentile mapped to 0..1: set preprocess.normalisation to minmax and
    preprocess.clip_percentiles to [1, 99]. MiniVess is among the data it was trained on.

    Source: Wittmann et al. 2025, CVPR, arXiv:2411.17386.
    """

    published = SOURCE
    normalisation = "minmax"
    kept = 3.5

    def build(self) -> torch.nn.Module:
        """See `ModelAdapter.build`; `start` loads the published weights."""
        import_monai()
        from monai.networks.nets.dynunet import DynUNet

        from minivess.models.one_logit import ReversedAxes

        return ReversedAxes(
            DynUNet(
                spatial_dims=3,
                in_channels=1,
                out_channels=1,
                kernel_size=[CUBE] * len(FILTERS),
                strides=STRIDES,
                upsample_kernel_size=STRIDES[1:],
                filters=FILTERS,
                res_block=True,
            )
        )

    def any_window(self) -> bool:
        """See `ModelAdapter.any_window`: one voxel at the coarsest level is a constant."""
        return False

    def levels(self) -> tuple[Level, ...]:
        """See `ModelAdapter.levels`."""
        return dynunet_levels(FILTERS, [CUBE] * len(FILTERS), STRIDES)

    def reason(self) -> str:
        """See `ModelAdapter.reason`."""
        return "as published"

    def describe(self) -> dict[str, str]:
        """See `ModelAdapter.describe`; nothing of it follows from the spacing."""
        return {"arch_filters": " ".join(map(str, FILTERS)), "arch_strides": listed(STRIDES)}
