"""Random patches, read by memory map; which one is a function of (seed, fold, epoch, index)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

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


def check_patch_size(
    size: Shape, divisor: Shape, cases: Sequence[PreparedCase], pad_thin: bool = False
) -> None:
    """Raise where a patch is larger than a volume or the network cannot halve it often enough.

    Args:
        size: voxels of the patch along (x, y, z).
        divisor: what the network needs each axis to be a multiple of.
        cases: the volumes.
        pad_thin: whether thinner volumes are mirrored up to the patch.

    Raises:
        MinivessError: MV-PATCH-001 larger than the smallest volume, MV-PATCH-002 not divisible.
    """
    shapes = [np.maximum(case.shape, size) if pad_thin else case.shape for case in cases]
    smallest = np.min(shapes, axis=0)
    largest = [int(low) // step * step for low, step in zip(smallest, divisor, strict=True)]
    if not all(largest):
        raise _network_too_deep(size, divisor, cases, largest.index(0))
    fitting = [
        min(limit, max(step, _nearest_multiple(length, step)))
        for length, step, limit in zip(size, divisor, largest, strict=True)
    ]
    fix = f"set patch_size to [{', '.join(str(value) for value in fitting)}]"
    if np.any(np.array(size) > smallest):
        axis = int(np.argmax(np.array(size) > smallest))
        case = min(cases, key=lambda case: case.shape[axis])
        raise MinivessError(
            "MV-PATCH-001",
            what="the patch is larger than the smallest volume",
            where=f"config patches.patch_size, axis {'xyz'[axis]}, case {case.case}",
            found=f"patch {list(size)}, volume {list(case.shape)}",
            expected=f"at most {[int(value) for value in smallest]}",
            fix=f"{fix} or smaller",
        )
    if any(length % step for length, step in zip(size, divisor, strict=True)):
        raise _not_divided(size, f"multiples of {list(divisor)}", fix)


def check_coarsest(size: Shape, divisor: Shape) -> None:
    """Raise where a patch leaves a single voxel at the coarsest level: it has no statistics.

    Raises:
        MinivessError: MV-PATCH-002.
    """
    if size == divisor and max(divisor) > 1:
        larger = [2 * divisor[0], *divisor[1:]]
        expected = "at least one axis twice as long: a single voxel is left at the coarsest level"
        raise _not_divided(size, expected, f"set patch_size to {larger} or larger")


def _not_divided(size: Shape, expected: str, fix: str) -> MinivessError:
    return MinivessError(
        "MV-PATCH-002",
        what="the network cannot divide the patch",
        where="config patches.patch_size",
        found=f"patch {list(size)}",
        expected=expected,
        fix=fix,
    )


def _nearest_multiple(length: int, step: int) -> int:
    return (length + step // 2) // step * step


def _network_too_deep(
    size: Shape, divisor: Shape, cases: Sequence[PreparedCase], axis: int
) -> MinivessError:
    needed = [max(step, _nearest_multiple(n, step)) for n, step in zip(size, divisor, strict=True)]
    case = min(cases, key=lambda case: case.shape[axis])
    return MinivessError(
        "MV-PATCH-002",
        what="the network has too many levels for the smallest volume: no patch fits both",
        where=f"config models, axis {'xyz'[axis]}, case {case.case}",
        found=f"a network that needs multiples of {divisor[axis]} voxels, "
        f"a volume of {case.shape[axis]}",
        expected=f"at most {case.shape[axis]}",
        fix=f"mirror thin volumes: patches.pad_thin: true and patches.patch_size: {needed}, or "
        "auto, which does it by itself; or use a network of fewer levels (filters or blocks_down, "
        "where it has them), or leave the case out with data.exclude",
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

    The share of centred patches is exact, not random. Patches lie inside the volume. Centred
    patches come from the cases that have a vessel; where none has, all patches lie anywhere.
    """
    seed, fold, epoch = key
    rng = generator(seed, "patch", fold, epoch, index)
    # Decimal as written: 100 times the binary 0.29 falls short of 29.
    share = Fraction(str(config.foreground_fraction))
    centred = math.floor((index + 1) * share) > math.floor(index * share)
    vessel = [number for number, case in enumerate(cases) if len(case.foreground)]
    choices = vessel if centred and vessel else range(len(cases))
    number = choices[int(rng.integers(len(choices)))]
    case, size = cases[number], np.array(config.patch_size)
    room = np.maximum(np.array(case.shape) - size, 0)
    if centred and vessel:
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
    indices = []
    for length, first, width in zip(array.shape, start, size, strict=True):
        inside = np.arange(first, first + width) % (2 * length)
        indices.append(np.where(inside < length, inside, 2 * length - 1 - inside))
    low = [int(index.min()) for index in indices]
    box = tuple(slice(a, int(index.max()) + 1) for a, index in zip(low, indices, strict=True))
    window = np.array(array[box])
    if window.shape == tuple(size) and tuple(low) == tuple(start):
        return window
    return window[np.ix_(*(index - a for index, a in zip(indices, low, strict=True)))]


def read_patch(
    case: PreparedCase, location: PatchLocation, size: Shape, margin: Shape
) -> tuple[Float32Array, Array]:
    """Image and label of a patch with `margin` more voxels on each side, shape size + 2 margin."""
    start = [first - more for first, more in zip(location.start, margin, strict=True)]
    full = [length + 2 * more for length, more in zip(size, margin, strict=True)]
    return extract(case.image, start, full), extract(case.label, start, full)
