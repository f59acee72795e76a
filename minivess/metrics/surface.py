"""Distances between the surfaces of two masks, in micrometres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from minivess.errors import MinivessError
from minivess.metrics.nearest import VoxelTree
from minivess.metrics.overlap import check_mask, check_masks, joint_box

if TYPE_CHECKING:
    from minivess.types import BoolArray, Shape, Spacing


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances of each boundary voxel of one mask to the nearest one of the other, in um.

    An empty mask has no boundary, so its array is empty; the other mask's array is then the
    diagonal of the volume alone, the distance that no pair of voxels exceeds.
    """

    prediction_to_reference: npt.NDArray[np.float64]
    reference_to_prediction: npt.NDArray[np.float64]

    @property
    def directed(self) -> tuple[npt.NDArray[np.float64], ...]:
        """The directed distances of the masks that have a boundary: two, one or none."""
        both = (self.prediction_to_reference, self.reference_to_prediction)
        return tuple(distances for distances in both if distances.size)


def check_spacing(spacing_um: Spacing) -> None:
    """Raise unless a spacing is three positive, finite numbers.

    Raises:
        MinivessError: MV-DATA-009.
    """
    values = np.asarray(spacing_um, dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values).all() or not (values > 0).all():
        raise MinivessError(
            "MV-DATA-009",
            what="the spacing is not usable",
            found=str(spacing_um),
            expected="three positive numbers (x, y, z) in micrometres",
            fix="give the spacing of the case in its file or in the list of cases",
        )


def diagonal_um(shape: Shape | tuple[int, ...], spacing_um: Spacing) -> float:
    """Return the length of a volume's diagonal in um.

    Raises:
        MinivessError: MV-DATA-009 spacing not positive.

    >>> diagonal_um((3, 4, 12), (1.0, 1.0, 1.0))
    13.0
    """
    check_spacing(spacing_um)
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_um)))


def boundary(mask: BoolArray) -> BoolArray:
    """Return the vessel voxels with a face neighbour that is background, same shape.

    What lies outside the volume is background, as in MONAI: a vessel that leaves the volume has
    a boundary there.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_mask`.

    Source: Metrics Reloaded, doi 10.1038/s41592-023-02151-z (the mask minus its erosion).

    >>> import numpy as np
    >>> int(boundary(np.ones((3, 3, 3), dtype=bool)).sum())
    26
    """
    check_mask(mask)
    inner = mask.copy()
    for axis in range(mask.ndim):
        along, inside = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        inside[1:] &= along[:-1]
        inside[:-1] &= along[1:]
        inside[0] = inside[-1] = False
    return mask & ~inner


def surface_distances(
    prediction: BoolArray, reference: BoolArray, spacing_um: Spacing
) -> SurfaceDistances:
    """Return the distances between the boundary voxels of two masks, both ways, in um.

    Raises:
        TypeError, MinivessError: MV-DATA-003, MV-DATA-004 (see
            `minivess.metrics.overlap.check_masks`), MV-DATA-009 spacing not positive.

    Source: exact nearest neighbours by a k-d tree, Maneewongvatana and Mount 1999, through SciPy.

    >>> import numpy as np
    >>> prediction, reference = np.zeros((2, 4, 1, 1), dtype=bool)
    >>> prediction[0], reference[2:] = True, True
    >>> distances = surface_distances(prediction, reference, (1.5, 1.0, 5.0))
    >>> distances.prediction_to_reference, distances.reference_to_prediction
    (array([3.]), array([3. , 4.5]))
    """
    check_masks(prediction, reference)
    check_spacing(spacing_um)
    box = joint_box(prediction, reference)
    surfaces = boundary(prediction[box]), boundary(reference[box])
    trees = VoxelTree(surfaces[0], spacing_um), VoxelTree(surfaces[1], spacing_um)
    return distances_between(*trees, diagonal_um(prediction.shape, spacing_um))


