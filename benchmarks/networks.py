"""The one network that the sides of a benchmark share, and the phantoms that they work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivess.config.schema import ModelConfig, PhantomConfig
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.phantom import make_phantom
from minivess.data.preprocess import PreparedCase
from minivess.models import build_adapter
from minivess.models.adapter import ModelAdapter
from minivess.models.dynunet import kernels_and_strides

if TYPE_CHECKING:
    import torch

    from minivess.types import Array, Shape, Spacing

SPACING_UM = (1.0, 1.0, 5.0)


def adapter(filters: Sequence[int]) -> ModelAdapter:
    """Return this project's network."""
    return build_adapter(ModelConfig(filters=tuple(filters)), SPACING_UM)


def plain(filters: Sequence[int], z_first: bool = False) -> torch.nn.Module:
    """Return the same network as MONAI has it, for volumes (x, y, z) or (z, y, x)."""
    from monai.networks.nets.dynunet import DynUNet

    kernels, strides = kernels_and_strides(SPACING_UM, len(filters))
    if z_first:
        kernels = [(z, y, x) for x, y, z in kernels]
        strides = [(z, y, x) for x, y, z in strides]
    network: torch.nn.Module = DynUNet(
        3, 1, 2, kernels, strides, strides[1:], filters=list(filters)
    )
    return network


def turned(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights for volumes (z, y, x)."""
    return {
        name: tensor.permute(0, 1, 4, 3, 2).contiguous() if tensor.ndim == 5 else tensor
        for name, tensor in weights.items()
    }


def phantoms(count: int, shape: Shape, seed: int = 0) -> list[tuple[Array, Array]]:
    """Return volumes and their labels, (x, y, z)."""
    trees = max(3, shape[0] * shape[1] * shape[2] // 70_000)
    config = PhantomConfig(
        phantom_shape=shape, phantom_spacing_um=SPACING_UM, n_trees=trees, phantom_seed=seed
    )
    made = [make_phantom(config, index) for index in range(count)]
    return [(np.asarray(one.image), np.asarray(one.label) > 0) for one in made]


def prepared(name: str, image: Array, label: Array, spacing_um: Spacing) -> PreparedCase:
    """Return a case in memory as preprocessing leaves it on the disk."""
    from minivess.config.schema import PreprocessConfig
    from minivess.data.preprocess import normalise

    x, y, z = image.shape
    return PreparedCase(
        name,
        name,
        normalise(image, PreprocessConfig())[0],
        label.astype(np.uint8),
        np.flatnonzero(label),
        Geometry((x, y, z), diagonal_affine(spacing_um)),
    )
