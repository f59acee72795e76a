"""Overlap of two masks, and the volume that they fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.errors import MinivessError

if TYPE_CHECKING:
    from minivess.types import Array, BoolArray, Spacing


def check_mask(mask: Array, name: str = "mask") -> None:
    """Raise unless an array can be measured as a mask: boolean, three axes, at least one voxel.

    Raises:
        TypeError: not a boolean NumPy array: which values mean vessel is decided before.
        MinivessError: MV-DATA-003 not three axes, or an axis of length 0.

    >>> import numpy as np
    >>> check_mask(np.zeros((2, 2, 2), dtype=bool))
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(
            f"the {name} must be a boolean array, not {kind}: turn probabilities or label values "
            "into a mask first, for example probability > 0.5"
        )
    if mask.ndim != 3 or mask.size == 0:
        raise MinivessError(
            "MV-DATA-003",
            what=f"the {name} is not a volume",
            found=f"shape {mask.shape}",
            expected="three axes (x, y, z) with at least one voxel each",
            fix="select one volume: a channel or a time point is an axis too many",
        )


def check_masks(prediction: Array, reference: Array) -> None:
    """Raise unless prediction and reference are masks of the same shape.

    Raises:
        TypeError: not boolean.
        MinivessError: MV-DATA-003 not three axes, MV-DATA-004 different shapes.
    """
    check_mask(prediction, "prediction")
    check_mask(reference, "reference")
    if prediction.shape != reference.shape:
        raise MinivessError(
            "MV-DATA-004",
            what="prediction and reference differ in shape",
            found=f"prediction {prediction.shape}, reference {reference.shape}",
            expected="the same number of voxels along each axis",
            fix="predict the volume that the reference was drawn on, at its own resolution",
        )


def dice(prediction: BoolArray, reference: BoolArray) -> float:
    """Return the Dice similarity coefficient of two masks, between 0 and 1.

    Both empty: 1; one empty: 0.

    Raises:
        TypeError, MinivessError: see `check_masks`.

    Source: Dice 1945; Metrics Reloaded, doi 10.1038/s41592-023-02151-z.

    >>> import numpy as np
    >>> prediction, reference = np.zeros((2, 4, 1, 1), dtype=bool)
    >>> prediction[:2], reference[1:3] = True, True
    >>> dice(prediction, reference)
    0.5
    """
    check_masks(prediction, reference)
    both = int(np.count_nonzero(prediction) + np.count_nonzero(reference))
    if both == 0:
        return 1.0
    return 2 * int(np.count_nonzero(prediction & reference)) / both


def sensitivity(prediction: BoolArray, reference: BoolArray) -> float:
    """Return the part of the reference's voxels that are predicted, between 0 and 1.

    Both empty: 1; one empty: 0.

    Raises:
        TypeError, MinivessError: see `check_masks`.

    Source: Metrics Reloaded, doi 10.1038/s41592-023-02151-z.

    >>> import numpy as np
    >>> prediction, reference = np.zeros((2, 4, 1, 1), dtype=bool)
    >>> prediction[:1], reference[:] = True, True
    >>> sensitivity(prediction, reference), precision(prediction, reference)
    (0.25, 1.0)
    """
    check_masks(prediction, reference)
    if not reference.any():
        return 0.0 if prediction.any() else 1.0
    return int(np.count_nonzero(prediction & reference)) / int(np.count_nonzero(reference))


def precision(prediction: BoolArray, reference: BoolArray) -> float:
    """Return the part of the predicted voxels that are in the reference, between 0 and 1.

    Both empty: 1; one empty: 0.

    Raises:
        TypeError, MinivessError: see `check_masks`.

    Source: Metrics Reloaded, doi 10.1038/s41592-023-02151-z.

    >>> import numpy as np
    >>> precision(np.ones((4, 1, 1), dtype=bool), np.arange(4).reshape(4, 1, 1) < 1)
    0.25
    """
    return sensitivity(reference, prediction)


def volume_error_um3(prediction: BoolArray, reference: BoolArray, spacing_um: Spacing) -> float:
    """Return the absolute difference of the volumes of two masks in um^3.

    Raises:
        TypeError, MinivessError: see `check_masks`.

    >>> import numpy as np
    >>> mask = np.ones((2, 2, 2), dtype=bool)
    >>> volume_error_um3(mask, ~mask, (3.0, 2.0, 1.0))
    48.0
    """
    check_masks(prediction, reference)
    difference = int(np.count_nonzero(prediction)) - int(np.count_nonzero(reference))
    return abs(difference) * (spacing_um[0] * spacing_um[1] * spacing_um[2])


def volume_fraction(mask: BoolArray) -> float:
    """Return the part of the voxels that are vessel, between 0 and 1.

    Raises:
        TypeError, MinivessError: see `check_mask`.

    >>> import numpy as np
    >>> volume_fraction(np.arange(8).reshape(2, 2, 2) < 2)
    0.25
    """
    check_mask(mask)
    return int(np.count_nonzero(mask)) / mask.size


def bounding_box(mask: BoolArray) -> tuple[slice, ...]:
    """Return the slices of the smallest box that holds all vessel voxels of a non-empty mask.

    Raises:
        ValueError: the mask is empty.

    >>> import numpy as np
    >>> bounding_box(np.arange(8).reshape(2, 2, 2) == 3)
    (slice(0, 1, None), slice(1, 2, None), slice(1, 2, None))
    """
    slices = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        if occupied.size == 0:
            raise ValueError("an empty mask has no bounding box")
        slices.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(slices)


def joint_box(prediction: BoolArray, reference: BoolArray) -> tuple[slice, ...]:
    """Return the box of all vessel voxels of two masks and of the background that touches them.

    All that depends on shapes, distances and neighbours is the same in it as in the whole volume.
    Both masks empty: the first voxel.

    >>> import numpy as np
    >>> mask = np.arange(27).reshape(3, 3, 3) == 13
    >>> joint_box(mask[:2], mask[:2])
    (slice(0, 2, None), slice(0, 3, None), slice(0, 3, None))
    """
    union = prediction | reference
    if not union.any():
        return (slice(0, 1),) * union.ndim
    return tuple(
        slice(max(part.start - 1, 0), min(part.stop + 1, size))
        for part, size in zip(bounding_box(union), union.shape, strict=True)
    )
