"""Random patches, read by memory map; which one is a function of (seed, fold, epoch, index)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minivess.config.schema import PatchConfig
from minivess.data.preprocess import PreparedCase
from minivess.errors import MinivessError
from minivess.seeding import generator
from minivess.types import Array, Float32Array, Shape


@dataclass(frozen=True)
class PatchLocation:
    """A patch: case (index in the list of cases) and its first voxel; may begin outside."""

    case: int
    start: Shape


def check_patch_size(size: Shape, divisor: Shape, cases: Sequence[PreparedCase]) -> None:
    """Raise where a patch is larger than a volume or the network cannot halve it often enough.

    Args:
        size: voxels of the patch along (x, y, z).
        divisor: what the network needs each axis to be a multiple of.
        cases: the volumes.

    Raises:
        MinivessError: MV-PATCH-001 larger than the smallest volume, MV-PATCH-002 not divisible.
    """
    smallest = np.min([case.shape for case in cases], axis=0)
    fitting = [int(low) // step * step for low, step in zip(smallest, divisor, strict=True)]
    if np.any(np.array(size) > smallest):
        axis = int(np.argmax(np.array(size) > smallest))
        case = min(cases, key=lambda case: case.shape[axis])
        raise MinivessError(
            "MV-PATCH-001",
            what="the patch is larger than the smallest volume",
            where=f"config patches.patch_size, axis {'xyz'[axis]}, case {case.case}",
            found=f"patch {list(size)}, volume {list(case.shape)}",
            expected=f"at most {[int(value) for value in smallest]}",
            fix=f"set patch_size to [{', '.join(str(value) for value in fitting)}] or smaller",
        )
    if any(length % step for length, step in zip(size, divisor, strict=True)):
        valid = [
            max(step, length // step * step) for length, step in zip(size, divisor, strict=True)
        ]
        raise MinivessError(
            "MV-PATCH-002",
            what="the network cannot divide the patch",
            where="config patches.patch_size",
            found=f"patch {list(size)}",
            expected=f"multiples of {list(divisor)}",
            fix=f"set patch_size to [{', '.join(str(value) for value in valid)}]",
        )


def locate_patch(
    cases: Sequence[PreparedCase],
    config: PatchConfig,
    key: tuple[int, int, int],
    index: int,
) -> PatchLocation:
    """Where the patch `index` of an epoch lies.

    Args:
        cases: training cases.
        config: patch size and the part of the patches that is centred on a vessel voxel.
        key: (seed, fold, epoch).
        index: number of the patch in the epoch.

    The share of centred patches is exact, not random. Patches lie inside the volume.
    """
    seed, fold, epoch = key
    rng = generator(seed, "patch", fold, epoch, index)
    number = int(rng.integers(len(cases)))
    case, size = cases[number], np.array(config.patch_size)
    room = np.maximum(np.array(case.shape) - size, 0)
    share = config.foreground_fraction
    if int((index + 1) * share) > int(index * share):
        voxel = int(case.foreground[int(rng.integers(len(case.foreground)))])
        start = np.clip(np.array(np.unravel_index(voxel, case.shape)) - size // 2, 0, room)
    else:
        start = np.array([int(rng.integers(limit + 1)) for limit in room])
    return PatchLocation(number, (int(start[0]), int(start[1]), int(start[2])))


def extract(array: Array, start: Sequence[int], size: Sequence[int]) -> Array:
    """A copy of a window; what lies outside the array is its mirror image.

    Args:
        array: (x, y, z), may be a memory map: only the window is read.
        start: first voxel, may be negative.
        size: voxels along (x, y, z).

    >>> extract(np.arange(4).reshape(4, 1, 1), (-1, 0, 0), (3, 1, 1)).ravel().tolist()
    [0, 0, 1]
    """
    begin = [max(0, first) for first in start]
    end = [
        min(length, first + width)
        for length, first, width in zip(array.shape, start, size, strict=True)
    ]
    window = np.array(array[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))])
    missing = [
        (inner - first, first + width - outer)
        for inner, outer, first, width in zip(begin, end, start, size, strict=True)
    ]
    if not any(any(pair) for pair in missing):
        return window
    return np.pad(window, missing, mode="symmetric")


def read_patch(
    case: PreparedCase, location: PatchLocation, size: Shape, margin: Shape
) -> tuple[Float32Array, Array]:
    """Image and label of a patch with `margin` more voxels on each side, shape size + 2 margin."""
    start = [first - more for first, more in zip(location.start, margin, strict=True)]
    full = [length + 2 * more for length, more in zip(size, margin, strict=True)]
    return extract(case.image, start, full), extract(case.label, start, full)
