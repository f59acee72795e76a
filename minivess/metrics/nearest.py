"""The nearest of some voxels, in micrometres: what surfaces, radii and components share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from minivess.types import BoolArray, Spacing

type Voxels = npt.NDArray[np.int64]

# Voxels that are looked up at once: bounds the memory where a prediction fills the volume.
_AT_ONCE = 1_000_000


class VoxelTree:
    """The vessel voxels of a mask and, made when first used, the k-d tree over them.

    A vessel's surface is a small part of a volume, so looking up the nearest voxel of each of its
    voxels costs a tenth of a distance transform of the whole volume, and is as exact.
    """

    def __init__(self, mask: BoolArray, spacing_um: Spacing) -> None:
        self.voxels: Voxels = np.argwhere(mask)
        self.spacing_um = np.asarray(spacing_um, dtype=np.float64)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return len(self.voxels)

    def nearest(self, voxels: Voxels) -> npt.NDArray[np.int64]:
        """Return for each of `voxels` (n, 3) the number of the nearest voxel of the tree."""
        from scipy.spatial import cKDTree

        if not hasattr(self, "_tree"):
            self._tree = cKDTree(self.voxels * self.spacing_um)
        parts = [
            self._tree.query(voxels[start : start + _AT_ONCE] * self.spacing_um)[1]
            for start in range(0, len(voxels), _AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def distances_um(self, voxels: Voxels) -> npt.NDArray[np.float64]:
        """Return the distance of each of `voxels` (n, 3) to the nearest voxel of the tree, in um.

        >>> import numpy as np
        >>> mask = np.arange(4).reshape(4, 1, 1) == 3
        >>> VoxelTree(mask, (2.0, 1.0, 1.0)).distances_um(np.array([[0, 0, 0]]))
        array([6.])
        """
        # From the steps, not from the tree's coordinates: 3 * 0.1 - 2 * 0.1 is not one step.
        steps = (self.voxels[self.nearest(voxels)] - voxels) * self.spacing_um
        squared: npt.NDArray[np.float64] = steps[:, 0] ** 2 + steps[:, 1] ** 2 + steps[:, 2] ** 2
        return np.sqrt(squared)
