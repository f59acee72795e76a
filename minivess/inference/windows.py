"""The windows of a volume, their weights, and how what is predicted in them becomes one volume.

Nothing here knows the network: training, the DAG and the exported champion predict with the same
windows, weights and sums, whatever runs the network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from minivess.types import Float32Array, Shape

type Window = tuple[slice, slice, slice]

# Width of the Gaussian as a part of the window, and the least weight of a voxel.
SIGMA, LEAST_WEIGHT = 0.125, 1e-3
# Planes across x whose weights are summed at a time.
PLANES = 32


def window_for(window: Shape, divisor: Shape) -> Shape:
    """The window with each axis rounded up to a multiple of what the network needs.

    >>> window_for((60, 64, 11), (4, 4, 2))
    (60, 64, 12)
    """
    x, y, z = (-(-length // step) * step for length, step in zip(window, divisor, strict=True))
    return x, y, z


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along an axis; the last one is moved back to end with it.

    Args:
        length: voxels along the axis, at least `window`.
        window: voxels of a window.
        overlap: part of a window shared with its neighbour, 0 to below 1.

    >>> window_starts(20, 8, 0.5)
    [0, 4, 8, 12]
    >>> window_starts(21, 8, 0.5)
    [0, 4, 8, 12, 13]
    """
    step = max(1, int(window * (1 - overlap)))
    last = length - window
    return [*range(0, last, step), last]


def windows_of(shape: Shape, window: Shape, overlap: float) -> list[Window]:
    """All windows of a volume that is nowhere smaller than one; the z axis runs fastest.

    >>> len(windows_of((20, 8, 4), (8, 8, 4), 0.5))
    4
    """
    starts = [
        [slice(first, first + size) for first in window_starts(length, size, overlap)]
        for length, size in zip(shape, window, strict=True)
    ]
    return list(itertools.product(*starts))


def gaussian_weights(window: Shape) -> Float32Array:
    """Weight (x, y, z) of each voxel of a window, largest in the middle, nowhere zero.

    Source: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z; the width and the least
    weight are MONAI's.

    >>> [round(float(weight), 4) for weight in gaussian_weights((3, 1, 1)).ravel()]
    [0.0286, 1.0, 0.0286]
    """
    weights = np.ones((1, 1, 1), dtype=np.float32)
    for axis, length in enumerate(window):
        middle, sigma = (length - 1) / 2, SIGMA * length
        # Not NumPy's exponential, whose last bit depends on the CPU.
        values = [math.exp(-((place - middle) ** 2) / (2 * sigma**2)) for place in range(length)]
        shape = [1, 1, 1]
        shape[axis] = length
        weights = weights * np.array(values, dtype=np.float32).reshape(shape)
    return np.maximum(weights, np.float32(LEAST_WEIGHT))


def blended(
    image: Float32Array,
    window: Shape,
    overlap: float,
    window_batch: int,
    predict: Callable[[Float32Array], Float32Array],
    progress: Callable[[float], None] | None = None,
) -> Float32Array:
    """Vessel probability (x, y, z), float32 in 0..1: the weighted mean of all windows over a voxel.

    Probabilities, not logits, are blended: each window votes with its own confidence.

    Args:
        image: (x, y, z), normalised; where smaller than the window, it is mirrored up to it.
        window: voxels along (x, y, z).
        overlap: part of a window shared with its neighbour, 0 to below 1.
        window_batch: windows that are predicted together.
        predict: windows (B, x, y, z) to vessel probabilities (B, x, y, z), float32.
        progress: told after each batch which part of the windows is done, 0 to 1.

    Beside the image, one volume of float32, a part of another and one batch are in memory.
    """
    padded, inner = mirrored(np.asarray(image, dtype=np.float32), window)
    weights = gaussian_weights(window)
    total = np.zeros(padded.shape, dtype=np.float32)
    x, y, z = padded.shape
    places = windows_of((x, y, z), window, overlap)
    for first in range(0, len(places), window_batch):
        batch = places[first : first + window_batch]
        predicted = predict(np.stack([padded[place] for place in batch]))
        for place, probability in zip(batch, predicted, strict=True):
            total[place] += probability * weights
        if progress is not None:
            progress(min(1.0, (first + len(batch)) / len(places)))
    _divide_by_weights(total, places, weights)
    np.clip(total, 0.0, 1.0, out=total)
    return np.ascontiguousarray(total[inner])


def _divide_by_weights(total: Float32Array, places: list[Window], weights: Float32Array) -> None:
    """Divide weighted sums by the sums of the weights, some planes of x at a time."""
    for first in range(0, len(total), PLANES):
        last = min(len(total), first + PLANES)
        sums = np.zeros((last - first, *total.shape[1:]), dtype=np.float32)
        for x, y, z in places:
            low, high = max(first, x.start), min(last, x.stop)
            if low < high:
                sums[low - first : high - first, y, z] += weights[low - x.start : high - x.start]
        total[first:last] /= sums


def mirrored(image: Float32Array, window: Shape) -> tuple[Float32Array, tuple[slice, ...]]:
    """The image where it is as large as the window, else mirrored up to it; where it is inside."""
    missing = [max(0, want - have) for want, have in zip(window, image.shape, strict=True)]
    before = [length // 2 for length in missing]
    pads = [(first, more - first) for first, more in zip(before, missing, strict=True)]
    inner = tuple(
        slice(first, first + length) for first, length in zip(before, image.shape, strict=True)
    )
    return (np.pad(image, pads, mode="symmetric") if any(missing) else image), inner
