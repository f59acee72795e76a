"""What a skeleton's graph tells of the vessels: length, branches, junctions, radius, tortuosity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minivess.errors import MinivessError
from minivess.metrics.definitions.morphometry import error_name
from minivess.metrics.nearest import VoxelTree
from minivess.metrics.overlap import check_mask, joint_box
from minivess.metrics.skeleton import skeleton
from minivess.metrics.skeleton_graph import Floats, SkeletonGraph, skeleton_graph

if TYPE_CHECKING:
    from minivess.types import BoolArray, Spacing


@dataclass(frozen=True, eq=False)
class Vessels:
    """A mask with the graph of its skeleton and the mean radius."""

    mask: BoolArray
    graph: SkeletonGraph
    radius_um: float


def mean_radius_um(mask: BoolArray, graph: SkeletonGraph, spacing_um: Spacing) -> float:
    """Return the mean over a skeleton's voxels of the distance to the nearest background, in um.

    What lies outside the volume is not known to be background: a vessel may go on there. An empty
    mask: 0; a mask without background: the diagonal of the volume.

    Args:
        mask: mask (x, y, z).
        graph: graph of its skeleton.
        spacing_um: spacing (x, y, z) in um.

    >>> import numpy as np
    >>> from minivess.metrics.skeleton import skeleton
    >>> from minivess.metrics.skeleton_graph import skeleton_graph
    >>> tube = np.zeros((9, 5, 5), dtype=bool)
    >>> tube[:, 1:4, 1:4] = True
    >>> mean_radius_um(tube, skeleton_graph(skeleton(tube), (1, 2, 2)), (1, 2, 2))
    4.0
    """
    if not len(graph.voxels):
        return 0.0
    # The background voxel that is nearest to a vessel voxel touches the mask with a face.
    shell = np.zeros_like(mask)
    for axis in range(mask.ndim):
        along, beside = np.moveaxis(mask, axis, 0), np.moveaxis(shell, axis, 0)
        beside[1:] |= along[:-1]
        beside[:-1] |= along[1:]
    background = VoxelTree(shell & ~mask, spacing_um)
    if not background.size:
        return float(np.linalg.norm(np.asarray(mask.shape) * np.asarray(spacing_um)))
    return float(background.distances_um(graph.voxels).mean())


def vessels_of(mask: BoolArray, spacing_um: Spacing) -> Vessels:
    """Return a mask, in the box of its vessels, with the graph of its skeleton and mean radius.

    `measures` of it are those that `minivess.metrics.evaluate.evaluate_case` gives a prediction.

    Args:
        mask: mask (x, y, z).
        spacing_um: spacing (x, y, z) in um.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_mask`; MV-DATA-009 spacing
            not positive.

    >>> import numpy as np
    >>> tube = np.zeros((9, 5, 5), dtype=bool)
    >>> tube[:, 1:4, 1:4] = True
    >>> vessels_of(tube, (1.0, 2.0, 2.0)).radius_um
    4.0
    """
    check_mask(mask)
    inside = np.ascontiguousarray(mask[joint_box(mask, mask)])
    graph = skeleton_graph(skeleton(inside), spacing_um)
    return Vessels(inside, graph, mean_radius_um(inside, graph, spacing_um))


def junction_f1(prediction_um: Floats, reference_um: Floats, tolerance_um: float) -> float:
    """Return the F1 score of junctions that are matched one to one within a tolerance.

    As many as possible are matched. Neither has a junction: 1; only one has: 0.

    Args:
        prediction_um: places of the predicted junctions, (n, 3).
        reference_um: places of the reference's, (m, 3).
        tolerance_um: the largest distance of a pair, compared in single precision.

    Raises:
        MinivessError: MV-CONFIG-002 tolerance not positive and finite.

    >>> import numpy as np
    >>> junction_f1(np.zeros((2, 3)), np.array([[0.0, 0.0, 4.0]]), 5.0)
    0.6666666666666666
    """
    from scipy import sparse
    from scipy.spatial import cKDTree

    if not (np.isfinite(tolerance_um) and tolerance_um > 0):
        raise MinivessError(
            "MV-CONFIG-002",
            what="the tolerance of the junctions is not usable",
            found=str(tolerance_um),
            expected="a positive number in micrometres",
            fix="set evaluation.junction_tolerance_um to the largest offset of a found junction",
        )
    sizes = len(prediction_um), len(reference_um)
    if not all(sizes):
        return 0.0 if any(sizes) else 1.0
    near = cKDTree(prediction_um).sparse_distance_matrix(
        cKDTree(reference_um), tolerance_um * (1 + 1e-6), output_type="coo_matrix"
    )
    within = near.data.astype(np.float32) <= np.float32(tolerance_um)
    pairs = sparse.csr_array(
        (np.ones(int(within.sum())), (near.row[within], near.col[within])), shape=sizes
    )
    matched = sparse.csgraph.maximum_bipartite_matching(pairs, perm_type="column")
    return 2 * int(np.count_nonzero(matched >= 0)) / sum(sizes)


def outside_length_um(graph: SkeletonGraph, mask: BoolArray) -> float:
    """Return the length of a skeleton outside a mask, in um; each joint belongs half to each end.

    >>> import numpy as np
    >>> from minivess.metrics.skeleton_graph import skeleton_graph
    >>> line = np.ones((5, 1, 1), dtype=bool)
    >>> outside_length_um(skeleton_graph(line, (3, 2, 1)), np.arange(5).reshape(5, 1, 1) < 3)
    4.5
    """
    outside = ~mask[tuple(graph.voxels.T)]
    return float(graph.voxel_length_um[outside].sum())


def measures(vessels: Vessels) -> dict[str, float]:
    """Return length, branches, junctions, radius and tortuosity of one mask."""
    graph = vessels.graph
    straight = float(graph.tortuosity.mean()) if graph.tortuosity.size else 1.0
    return {
        "length_um": graph.length_um,
        "n_branches": float(graph.branch_length_um.size),
        "n_junctions": float(len(graph.junctions_um)),
        "radius_um": vessels.radius_um,
        "tortuosity": straight,
    }


def morphometry_values(
    prediction: Vessels, reference: Vessels, junction_tolerance_um: float
) -> dict[str, float]:
    """Return the metrics of this family.

    Raises:
        MinivessError: MV-CONFIG-002 tolerance not positive and finite.
    """
    found, expected = measures(prediction), measures(reference)
    values = dict(found)
    for name, value in found.items():
        values[error_name(name)] = abs(value - expected[name])
    values["junction_f1"] = junction_f1(
        prediction.graph.junctions_um, reference.graph.junctions_um, junction_tolerance_um
    )
    values["missing_length_um"] = outside_length_um(reference.graph, prediction.mask)
    values["spurious_length_um"] = outside_length_um(prediction.graph, reference.mask)
    return values
