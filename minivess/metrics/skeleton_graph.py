"""The graph of a skeleton: its branches and junctions, with lengths in micrometres."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from minivess.metrics.overlap import check_mask
from minivess.metrics.surface import check_spacing

if TYPE_CHECKING:
    from minivess.types import BoolArray, Spacing

type Ints = npt.NDArray[np.int64]
type Floats = npt.NDArray[np.float64]
type Bools = npt.NDArray[np.bool_]

# Each pair of 26-neighbours once.
_OFFSETS = tuple(offset for offset in product((-1, 0, 1), repeat=3) if offset > (0, 0, 0))
_JUNCTION_DEGREE = 3


@dataclass(frozen=True, eq=False)
class SkeletonGraph:
    """Branches and junctions of a skeleton.

    `voxels` (n, 3) are the skeleton's, `voxel_length_um` (n,) the part of the length at each;
    `branch_length_um` (b,) and `tortuosity` (t,) belong to branches, the latter only to those with
    two ends at different places; `junctions_um` (j, 3) are the junctions' centres.
    """

    voxels: Ints
    voxel_length_um: Floats
    branch_length_um: Floats
    tortuosity: Floats
    junctions_um: Floats

    @property
    def length_um(self) -> float:
        """Length of the whole skeleton."""
        return float(self.voxel_length_um.sum())


@dataclass(frozen=True, eq=False)
class _Edges:
    """Pairs of neighbouring voxels, by number, and their distances."""

    first: Ints
    second: Ints
    length_um: Floats

    def where(self, chosen: Bools) -> _Edges:
        return _Edges(self.first[chosen], self.second[chosen], self.length_um[chosen])

    def degree(self, n_voxels: int) -> Ints:
        ends = np.concatenate([self.first, self.second])
        return np.bincount(ends, minlength=n_voxels).astype(np.int64)

    def connected(self, n_voxels: int) -> Ints:
        """Number of the connected part of each voxel."""
        from scipy import sparse

        matrix = sparse.coo_array(
            (np.ones(len(self.first)), (self.first, self.second)), (n_voxels, n_voxels)
        )
        labels = sparse.csgraph.connected_components(matrix, directed=False)[1]
        return labels.astype(np.int64)


def skeleton_graph(skeleton: BoolArray, spacing_um: Spacing) -> SkeletonGraph:
    """Return the graph of a skeleton.

    Voxels are joined to their 26 neighbours. Voxels with three neighbours or more that touch each
    other are one cluster, within which only a minimum spanning tree of the joints is kept, so that
    small triangles are no loops. The tree has one length, whichever of equal joints it keeps; it is
    shared among the cluster's voxels in proportion to all their joints. A cluster that three joints
    or more leave is a junction; any other is part of a branch. What is left without the junctions
    falls into the branches; the joints to their junctions belong to them. A single voxel is no
    branch.

    Args:
        skeleton: mask (x, y, z), one voxel wide.
        spacing_um: spacing (x, y, z) in um.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_mask`; MV-DATA-009 spacing
            not positive.

    Source: Nunez-Iglesias et al. 2018, skan, doi 10.7717/peerj.4312: lengths and the spanning tree.
    Touching junction voxels are one junction here, where skan counts each; the joints within it
    count for the length of the skeleton and for no branch.

    >>> import numpy as np
    >>> cross = np.zeros((5, 5, 1), dtype=bool)
    >>> cross[2], cross[:, 2] = True, True
    >>> graph = skeleton_graph(cross, (3.0, 2.0, 1.0))
    >>> graph.branch_length_um.tolist(), graph.junctions_um.tolist(), graph.length_um
    ([3.0, 2.0, 2.0, 3.0], [[6.0, 4.0, 0.0]], 20.0)
    """
    check_mask(skeleton)
    check_spacing(spacing_um)
    voxels = np.argwhere(skeleton)
    n_voxels = len(voxels)
    spacing = np.asarray(spacing_um, dtype=np.float64)
    edges = _edges(skeleton, spacing)
    high = edges.degree(n_voxels) >= _JUNCTION_DEGREE
    inner = high[edges.first] & high[edges.second]
    clusters = edges.where(inner).connected(n_voxels)
    leaving = high[edges.first] != high[edges.second]
    at_cluster = np.where(high[edges.first], edges.first, edges.second)[leaving]
    n_leaving = np.bincount(clusters[at_cluster], minlength=n_voxels)
    junction = high & (n_leaving[clusters] >= _JUNCTION_DEGREE)
    kept = _kept(edges, inner, n_voxels)
    halves = _halves(edges, inner, kept, clusters)
    ends = edges.degree(n_voxels) == 1
    branch_length_um, tortuosity = _branches(edges.where(kept), junction, ends, voxels * spacing)
    return SkeletonGraph(
        voxels,
        halves,
        branch_length_um,
        tortuosity,
        _centres(clusters[junction], voxels[junction]) * spacing,
    )


def _edges(skeleton: BoolArray, spacing: Floats) -> _Edges:
    """All pairs of 26-neighbours of a skeleton."""
    padded = np.pad(skeleton, 1)
    flat = np.flatnonzero(padded)
    steps = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    first, second, length = [], [], []
    for offset in _OFFSETS:
        wanted = flat + int(np.dot(offset, steps))
        place = np.minimum(np.searchsorted(flat, wanted), max(flat.size - 1, 0))
        there = np.flatnonzero(flat[place] == wanted)
        first.append(there)
        second.append(place[there])
        squared = sum(float(step * um) ** 2 for step, um in zip(offset, spacing, strict=True))
        length.append(np.full(there.size, np.sqrt(squared)))
    return _Edges(np.concatenate(first), np.concatenate(second), np.concatenate(length))


def _kept(edges: _Edges, inner: Bools, n_voxels: int) -> Bools:
    """All joints but those of a cluster that its minimum spanning tree can do without."""
    from scipy import sparse

    numbers = np.flatnonzero(inner)
    # Distinct weights in the order of the lengths: the tree is then the same on every machine.
    order = numbers[np.argsort(edges.length_um[numbers], kind="stable")]
    weights = np.arange(1, order.size + 1, dtype=np.float64)
    matrix = sparse.coo_array(
        (weights, (edges.first[order], edges.second[order])), (n_voxels, n_voxels)
    )
    tree = sparse.csgraph.minimum_spanning_tree(matrix.tocsr())
    kept = ~inner
    kept[order[tree.data.astype(np.int64) - 1]] = True
    return kept


def _halves(edges: _Edges, inner: Bools, kept: Bools, clusters: Ints) -> Floats:
    """The length at each voxel: half of each joint, within a cluster scaled to that of its tree."""
    n_voxels = len(clusters)
    numbers = clusters[edges.first[inner]]
    everything = np.bincount(numbers, edges.length_um[inner], minlength=n_voxels)
    tree = inner & kept
    of_tree = np.bincount(clusters[edges.first[tree]], edges.length_um[tree], minlength=n_voxels)
    length = edges.length_um.copy()
    length[inner] *= of_tree[numbers] / everything[numbers]
    halves: Floats = np.bincount(
        np.concatenate([edges.first, edges.second]),
        np.concatenate([length, length]) / 2,
        minlength=n_voxels,
    )
    return halves


def _branches(
    edges: _Edges, junction: Bools, ends: Bools, places_um: Floats
) -> tuple[Floats, Floats]:
    """Length of each branch, and length over distance of the ends of those with two ends."""
    n_voxels = len(places_um)
    at_first, at_second = junction[edges.first], junction[edges.second]
    parts = edges.where(~at_first & ~at_second).connected(n_voxels)
    own = ~(at_first & at_second)
    owner = parts[np.where(at_first, edges.second, edges.first)[own]]
    length = np.bincount(owner, edges.length_um[own], minlength=n_voxels)
    # A branch ends in a voxel of a junction that it is joined to, or in one with one neighbour.
    joined = at_first != at_second
    inside = np.where(at_first, edges.first, edges.second)[joined]
    outside = np.where(at_first, edges.second, edges.first)[joined]
    free = np.flatnonzero(ends & ~junction)
    end_of = np.concatenate([parts[outside], parts[free]])
    end_at = np.concatenate([inside, free])
    order = np.argsort(end_of, kind="stable")
    end_of, end_at = end_of[order], end_at[order]
    n_ends = np.bincount(end_of, minlength=n_voxels)
    start = np.cumsum(n_ends) - n_ends
    two = np.flatnonzero(n_ends == 2)
    between = places_um[end_at[start[two]]] - places_um[end_at[start[two] + 1]]
    chord = np.sqrt(between[:, 0] ** 2 + between[:, 1] ** 2 + between[:, 2] ** 2)
    apart = chord > 0
    # Steps that sum to a straight line may sum to a last bit less than it.
    tortuosity = np.maximum(length[two[apart]] / chord[apart], 1.0)
    return length[length > 0], tortuosity


def _centres(clusters: Ints, voxels: Ints) -> Floats:
    """Mean place of the voxels of each cluster."""
    _, number = np.unique(clusters, return_inverse=True)
    counts = np.bincount(number)
    sums = [np.bincount(number, voxels[:, axis]) / counts for axis in range(3)]
    return np.stack(sums, axis=1)
