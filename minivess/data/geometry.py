"""Where voxels lie in space: affines, spacing in micrometres, whether two grids are the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from minivess.types import FloatArray, Shape, Spacing

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume; compare two with `same_grid`, never with `==`.

    Attributes:
        shape: voxels along (x, y, z).
        affine: 4 x 4 float64, voxel index to RAS+ position in the file's own unit.
        unit_um: micrometres per file unit, 1.0 (um) or 1000.0 (mm).

    >>> grid = Geometry((64, 64, 16), np.diag([0.001, 0.001, 0.005, 1.0]), unit_um=1000.0)
    >>> [round(value, 6) for value in grid.spacing_um]
    [1.0, 1.0, 5.0]
    """

    shape: Shape
    affine: FloatArray
    unit_um: float = 1.0

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise ValueError(f"an affine is 4 x 4, not {affine.shape}")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @property
    def spacing_um(self) -> Spacing:
        """Distance of neighbouring voxel centres along (x, y, z) in um."""
        x, y, z = column_norms(self.affine) * self.unit_um
        return (float(x), float(y), float(z))


def column_norms(affine: FloatArray) -> FloatArray:
    """Lengths of the three voxel axes of a 4 x 4 affine, in its unit.

    >>> column_norms(np.diag([-1.5, 2.0, 3.0, 1.0])).tolist()
    [1.5, 2.0, 3.0]
    """
    norms: FloatArray = np.sqrt((np.asarray(affine, dtype=np.float64)[:3, :3] ** 2).sum(axis=0))
    return norms


def diagonal_affine(spacing: Spacing) -> FloatArray:
    """The affine of an axis-parallel grid with its first voxel at the origin."""
    return np.diag([*spacing, 1.0])


def lps_affine(direction: FloatArray, spacing: FloatArray, origin: FloatArray) -> FloatArray:
    """The RAS+ affine of an ITK image, whose positions are LPS.

    Args:
        direction: 3 x 3, columns are the directions of the voxel axes in LPS.
        spacing: three lengths; origin: LPS position of the first voxel, in the same unit.

    Source: NIfTI-1 defines +x right, +y anterior; ITK +x left, +y posterior.

    >>> lps_affine(np.eye(3), np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])).tolist()[0]
    [-1.0, 0.0, 0.0, -4.0]
    """
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction) * np.asarray(spacing)
    affine[:3, 3] = origin
    # adding 0.0 turns the -0.0 that the flip makes into 0.0
    ras: FloatArray = LPS_TO_RAS @ affine + 0.0
    return ras


def corner_shift_voxels(a: Geometry, b: Geometry) -> float:
    """Largest distance, in voxels of `b`, between where `a` and `b` put a corner of `a`.

    Infinite where `b` has no volume (a zero or missing spacing) unless both affines are equal.
    """
    if np.array_equal(a.affine * a.unit_um, b.affine * b.unit_um):
        return 0.0
    target = b.affine.copy()
    target[:3] *= b.unit_um
    source = a.affine.copy()
    source[:3] *= a.unit_um
    if not (np.isfinite(target).all() and np.isfinite(source).all()):
        return float("inf")
    if np.linalg.matrix_rank(target[:3, :3]) < 3:
        return float("inf")
    corners = np.array(list(itertools.product(*((0, size - 1) for size in a.shape))), dtype=float)
    homogeneous = np.c_[corners, np.ones(len(corners))]
    found = np.linalg.solve(target, source @ homogeneous.T)[:3].T
    return float(np.abs(found - corners).max())


def same_grid(a: Geometry, b: Geometry, tolerance_voxels: float = 1e-3) -> bool:
    """Whether both have the same shape and put their corners at the same place.

    The tolerance, in voxels, absorbs the float32 rounding of headers and nothing that matters.

    >>> grid = Geometry((8, 8, 4), np.diag([1.0, 1.0, 5.0, 1.0]))
    >>> same_grid(grid, Geometry((8, 8, 4), np.diag([1.0 + 1e-7, 1.0, 5.0, 1.0])))
    True
    >>> same_grid(grid, Geometry((8, 8, 4), np.diag([-1.0, 1.0, 5.0, 1.0])))
    False
    """
    return a.shape == b.shape and corner_shift_voxels(a, b) <= tolerance_voxels