def distances_between(
    prediction: VoxelTree, reference: VoxelTree, worst_um: float
) -> SurfaceDistances:
    """Return the distances between two boundaries, both ways; see `surface_distances`.

    Args:
        prediction: boundary voxels of the prediction.
        reference: boundary voxels of the reference, in the same box.
        worst_um: the distance where only one of the masks has a boundary.
    """
    sizes = prediction.size, reference.size
    if not all(sizes):
        nothing, worst = np.zeros(0), np.full(1, worst_um)
        return SurfaceDistances(*((worst if size else nothing) for size in sizes))
    return SurfaceDistances(
        reference.distances_um(prediction.voxels), prediction.distances_um(reference.voxels)
    )


def hd95_um(distances: SurfaceDistances) -> float:
    """Return the larger of the two directed 95th percentiles of the surface distances, in um.

    Both masks empty: 0; one empty: the diagonal of the volume.

    Source: Metrics Reloaded, doi 10.1038/s41592-023-02151-z; percentile by linear interpolation.

    >>> import numpy as np
    >>> hd95_um(SurfaceDistances(np.array([1.0, 1.0]), np.array([0.0, 2.0])))
    1.9
    """
    return max((float(np.percentile(one, 95)) for one in distances.directed), default=0.0)


def hd_um(distances: SurfaceDistances) -> float:
    """Return the Hausdorff distance: the largest surface distance of either direction, in um.

    Both masks empty: 0; one empty: the diagonal of the volume.

    Source: Metrics Reloaded, doi 10.1038/s41592-023-02151-z.

    >>> import numpy as np
    >>> hd_um(SurfaceDistances(np.array([1.0, 1.0]), np.array([0.0, 2.0])))
    2.0
    """
    return max((float(one.max()) for one in distances.directed), default=0.0)


def assd_um(distances: SurfaceDistances) -> float:
    """Return the mean of all surface distances of both directions together, in um.

    Both masks empty: 0; one empty: the diagonal of the volume.

    Source: Metrics Reloaded, doi 10.1038/s41592-023-02151-z.

    >>> import numpy as np
    >>> assd_um(SurfaceDistances(np.array([1.0, 1.0]), np.array([0.0, 0.0, 0.5])))
    0.5
    """
    sizes = [one.size for one in distances.directed]
    # The sum of the two sums does not depend on which mask is called the prediction.
    return sum(float(one.sum()) for one in distances.directed) / sum(sizes) if sizes else 0.0


def masd_um(distances: SurfaceDistances) -> float:
    """Return the mean of the two directed mean surface distances, in um.

    Both masks empty: 0; one empty: the diagonal of the volume.

    Source: Metrics Reloaded, doi 10.1038/s41592-023-02151-z.

    >>> import numpy as np
    >>> masd_um(SurfaceDistances(np.array([1.0, 1.0]), np.array([0.0, 0.0, 0.0])))
    0.5
    """
    means = [float(one.mean()) for one in distances.directed]
    return sum(means) / len(means) if means else 0.0


def nsd(distances: SurfaceDistances, tolerance_um: float) -> float:
    """Return the part of both boundaries that lies within a tolerance of the other, 0 to 1.

    Both masks empty: 1; one empty: 0. Distance and tolerance are compared in single precision,
    so that three steps of 0.1 um are within 0.3 um.

    Raises:
        MinivessError: MV-CONFIG-002 tolerance not positive and finite.

    Source: Nikolov et al. 2021, doi 10.2196/26151, over voxels as in Metrics Reloaded,
    doi 10.1038/s41592-023-02151-z.

    >>> import numpy as np
    >>> nsd(SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0, 2.0])), 2.0)
    0.75
    """
    if not (np.isfinite(tolerance_um) and tolerance_um > 0):
        raise MinivessError(
            "MV-CONFIG-002",
            what="the tolerance of the normalised surface distance is not usable",
            found=str(tolerance_um),
            expected="a positive number in micrometres",
            fix="set evaluation.nsd_tolerance_um to the largest offset that you call correct",
        )
    if len(distances.directed) < 2:
        return 0.0 if distances.directed else 1.0
    limit = np.float32(tolerance_um)
    within = sum(np.count_nonzero(one.astype(np.float32) <= limit) for one in distances.directed)
    return int(within) / sum(one.size for one in distances.directed)
