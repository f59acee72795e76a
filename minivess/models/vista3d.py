"""VISTA-3D: NVIDIA's and MONAI's prompted network for computed tomography, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.models.adapter import ModelAdapter
from minivess.models.levels import CUBE, POINT, Level, listed
from minivess.models.pretrained import Source
from minivess.models.segresnet import residual_levels
from minivess.monai_import import import_monai
from minivess.types import Shape

if TYPE_CHECKING:
    import torch

BLOCKS = (1, 2, 2, 4, 4)
STRIDES: list[Shape] = [POINT, *[(2, 2, 2)] * 4]
CLASSES = 512
SOURCE = Source(
    "VISTA-3D",
    "model.pt of the MONAI bundle vista3d",
    "https://huggingface.co/MONAI/VISTA3D-HF or the MONAI model zoo",
)


class Vista3DAdapter(ModelAdapter):
    """Foundation model of computed tomography: its published weights, fine-tuned for one class.

    MONAI's vista3d132. Training and the experiment's predictions use the automatic branch with the
    class prompt `class_prompt` (25 is hepatic vessels; from 133 on they are free). The branch for
    points keeps its published weights and answers `minivess points`. It was trained on isotropic
    tomograms: set preprocess.normalisation to minmax.

    Source: He et al. 2025, CVPR, arXiv:2406.05285.
    """

    published = SOURCE
    normalisation = "minmax"
    kept = 2.6

    def build(self) -> torch.nn.Module:
        """See `ModelAdapter.build`; `start` loads the published weights."""
        import_monai()
        from monai.networks.nets.vista3d import vista3d132

        from minivess.models.one_logit import ClassPrompted

        network = vista3d132(encoder_embed_dim=self.config.embed_dim, in_channels=1)
        for part in (network.point_head, network.image_encoder.up_layers):
            part.requires_grad_(False)  # it has no part in what the class prompt gives
        return ClassPrompted(network, self.config.class_prompt)

    def any_window(self) -> bool:
        """See `ModelAdapter.any_window`: one voxel at the coarsest level is a constant."""
        return False

    def levels(self) -> tuple[Level, ...]:
        """See `ModelAdapter.levels`; the head's four convolutions end the finest one."""
        finest, *coarser = residual_levels(
            self.config.embed_dim, BLOCKS, STRIDES, [CUBE] * len(BLOCKS)
        )
        decoder = (*finest.decoder, *[CUBE] * 4)
        head = Level(finest.channels, POINT, finest.encoder, decoder, CUBE, concatenated=False)
        return (head, *coarser)

    def parameters(self) -> int:
        """See `ModelAdapter.parameters`: with the branch for points, a second decoder and more."""
        own, channels = self.levels(), self.config.embed_dim
        decoders = sum(27 * (2 * level.channels**2 + 2 * level.channels**2) for level in own[:-1])
        return super().parameters() + decoders + 2 * CLASSES * channels + 27 * 4 * channels**2

    def reason(self) -> str:
        """See `ModelAdapter.reason`."""
        return "as published"

    def describe(self) -> dict[str, str]:
        """See `ModelAdapter.describe`; nothing of it follows from the spacing."""
        return {"arch_blocks": " ".join(map(str, BLOCKS)), "arch_strides": listed(STRIDES)}
