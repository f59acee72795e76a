"""Families of nested masks around a prediction, and how much of a reference each of them holds.

A conformal method chooses one mask of such a family: by a threshold on the probability, or by a
margin in um around or inside the predicted mask. Three counts per level are all it needs to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from minivess.errors import MinivessError
from minivess.metrics.overlap import check_mask, check_masks
from minivess.metrics.surface import check_spacing, diagonal_um

if TYPE_CHECKING:
    from minivess.types import BoolArray, FloatArray, Spacing

type Floats = npt.NDArray[np.float64]
type Counts = npt.NDArray[np.int64]

STEPS = 1000
# The thresholds that risk control chooses from, fixed before any data is seen.
THRESHOLDS: Floats = np.arange(STEPS + 1) / STEPS
# Distances that differ by less, in um, are the same: rounding errors of one and the same distance.
DISTANCE_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class NestedMasks:
    """Counts of the masks of a family; the mask at x is that of the largest level up to x.

    Attributes:
        levels: thresholds, or margins in um, rising, shape (k,).
        voxels: voxels of the mask at each level, shape (k,).
        hits: those of them that are vessel in the reference, shape (k,).
        n_reference: vessel voxels of the reference.
        n_voxels: voxels of the volume.
    """

    levels: Floats
    voxels: Counts
    hits: Counts
    n_reference: int
    n_voxels: int

    def missed(self) -> Floats:
        """Part of the reference outside the mask at each level; 0 where the reference is empty."""
        if self.n_reference == 0:
            return np.zeros(self.levels.size)
        return 1.0 - self.hits / self.n_reference

    def wrong(self) -> Floats:
        """Part of the mask outside the reference at each level; 0 where the mask is empty."""
        return 1.0 - np.where(self.voxels > 0, self.hits, 1) / np.maximum(self.voxels, 1)

    def index(self, level: float) -> int:
        """Index of the mask at a threshold or margin.

        Raises:
            ValueError: below the first level.
        """
        found = int(np.searchsorted(self.levels, level, side="right")) - 1
        if found < 0:
            raise ValueError(f"{level} is below the first level, {self.levels[0]}")
        return found


def threshold_masks(probability: FloatArray, reference: BoolArray) -> NestedMasks:
    """The masks probability >= threshold, for each of `THRESHOLDS`: at 0 the whole volume.

    Args:
        probability: vessel probability (x, y, z), 0 to 1.
        reference: mask of the same shape.

    Raises:
        MinivessError: MV-DATA-004 different shapes; see `check_mask` for others.

    >>> family = threshold_masks(np.array([[[0.25, 0.75]]]), np.array([[[True, True]]]))
    >>> family.missed()[[0, 500, 1000]].tolist()
    [0.0, 0.5, 1.0]
    """
    _check(probability, reference)
    return NestedMasks(
        THRESHOLDS,
        _at_least(probability),
        _at_least(probability[reference]),
        int(np.count_nonzero(reference)),
        reference.size,
    )


def _check(probability: FloatArray, reference: BoolArray) -> None:
    check_mask(reference, "reference")
    if probability.shape != reference.shape:
        raise MinivessError(
            "MV-DATA-004",
            what="probability and reference differ in shape",
            found=f"probability {probability.shape}, reference {reference.shape}",
            fix="predict the volume that the reference was drawn on, at its own resolution",
        )


def _at_least(values: npt.NDArray[Any]) -> Counts:
    """How many values are at least as large as each of `THRESHOLDS`."""
    # A value belongs to the largest threshold that it reaches.
    reached = np.searchsorted(THRESHOLDS, values.ravel(), side="right") - 1
    counts = np.bincount(np.maximum(reached, 0), minlength=THRESHOLDS.size)
    return np.cumsum(counts[::-1])[::-1].astype(np.int64)


def outer_distances(mask: BoolArray, spacing_um: Spacing) -> Floats:
    """Distance of each voxel to the nearest voxel of a mask, 0 inside it, in um, (x, y, z).

    The diagonal of the volume everywhere where the mask is empty.

    Raises:
        TypeError, MinivessError: not a mask, see `minivess.metrics.overlap.check_mask`;
            MV-DATA-009 spacing not positive.

    Source: exact Euclidean distance transform, Maurer et al. 2003, through SciPy.
    """
    from scipy import ndimage

    check_mask(mask)
    check_spacing(spacing_um)
    if not mask.any():
        return np.full(mask.shape, round(diagonal_um(mask.shape, spacing_um), DISTANCE_DECIMALS))
    distances: Floats = ndimage.distance_transform_edt(~mask, sampling=spacing_um)
    return np.round(distances, DISTANCE_DECIMALS)


def inner_distances(mask: BoolArray, spacing_um: Spacing) -> Floats:
    """Distance of each voxel of a mask to the nearest voxel outside it, 0 outside, in um.

    What lies beyond the volume does not count: a vessel that leaves the volume is no thinner
    there. A mask that fills the volume is the diagonal of the volume deep.

    Raises:
        TypeError, MinivessError: as `outer_distances`.

    Source: as `outer_distances`.
    """
    return outer_distances(~mask, spacing_um)


def outer_masks(mask: BoolArray, reference: BoolArray, spacing_um: Spacing) -> NestedMasks:
    """The masks of all voxels within a margin of the predicted one: its dilations by balls.

    Args:
        mask: predicted mask (x, y, z).
        reference: mask of the same shape.
        spacing_um: spacing (x, y, z) in um, which makes the balls round in um.

    Raises:
        TypeError, MinivessError: not masks of one shape; MV-DATA-009 spacing not positive.

    >>> mask, reference = np.zeros((2, 4, 1, 1), dtype=bool)
    >>> mask[0], reference[:3] = True, True
    >>> family = outer_masks(mask, reference, (2.0, 1.0, 5.0))
    >>> family.levels.tolist(), family.hits.tolist()
    ([0.0, 2.0, 4.0, 6.0], [1, 2, 3, 3])
    """
    check_masks(mask, reference)
    distances = outer_distances(mask, spacing_um)
    levels, found = np.unique(distances, return_inverse=True)
    of_level, hits = _counts(found.reshape(mask.shape), reference, levels.size)
    if levels[0] > 0:  # an empty mask holds nothing until the margin is the diagonal
        levels = np.concatenate([[0.0], levels])
        of_level, hits = (np.concatenate([[0], counts]) for counts in (of_level, hits))
    return NestedMasks(
        levels, np.cumsum(of_level), np.cumsum(hits), int(reference.sum()), mask.size
    )


def inner_masks(mask: BoolArray, reference: BoolArray, spacing_um: Spacing) -> NestedMasks:
    """The masks of all predicted voxels deeper than a margin: the erosions of the prediction.

    At margin 0 it is the prediction, at the last level it is empty.

    Args:
        mask: predicted mask (x, y, z).
        reference: mask of the same shape.
        spacing_um: spacing (x, y, z) in um.

    Raises:
        TypeError, MinivessError: as `outer_masks`.

    >>> mask = np.ones((5, 1, 1), dtype=bool)
    >>> mask[0] = False
    >>> inner_masks(mask, mask, (2.0, 1.0, 5.0)).voxels.tolist()
    [4, 3, 2, 1, 0]
    """
    check_masks(mask, reference)
    distances = inner_distances(mask, spacing_um)
    levels, found = np.unique(distances, return_inverse=True)
    of_level, hits = _counts(found.reshape(mask.shape), reference, levels.size)
    if levels[0] > 0:  # the mask fills the volume: no voxel is at distance 0
        levels = np.concatenate([[0.0], levels])
        of_level, hits = (np.concatenate([[0], counts]) for counts in (of_level, hits))
    deeper, inside = (counts.sum() - np.cumsum(counts) for counts in (of_level, hits))
    return NestedMasks(levels, deeper, inside, int(reference.sum()), mask.size)


def _counts(found: Counts, reference: BoolArray, size: int) -> tuple[Counts, Counts]:
    """Voxels at each level, and those of them in the reference."""
    everything = np.bincount(found.ravel(), minlength=size)
    return everything.astype(np.int64), np.bincount(found[reference], minlength=size).astype(
        np.int64
    )
