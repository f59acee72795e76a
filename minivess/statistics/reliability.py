"""The bins of a reliability diagram: how often voxels of about one probability are vessel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from minivess.types import Array, BoolArray


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Bins of equal width over 0..1; each array has one entry per bin.

    Attributes:
        n_voxels: voxels whose probability lies in the bin; the upper edge belongs to the next one.
        probability: their mean probability, 0 where there are none.
        observed: part of them that is vessel, 0 where there are none.
    """

    n_voxels: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]


def reliability_bins(probability: Array, reference: BoolArray, n_bins: int) -> ReliabilityBins:
    """Sort the voxels of one case into bins by their vessel probability.

    Args:
        probability: vessel probability, any shape, 0 to 1.
        reference: mask of the same shape.
        n_bins: number of bins.

    Raises:
        ValueError: different shapes, or probabilities outside 0..1.

    Source: DeGroot and Fienberg 1983; Guo et al. 2017, arXiv:1706.04599, here for the vessel class
    of binary voxels instead of the confidence in the predicted class.

    >>> bins = reliability_bins(np.array([0.1, 0.2, 0.9]), np.array([False, True, True]), 2)
    >>> bins.n_voxels.tolist(), bins.observed.tolist()
    ([2, 1], [0.5, 1.0])
    """
    values = np.asarray(probability, dtype=np.float64).ravel()
    if probability.shape != reference.shape:
        raise ValueError(f"probability {probability.shape}, reference {reference.shape}")
    if values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError("probabilities must lie between 0 and 1")
    bin_of = np.minimum((values * n_bins).astype(np.int64), n_bins - 1)
    n_voxels = np.bincount(bin_of, minlength=n_bins).astype(np.int64)
    per_voxel = 1 / np.maximum(n_voxels, 1)
    return ReliabilityBins(
        n_voxels,
        np.bincount(bin_of, weights=values, minlength=n_bins) * per_voxel,
        np.bincount(bin_of[reference.ravel()], minlength=n_bins) * per_voxel,
    )
