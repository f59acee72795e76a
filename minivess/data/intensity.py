"""Changes of a patch's intensities that TorchIO has no transform for, as functions of an amount.

None of them draws a random number. They are computed as nnU-Net's are, which come from
batchgeneratorsv2 (Isensee et al., Nature Methods 2021, supplementary note 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.types import Array, Float32Array

if TYPE_CHECKING:
    import torch


def contrasted(image: Float32Array, factor: float) -> Float32Array:
    """Deviations from the patch's mean times `factor`, clipped to the patch's own range.

    Args:
        image: (..., x, y, z).
        factor: above 1 more contrast, below 1 less.

    >>> contrasted(np.array([0, 1, 2, 5], dtype=np.float32), 1.5).tolist()
    [0.0, 0.5, 2.0, 5.0]
    """
    mean = np.float32(image.mean(dtype=np.float64))
    changed = (image - mean) * np.float32(factor) + mean
    clipped: Float32Array = np.clip(changed, image.min(), image.max())
    return clipped


def coarsened(image: Float32Array, scale: float) -> Float32Array:
    """The image as if sampled at `scale` times as many voxels in the plane.

    Args:
        image: (channel, x, y, z).
        scale: voxels that are left along x and y, as a part of those there are; z is left alone.

    The nearest voxels are taken, and the image is interpolated linearly to its own shape. Nothing
    is averaged before: a scanning microscope that steps further skips what lies between.

    >>> coarsened(np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1), 0.5).ravel().tolist()
    [1.0, 1.5, 2.5, 3.0]
    """
    for axis in (1, 2):
        image = _coarsened_along(image, axis, scale)
    return image


def _coarsened_along(image: Float32Array, axis: int, scale: float) -> Float32Array:
    length = image.shape[axis]
    few = max(1, round(length * scale))
    # Centres of voxels; in whole numbers, so that none lies beside the edge of a voxel by rounding.
    nearest = (2 * np.arange(few) + 1) * length // (2 * few)
    place = np.clip((np.arange(length) + 0.5) * few / length - 0.5, 0, few - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, few - 1)
    weight = (place - low).astype(np.float32).reshape(-1, *[1] * (image.ndim - axis - 1))
    before: Float32Array = image.take(nearest[low], axis)
    after: Float32Array = image.take(nearest[high], axis)
    after -= before
    after *= weight
    after += before
    return after


def range_gamma(image: torch.Tensor, gamma: float, inverted: bool) -> torch.Tensor:
    """Gamma correction over the patch's range; its mean and standard deviation are kept.

    Args:
        image: (channel, x, y, z).
        gamma: exponent of the intensities scaled to 0..1.
        inverted: whether it acts on the negative of the image, so that it changes dark
            intensities as else bright ones.

    >>> import torch
    >>> ramp = torch.linspace(-1, 1, 5).reshape(1, 5, 1, 1)
    >>> [round(value, 2) for value in range_gamma(ramp, 2.0, False).ravel().tolist()]
    [-0.72, -0.6, -0.24, 0.36, 1.2]
    >>> [round(value, 2) for value in range_gamma(ramp, 2.0, True).ravel().tolist()]
    [-1.2, -0.36, 0.24, 0.6, 0.72]
    """
    mean, std = _moments(image.numpy())
    low, high = (float(limit) for limit in image.aminmax())
    if high == low:
        return image.clone()
    # The inverted image scaled to 0..1 runs from the highest intensity down.
    unit = (high - image if inverted else image - low) / (high - low)
    changed = unit.clamp_(0, 1).pow_(gamma)
    changed_mean, changed_std = _moments(changed.numpy())
    factor = (-std if inverted else std) / changed_std
    return changed.sub_(changed_mean).mul_(factor).add_(mean)


def _moments(image: Array) -> tuple[float, float]:
    """Mean and standard deviation, summed by NumPy: torch's sums depend on the threads."""
    mean = image.mean(dtype=np.float64)
    return float(mean), float(np.sqrt(np.square(image - mean).mean()))
