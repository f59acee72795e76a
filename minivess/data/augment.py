"""Augmentation of one training patch through TorchIO, a function of (seed, fold, epoch, index)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess.config.augment import AugmentConfig
from minivess.config.schema import PatchConfig
from minivess.data.intensity import coarsened, contrasted, range_gamma
from minivess.data.patches import locate_patch, read_patch
from minivess.data.preprocess import PreparedCase
from minivess.seeding import generator, torch_seeded
from minivess.types import Float32Array, Shape, Spacing

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


def patch_transforms(config: AugmentConfig) -> tio.Transform:
    """Flips and changes of intensity, each with its probability.

    In the order in which an image comes about: optics (blur), sampling, the detector's response
    (brightness, contrast, gamma) and its noise. nnU-Net adds noise first and blurs it.

    Blur, coarser sampling, brightness and contrast draw no random number where their probability
    is 0, so that patches without them are the same bytes as before they were there.
    """
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomFlip(axes=(0, 1, 2), flip_probability=config.flip_probability),
            *_optics(config),
            *_response(config),
            _gamma(config),
            tio.RandomNoise(std=(0.0, config.noise_std), p=config.noise_probability),
        ]
    )


def _optics(config: AugmentConfig) -> list[tio.Transform]:
    """Blur and coarser sampling.

    A wider point-spread function is a length in space: the blur is in um, x and y drawn each for
    itself. TorchIO reads it in the unit of the affine. Along the optical axis, whose steps are
    several um, nothing is blurred. A coarser sampling is a factor of the voxels there are.
    """
    import torchio as tio

    made: list[tio.Transform] = []
    if config.blur_probability > 0:
        # Lowest and highest of x, y and z; TorchIO's annotation leaves this form out.
        ranges: Any = (0, config.blur_sigma_um, 0, config.blur_sigma_um, 0, 0)
        made.append(tio.RandomBlur(std=ranges, p=config.blur_probability))
    if config.low_resolution_probability > 0:

        def coarser(image: torch.Tensor) -> torch.Tensor:
            return _through(coarsened, image, _uniform(1 / config.low_resolution_factor, 1.0))

        made.append(_on_image(coarser, config.low_resolution_probability))
    return made


def _response(config: AugmentConfig) -> list[tio.Transform]:
    """Brightness and contrast."""

    def brighter(image: torch.Tensor) -> torch.Tensor:
        return image * (1.0 + _uniform(-config.brightness_range, config.brightness_range))

    def contrast(image: torch.Tensor) -> torch.Tensor:
        factor = 1.0 + _uniform(-config.contrast_range, config.contrast_range)
        return _through(contrasted, image, factor)

    changes = (
        (brighter, config.brightness_probability),
        (contrast, config.contrast_probability),
    )
    return [_on_image(change, p) for change, p in changes if p > 0]


def _gamma(config: AugmentConfig) -> tio.Transform:
    import torchio as tio

    most, probability = config.gamma_log_range, config.gamma_probability
    if config.gamma_method == "signed":
        return tio.RandomGamma(log_gamma=(-most, most), p=probability)

    def corrected(image: torch.Tensor) -> torch.Tensor:
        gamma = math.exp(_uniform(-most, most))
        return range_gamma(image, gamma, _uniform(0.0, 1.0) < config.gamma_invert_probability)

    return _on_image(corrected, probability)


def _on_image(change: Callable[[torch.Tensor], torch.Tensor], probability: float) -> tio.Transform:
    """A transform that leaves the label alone; `change` returns a new tensor."""
    import torchio as tio

    return tio.Lambda(change, types_to_apply=[tio.INTENSITY], p=probability, copy=False)


def _through(
    change: Callable[[Float32Array, float], Float32Array], image: torch.Tensor, amount: float
) -> torch.Tensor:
    import torch

    return torch.from_numpy(change(image.numpy(), amount))


def _uniform(low: float, high: float) -> float:
    """A number from torch's generator, which `training_patch` seeds."""
    import torch

    return low + (high - low) * float(torch.rand(1, dtype=torch.float64))


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
        subject = patch_transforms(augment)(subject)
    return subject.image.data.float().contiguous(), subject.label.data.to(torch.uint8).contiguous()
