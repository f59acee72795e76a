"""The baseline that needs no network: the best single threshold on the intensities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.errors import MinivessError
from minivess.metrics.overlap import check_mask

if TYPE_CHECKING:
    from minivess.types import Array, BoolArray


def best_threshold(image: Array, reference: BoolArray) -> tuple[float, float]:
    """Return the threshold with the highest Dice for one case, and that Dice.

    A voxel is vessel where image > threshold. The threshold is chosen with the reference in
    hand, so no method that thresholds the intensities can do better on this case. It is exact:
    the optimum over all thresholds, the lowest intensity where several are equally good, and a
    number below the smallest intensity where all voxels should be vessel. An empty
    reference gets the largest intensity (no voxel is vessel) and a Dice of 1.

    Args:
        image: intensities (x, y, z), floating point or integers of up to 32 bits.
        reference: mask of the same shape.

    Raises:
        TypeError: the reference is not boolean, or the image not of those types.
        MinivessError: MV-DATA-003 not three axes, MV-DATA-004 different shapes, MV-DATA-006
            NaN or infinite intensities.

    >>> import numpy as np
    >>> image = np.array([1.0, 2.0, 5.0, 6.0]).reshape(4, 1, 1)
    >>> best_threshold(image, image > 3)
    (2.0, 1.0)
    """
    _check(image, reference)
    vessel = np.sort(image[reference])
    if vessel.size == 0:
        return float(image.max()), 1.0
    everything = np.sort(image, axis=None)
    # Between two intensities of vessel voxels a rising threshold only loses background, so the
    # best one lies just below the intensity of a vessel voxel.
    lowest = np.unique(vessel)
    below = np.searchsorted(everything, lowest, side="left")
    vessel_below = np.searchsorted(vessel, lowest, side="left")
    scores = 2 * (vessel.size - vessel_below) / (everything.size - below + vessel.size)
    best = int(np.argmax(scores))
    if below[best] > 0:
        return float(everything[below[best] - 1]), float(scores[best])
    return _below(everything[0]), float(scores[best])


def _below(value: np.generic) -> float:
    """A lower number, so that value > threshold holds in the type of the image."""
    if isinstance(value, np.floating):
        lower = np.nextafter(value, value.dtype.type(-np.inf))
        return float(min(lower, value - value.dtype.type(1)))
    return float(value.item()) - 1.0


def _check(image: Array, reference: BoolArray) -> None:
    """Raise for input that has no threshold; see `best_threshold`."""
    check_mask(reference, "reference")
    kind, size = image.dtype.kind, image.dtype.itemsize
    if not (kind in "iu" and size <= 4) and not (kind == "f" and size <= 8):
        raise TypeError(
            f"intensities of type {image.dtype} have no exact threshold: convert them to float32"
        )
    if image.shape != reference.shape:
        raise MinivessError(
            "MV-DATA-004",
            what="image and reference differ in shape",
            found=f"image {image.shape}, reference {reference.shape}",
            expected="the same number of voxels along each axis",
            fix="use the reference that was drawn on this image",
        )
    if kind == "f" and not np.isfinite(image).all():
        raise MinivessError(
            "MV-DATA-006",
            what="the image has NaN or infinite voxels",
            found=f"{np.count_nonzero(~np.isfinite(image))} of {image.size} voxels",
            expected="finite intensities",
            fix="replace them in the source volume; find out where they come from first",
        )
