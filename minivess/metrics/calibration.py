"""How far predicted probabilities can be taken at their word, over the voxels of one case."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from minivess.errors import MinivessError
from minivess.metrics.definitions.calibration import CLIP, N_BINS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from minivess.types import Array, BoolArray, FloatArray, Spacing

_ROUNDED = 12  # decimals: logarithms may differ in the last bit between CPUs
_AT_ONCE = 2**20  # voxels


def check_probability(probability: Array, reference: BoolArray) -> None:
    """Raise unless an array holds a probability for each voxel of a mask.

    Raises:
        MinivessError: MV-DATA-004 different shapes, MV-DATA-006 values outside [0, 1] or NaN.
    """
    if probability.shape != reference.shape:
        raise MinivessError(
            "MV-DATA-004",
            what="probability and reference differ in shape",
            found=f"probability {probability.shape}, reference {reference.shape}",
            expected="the same number of voxels along each axis",
            fix="predict the volume that the reference was drawn on, at its own resolution",
        )
    low, high = float(probability.min()), float(probability.max())
    if not (low >= 0 and high <= 1):
        raise MinivessError(
            "MV-DATA-006",
            what="the probability has voxels that are no probability",
            found=f"values from {low} to {high}",
            expected="finite numbers from 0 to 1",
            fix="write the softmax or sigmoid of the network, not its logits",
        )


def _parts(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The voxels of arrays, a million at once, in C order."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _AT_ONCE):
        yield tuple(array[start : start + _AT_ONCE] for array in flat)


def ece(probability: FloatArray, reference: BoolArray) -> float:
    """Return the expected calibration error of the vessel probability, between 0 and 1.

    Bins of equal width, [k / 15, (k + 1) / 15); a probability of 1 is in the last one.

    Args:
        probability: vessel probability, any shape.
        reference: boolean, same shape.

    Source: Naeini et al. 2015, doi 10.1609/aaai.v29i1.9602, for the vessel class.

    >>> import numpy as np
    >>> ece(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, True, False, True]))
    0.25
    """
    gap = np.zeros(N_BINS)
    for chances, vessel in _parts(probability, reference):
        exact = chances.astype(np.float64)
        bins = np.minimum((exact * N_BINS).astype(np.int64), N_BINS - 1)
        gap += np.bincount(bins, exact - vessel, minlength=N_BINS)
    return round(float(np.abs(gap).sum()) / probability.size, _ROUNDED)


def ace(probability: FloatArray, reference: BoolArray) -> float:
    """Return the adaptive calibration error of the vessel probability, between 0 and 1.

    Bins of equally many voxels, by rank. Equal probabilities have no order: where a bin's limit
    falls among them, they and their vessel voxels are shared in proportion.

    Args:
        probability: vessel probability, any shape.
        reference: boolean, same shape.

    Source: Nixon et al. 2019, arXiv:1904.01685, for the vessel class.

    >>> import numpy as np
    >>> chances = np.repeat([0.0, 0.5, 1.0], [15, 30, 15])
    >>> ace(chances, np.arange(60) >= 30)
    0.0
    """
    order = np.sort(probability, axis=None)
    vessel = np.sort(probability[reference])
    limits = np.arange(N_BINS + 1, dtype=np.float64) * (order.size / N_BINS)
    sums = _sums_below(order, limits)
    groups = order[np.minimum(limits.astype(np.int64), order.size - 1)]
    low, high = (np.searchsorted(order, groups, side=side) for side in ("left", "right"))
    vessel_low, vessel_high = (
        np.searchsorted(vessel, groups, side=side) for side in ("left", "right")
    )
    share = (limits - low) / (high - low)
    vessels = vessel_low + share * (vessel_high - vessel_low)
    gaps = np.abs(np.diff(sums) - np.diff(vessels))
    return round(float(gaps.sum()) / order.size, _ROUNDED)


def _sums_below(order: FloatArray, limits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum of the first `limit` values of a sorted array, for each limit; part of a value counts."""
    whole = limits.astype(np.int64)
    pieces = [order[a:b].sum(dtype=np.float64) for a, b in pairwise(whole)]
    sums = np.concatenate([[0.0], np.cumsum(pieces)])
    following = order[np.minimum(whole, order.size - 1)].astype(np.float64)
    result: npt.NDArray[np.float64] = sums + (limits - whole) * following
    return result


def brier(probability: FloatArray, reference: BoolArray) -> float:
    """Return the mean squared difference of probability and reference, between 0 and 1.

    Source: Brier 1950, Verification of forecasts, Monthly Weather Review 78:1-3.

    >>> import numpy as np
    >>> brier(np.array([0.5, 1.0]), np.array([True, True]))
    0.125
    """
    total = 0.0
    for chances, vessel in _parts(probability, reference):
        total += float(((chances.astype(np.float64) - vessel) ** 2).sum())
    return round(total / probability.size, _ROUNDED)


def nll(probability: FloatArray, reference: BoolArray) -> float:
    """Return the mean negative log-likelihood of the reference, in nats.

    Probabilities are clipped to [1e-7, 1 - 1e-7], so that one sure mistake is not infinite.

    >>> import numpy as np
    >>> round(nll(np.array([0.5, 0.0]), np.array([True, True])), 4)
    8.4056
    """
    total = 0.0
    for chances, vessel in _parts(probability, reference):
        exact = chances.astype(np.float64)
        likelihood = np.clip(np.where(vessel, exact, 1 - exact), CLIP, 1 - CLIP)
        total -= float(np.log(likelihood).sum())
    return round(total / probability.size, _ROUNDED)


def boundary_band(boundary: BoolArray, tolerance_um: float, spacing_um: Spacing) -> BoolArray:
    """Return the voxels within a distance of the voxels of a boundary, same shape.

    >>> import numpy as np
    >>> boundary_band(np.arange(5).reshape(5, 1, 1) == 0, 4.0, (2.0, 1.0, 1.0)).ravel().tolist()
    [True, True, True, False, False]
    """
    band = boundary.copy()
    reach = [
        range(-int(tolerance_um / um * (1 + 1e-6)), int(tolerance_um / um * (1 + 1e-6)) + 1)
        for um in spacing_um
    ]
    limit = np.float32(tolerance_um)
    for offset in product(*reach):
        squared = sum((step * um) ** 2 for step, um in zip(offset, spacing_um, strict=True))
        inside = all(abs(step) < size for step, size in zip(offset, band.shape, strict=True))
        if inside and np.float32(np.sqrt(squared)) <= limit:
            band[_moved(offset, band.shape)] |= boundary[_moved([-s for s in offset], band.shape)]
    return band


def _moved(offset: Sequence[int], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The part of a volume that lies in it also when it comes from `offset` voxels before."""
    return tuple(
        slice(max(step, 0), min(step, 0) + size) for step, size in zip(offset, shape, strict=True)
    )


def calibration_values(
    probability: FloatArray, reference: BoolArray, band: BoolArray
) -> dict[str, float]:
    """Return the metrics of this family; `band` holds the voxels near the reference's boundary.

    The probability is taken as checked, see `check_probability`.
    """
    values = {
        "ece": ece(probability, reference),
        "ace": ace(probability, reference),
        "brier": brier(probability, reference),
        "nll": nll(probability, reference),
    }
    near = ece(probability[band], reference[band]) if band.any() else values["ece"]
    return {**values, "boundary_ece": near}
