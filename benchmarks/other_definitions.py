"""Packages whose definitions or work differ from the panel's: timed beside it, never compared.

surface-distance weighs surface elements where the panel counts boundary voxels. gudhi computes the
persistent homology of a cubical complex, of which the Betti numbers are a small part, and needs far
more memory than the volume has: it gets a part of the volume, and so does the panel beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gudhi
import numpy as np
import numpy.typing as npt
import surface_distance

from minivess.metrics.surface import hd95_um, nsd, surface_distances
from minivess.metrics.topology import betti_numbers

type Bools = npt.NDArray[np.bool_]

PART = (96, 96, 48)


def _seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def surfaces(
    prediction: Bools, reference: Bools, spacing_um: tuple[float, float, float], tolerance_um: float
) -> list[str]:
    """HD95 and surface Dice by both, and what each took."""

    def theirs() -> tuple[float, float]:
        found = surface_distance.compute_surface_distances(reference, prediction, spacing_um)
        return (
            float(surface_distance.compute_robust_hausdorff(found, 95)),
            float(surface_distance.compute_surface_dice_at_tolerance(found, tolerance_um)),
        )

    def ours() -> tuple[float, float]:
        found = surface_distances(prediction, reference, spacing_um)
        return hd95_um(found), nsd(found, tolerance_um)

    (other, own), (other_s, own_s) = zip(_seconds(theirs), _seconds(ours), strict=True)
    line = (
        f"- surface-distance, HD95 and surface Dice: {other_s:.1f} s, {other[0]:.4g} µm and "
        f"{other[1]:.4g}; the panel's functions alone: {own_s:.1f} s, {own[0]:.4g} µm and "
        f"{own[1]:.4g}. It weighs surface elements, the panel counts boundary voxels."
    )
    return [line]


def topology(mask: Bools) -> list[str]:
    """Betti numbers of a part of the volume by both, and what each took."""
    part = np.ascontiguousarray(mask[tuple(slice(0, size) for size in PART)])

    def theirs() -> tuple[int, ...]:
        cells = gudhi.CubicalComplex(top_dimensional_cells=np.where(part, 0.0, 1.0))
        cells.compute_persistence()
        return tuple(int(n) for n in cells.persistent_betti_numbers(0.0, 0.5)[:3])

    (other, own), (other_s, own_s) = zip(
        _seconds(theirs), _seconds(lambda: betti_numbers(part)), strict=True
    )
    shape = " x ".join(map(str, part.shape))
    same = "the same" if other == own else f"other than the panel's {own}"
    line = (
        f"- gudhi, Betti numbers of {shape} voxels by persistent homology: {other_s:.1f} s, "
        f"{other}, {same}; the panel's function alone: {own_s:.2f} s."
    )
    return [line]
