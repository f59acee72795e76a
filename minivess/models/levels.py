"""Resolution levels of a network with skips, and what follows from them without building it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from minivess.types import Shape

POINT: Shape = (1, 1, 1)
CUBE: Shape = (3, 3, 3)


@dataclass(frozen=True)
class Level:
    """One level of encoder and decoder, as kernels of convolutions along (x, y, z).

    Args:
        channels: of every tensor of the level.
        stride: of the encoder's first convolution, which comes from the level above.
        encoder: kernels, first to last.
        decoder: kernels after what comes from the level below is joined; none at the coarsest.
        upsample: kernel of the transposed convolution from the level below.
        concatenated: the skip is concatenated; else it is added.
    """

    channels: int
    stride: Shape
    encoder: tuple[Shape, ...]
    decoder: tuple[Shape, ...] = ()
    upsample: Shape = POINT
    concatenated: bool = True


def divisor(levels: Sequence[Level]) -> Shape:
    """What each axis of a patch must be a multiple of: the product of the strides.

    >>> divisor([Level(4, (1, 1, 1), (CUBE,)), Level(8, (2, 2, 1), (CUBE,))])
    (2, 2, 1)
    """
    x, y, z = (math.prod(level.stride[axis] for level in levels) for axis in range(3))
    return x, y, z


def receptive_field(levels: Sequence[Level]) -> Shape:
    """Voxels (x, y, z) of the box around a voxel outside of which nothing reaches its logits.

    By convolutions alone: statistics of a normalisation are of the whole patch.

    The box is that of the voxel which sees farthest: how far depends on where a voxel lies within
    a voxel of the coarsest level.

    >>> receptive_field([Level(4, (1, 1, 1), (CUBE, CUBE))])
    (5, 5, 5)
    """
    x, y, z = (2 * _reach(levels, axis) + 1 for axis in range(3))
    return x, y, z


def _reach(levels: Sequence[Level], axis: int) -> int:
    farthest = 0
    for voxel in range(divisor(levels)[axis]):
        low, high = _needed(levels, axis, voxel, voxel)
        farthest = max(farthest, voxel - low, high - voxel)
    return farthest


def _needed(levels: Sequence[Level], axis: int, low: int, high: int) -> tuple[int, int]:
    """First and last voxel above the first level that its voxels `low` to `high` depend on."""
    level, below = levels[0], levels[1:]
    for kernel in level.decoder:
        low, high = low - kernel[axis] // 2, high + kernel[axis] // 2
    if below:
        # A transposed convolution puts input j into outputs stride j - padding + 0 .. kernel - 1.
        kernel_length, stride = level.upsample[axis], below[0].stride[axis]
        padding = (kernel_length - 1) // 2
        first = -((kernel_length - 1 - low - padding) // stride)
        last = (high + padding) // stride
        deep_low, deep_high = _needed(below, axis, first, last)
        low, high = min(low, deep_low), max(high, deep_high)
    for kernel in level.encoder[:0:-1]:
        low, high = low - kernel[axis] // 2, high + kernel[axis] // 2
    half = level.encoder[0][axis] // 2
    return low * level.stride[axis] - half, high * level.stride[axis] + half


def activations(levels: Sequence[Level]) -> float:
    """Values that all convolutions of a forward pass give, for each voxel of the patch.

    >>> activations([Level(4, (1, 1, 1), (CUBE,), (CUBE,)), Level(8, (2, 2, 2), (CUBE,))])
    9.0
    """
    total, voxels = 0.0, 1.0
    for level in levels:
        voxels /= math.prod(level.stride)
        total += voxels * level.channels * (len(level.encoder) + len(level.decoder))
    return total


def multiply_adds(levels: Sequence[Level]) -> float:
    """Multiplications of all convolutions of a forward pass, for each voxel of the patch.

    >>> fine = Level(1, (1, 1, 1), (POINT,), (POINT,), (2, 2, 1))
    >>> multiply_adds([fine, Level(4, (2, 2, 1), (POINT,))])
    8.0
    """
    total, voxels = 0.0, 1.0
    for index, (level, weights) in enumerate(zip(levels, _weights(levels), strict=True)):
        voxels /= math.prod(level.stride)
        total += voxels * weights
        if index + 1 < len(levels):
            # Of a transposed convolution's weights a voxel meets one in as many as it skips.
            below = levels[index + 1]
            total -= voxels * _upsampling(level, below) * (1 - 1 / math.prod(below.stride))
    return total


def parameters(levels: Sequence[Level]) -> int:
    """Weights of all convolutions; biases and normalisations, well under a percent, left out.

    >>> parameters([Level(4, (1, 1, 1), (CUBE, CUBE))])
    540
    """
    return sum(_weights(levels))


def _upsampling(level: Level, below: Level) -> int:
    """Weights of the transposed convolution that makes a level of the one below."""
    return math.prod(level.upsample) * below.channels * level.channels


def _weights(levels: Sequence[Level]) -> list[int]:
    """Weights of each level; a transposed convolution counts with the level that it makes."""
    totals = []
    for index, level in enumerate(levels):
        own = level.channels
        above = levels[index - 1].channels if index else 1
        sources = [above] + [own] * (len(level.encoder) - 1)
        total = sum(
            math.prod(kernel) * source * own
            for kernel, source in zip(level.encoder, sources, strict=True)
        )
        if index + 1 < len(levels):
            total += _upsampling(level, levels[index + 1])
            joined = [own * (1 + level.concatenated)] + [own] * (len(level.decoder) - 1)
            total += sum(
                math.prod(kernel) * source * own
                for kernel, source in zip(level.decoder, joined, strict=True)
            )
        totals.append(total)
    return totals


def listed(shapes: Sequence[Shape]) -> str:
    """Shapes as text, one after the other.

    >>> listed([(3, 3, 1), (3, 3, 3)])
    '3x3x1 3x3x3'
    """
    return " ".join("x".join(map(str, shape)) for shape in shapes)
