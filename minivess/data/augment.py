"""Augmentation of one training patch through TorchIO, a function of (seed, fold, epoch, index)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivess.config.schema import AugmentConfig, PatchConfig
from minivess.data.patches import locate_patch, read_patch
from minivess.data.preprocess import PreparedCase
from minivess.seeding import generator, torch_seeded
from minivess.types import Shape, Spacing

if TYPE_CHECKING:
    import torch
    import torchio as tio


def affine_margin(size: Shape, spacing_um: Spacing, config: AugmentConfig) -> Shape:
    """Voxels beyond each side of a patch that an in-plane rotation and zoom can bring in.

    Args:
        size: voxels of the patch along (x, y, z).
        spacing_um: spacing (x, y, z) in um; rotations are rigid in space, not in voxels.
        config: largest rotation and zoom.

    >>> affine_margin((64, 64, 16), (1.0, 1.0, 5.0), AugmentConfig(rotation_degrees=0, zoom=0.0))
    (0, 0, 0)
    """
    x, y = size[0] * spacing_um[0], size[1] * spacing_um[1]
    return (
        _margin(x, y, spacing_um[0], config),
        _margin(y, x, spacing_um[1], config),
        0,
    )


def _margin(own: float, other: float, step: float, config: AugmentConfig) -> int:
    """Voxels beyond an edge; lengths and the size of a voxel in um."""
    # A rectangle is widest when its diagonal lies along the axis.
    angle = min(math.radians(config.rotation_degrees), math.atan2(other, own))
    width = (own * math.cos(angle) + other * math.sin(angle)) / (1.0 - config.zoom)
    return math.ceil(round((width - own) / (2.0 * step), 6))


def intensity_transforms(config: AugmentConfig) -> tio.Transform:
    """Flips, noise and gamma as TorchIO transforms, each with its probability."""
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomFlip(axes=(0, 1, 2), flip_probability=config.flip_probability),
            tio.RandomGamma(
                log_gamma=(-config.gamma_log_range, config.gamma_log_range),
                p=config.gamma_probability,
            ),
            tio.RandomNoise(std=(0.0, config.noise_std), p=config.noise_probability),
        ]
    )


def _affine(config: AugmentConfig, size: Shape) -> tio.Transform:
    import torchio as tio

    low, high = 1.0 - config.zoom, 1.0 + config.zoom
    angle = config.rotation_degrees
    return tio.Compose(
        [
            tio.RandomAffine(
                scales=(low, high, low, high, 1.0, 1.0),
                degrees=(0.0, 0.0, 0.0, 0.0, -angle, angle),
                image_interpolation="linear",
            ),
            tio.CropOrPad(size),
        ]
    )


def training_patch(
    cases: Sequence[PreparedCase],
    patches: PatchConfig,
    augment: AugmentConfig,
    key: tuple[int, int, int],
    index: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image float32 (1, x, y, z) and label uint8 of the same shape of one training patch.

    Args:
        cases: training cases; the label has the values that theirs have.
        patches: size and sampling of patches.
        augment: probabilities and ranges.
        key: (seed, fold, epoch).
        index: number of the patch in the epoch.

    Neither the order in which patches are asked for nor the process that asks changes a patch.
    """
    import torch
    import torchio as tio

    seed, fold, epoch = key
    location = locate_patch(cases, patches, key, index)
    case = cases[location.case]
    draw = float(generator(seed, "affine", fold, epoch, index).random())
    moved = draw < augment.affine_probability
    size = patches.patch_size
    margin = affine_margin(size, case.spacing_um, augment) if moved else (0, 0, 0)
    image, label = read_patch(case, location, size, margin)
    affine = np.diag([*case.spacing_um, 1.0])
    subject = tio.Subject(
        image=tio.ScalarImage(tensor=torch.from_numpy(image[None]), affine=affine),
        label=tio.LabelMap(tensor=torch.from_numpy(label[None]), affine=affine),
    )
    with torch_seeded(seed, "augment", fold, epoch, index):
        if moved:
            subject = _affine(augment, size)(subject)
        subject = intensity_transforms(augment)(subject)
    return subject.image.data.float().contiguous(), subject.label.data.to(torch.uint8).contiguous()
