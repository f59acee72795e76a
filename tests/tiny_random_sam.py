"""A folder as those of SAM's published weights, of a size with almost none; they are random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.models.sam import SIZES
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import SamModel


def tiny_random_sam(seed: int = 0) -> SamModel:
    """SAM as transformers builds it, without anything of ours."""
    from transformers import SamModel

    from minivess.models.slice_wise import sam_config

    with torch_seeded(seed, "tiny_random_sam"):
        network = SamModel(sam_config(SIZES["tiny_random"])).eval()
        for name, parameter in network.named_parameters():
            if "pos" in name and "shared" not in name:  # they start at zero
                parameter.data.normal_(std=0.5)
            elif parameter.ndim > 1 and "shared" not in name:
                parameter.data *= 10  # large enough for masks that are not flat
    return network


def write_tiny_random_sam(folder: Path, seed: int = 0) -> Path:
    """The folder, written by transformers' own `save_pretrained`."""
    tiny_random_sam(seed).save_pretrained(folder)
    return folder
