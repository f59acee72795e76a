"""The metrics of the panel by calls of the usual libraries, one after the other.

What a script does that takes each metric from the library that has it: MONAI for surfaces,
scikit-image for skeletons and the Euler number, SciPy for components and distances, NetworkX for
the graph of the skeleton, NumPy for counts. Each function starts from the masks and shares nothing
with the others; what one call gives for several metrics is computed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import euler_number
from skimage.morphology import skeletonize

type Bools = npt.NDArray[np.bool_]
type Values = dict[str, float]

FULL = np.ones((3, 3, 3), dtype=bool)
N_BINS, CLIP = 15, 1e-7


@dataclass(frozen=True, eq=False)
class Pair:
    """A prediction and its reference, with what the metrics need to know of them."""

    prediction: Bools
    reference: Bools
    probability: npt.NDArray[np.float32]
    spacing_um: tuple[float, float, float]
    tolerance_um: float
    junction_tolerance_um: float


def overlap(pair: Pair) -> Values:
    """Dice and volumes, by NumPy."""
    prediction, reference = pair.prediction, pair.reference
    fraction = float(prediction.mean())
    difference = int(prediction.sum()) - int(reference.sum())
    return {
        "dice": 2 * int((prediction & reference).sum()) / int(prediction.sum() + reference.sum()),
        "sensitivity": int((prediction & reference).sum()) / int(reference.sum()),
        "precision": int((prediction & reference).sum()) / int(prediction.sum()),
        "volume_fraction": fraction,
        "volume_fraction_error": abs(fraction - float(reference.mean())),
        "volume_error_um3": abs(difference) * float(np.prod(pair.spacing_um)),
    }


def surfaces(pair: Pair) -> Values:
    """Surface distances, by MONAI."""
    first, second = (
        torch.from_numpy(mask)[None, None] for mask in (pair.prediction, pair.reference)
    )
    shared: dict[str, Any] = {"include_background": True, "spacing": pair.spacing_um}
    there = compute_average_surface_distance(first, second, symmetric=False, **shared)
    back = compute_average_surface_distance(second, first, symmetric=False, **shared)
    pooled = compute_average_surface_distance(first, second, symmetric=True, **shared)
    return {
        "hd_um": compute_hausdorff_distance(first, second, **shared).item(),
        "hd95_um": compute_hausdorff_distance(first, second, percentile=95, **shared).item(),
        "assd_um": pooled.item(),
        "masd_um": (there.item() + back.item()) / 2,
        "nsd": compute_surface_dice(first, second, [pair.tolerance_um], **shared).item(),
    }


def centreline_dice(pair: Pair) -> Values:
    """Centreline Dice, by scikit-image's skeletons."""
    found, expected = (
        skeletonize(mask, method="lee") for mask in (pair.prediction, pair.reference)
    )
    tprec = int((found & pair.reference).sum()) / int(found.sum())
    tsens = int((expected & pair.prediction).sum()) / int(expected.sum())
    return {"cldice": 2 * tprec * tsens / (tprec + tsens), "tprec": tprec, "tsens": tsens}


def component_dice(pair: Pair) -> Values:
    """Dice of each component with its neighbourhood, by SciPy's distance transform."""
    labels, count = ndimage.label(pair.reference, FULL)
    nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=pair.spacing_um, return_distances=False, return_indices=True
    )
    owner = labels[tuple(nearest)]
    both, found, expected = (
        np.bincount(owner[mask], minlength=count + 1)[1:]
        for mask in (pair.prediction & pair.reference, pair.prediction, pair.reference)
    )
    return {"component_dice": float(np.mean(2 * both / (found + expected)))}


def _betti(mask: Bools) -> list[int]:
    padded = np.pad(mask, 1)
    components, cavities = ndimage.label(padded, FULL)[1], ndimage.label(~padded)[1] - 1
    euler = int(euler_number(padded, connectivity=3))
    return [components, components + cavities - euler, cavities, euler]


def topology(pair: Pair) -> Values:
    """Betti numbers, by SciPy's components and scikit-image's Euler number."""
    found, expected = _betti(pair.prediction), _betti(pair.reference)
    names = ("betti0", "betti1", "betti2", "euler")
    values = dict(zip(names, map(float, found), strict=True))
    for name, one, other in zip(names, found, expected, strict=True):
        values[f"{name}_error"] = float(abs(one - other))
    return values


@dataclass(frozen=True, eq=False)
class _Graph:
    measures: Values
    junctions_um: npt.NDArray[np.float64]
    outside_um: float


def _joints(skeleton: Bools, spacing: npt.NDArray[np.float64]) -> nx.Graph:
    voxels = np.argwhere(skeleton)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(voxels)))
    pairs = KDTree(voxels).query_pairs(1.8, output_type="ndarray")
    lengths = np.linalg.norm((voxels[pairs[:, 0]] - voxels[pairs[:, 1]]) * spacing, axis=1)
    rows = zip(*pairs.T.tolist(), lengths.tolist(), strict=True)
    graph.add_weighted_edges_from(rows)
    return graph


def _tortuosity(
    graph: nx.Graph, junction: set[int], free: set[int], places: Any
) -> tuple[int, list[float]]:
    """Number of branches, and length over distance of the ends of those with two ends."""
    count, values = 0, []
    for part in nx.connected_components(graph.subgraph(set(graph) - junction)):
        edges = [(a, b) for a, b in graph.edges(part) if a in part or b in part]
        length = sum(graph.edges[edge]["weight"] for edge in edges)
        count += length > 0
        ends = [b if a in part else a for a, b in edges if (a in junction) != (b in junction)]
        ends += list(part & free)
        if len(ends) == 2 and (chord := float(np.linalg.norm(places[ends[0]] - places[ends[1]]))):
            values.append(max(length / chord, 1.0))
    return count, values


def _graph(mask: Bools, other: Bools, spacing_um: tuple[float, float, float]) -> _Graph:
    """Length, branches, junctions and tortuosity, by NetworkX; radius, by SciPy."""
    skeleton, spacing = skeletonize(mask, method="lee"), np.array(spacing_um)
    voxels = np.argwhere(skeleton)
    graph = _joints(skeleton, spacing)
    high = {voxel for voxel, degree in graph.degree() if degree >= 3}
    inner = graph.subgraph(high)
    clusters = [
        cluster
        for cluster in nx.connected_components(inner)
        if sum(end not in high for voxel in cluster for end in graph[voxel]) >= 3
    ]
    free = {voxel for voxel, degree in graph.degree() if degree == 1}
    half = np.array([degree / 2 for _, degree in graph.degree(weight="weight")])
    for cluster in nx.connected_components(inner):
        own = inner.subgraph(cluster)
        part = (
            nx.minimum_spanning_tree(own).size("weight") / own.size("weight") if own.size() else 1
        )
        for voxel, length in own.degree(weight="weight"):
            half[voxel] += (part - 1) * length / 2
    kept = {frozenset(edge) for edge in nx.minimum_spanning_edges(inner, data=False)}
    graph.remove_edges_from([edge for edge in inner.edges if frozenset(edge) not in kept])
    branches, tortuosity = _tortuosity(graph, set().union(*clusters), free, voxels * spacing)
    radius = ndimage.distance_transform_edt(mask, sampling=spacing_um)[skeleton]
    measures = {
        "length_um": float(half.sum()),
        "n_branches": float(branches),
        "n_junctions": float(len(clusters)),
        "radius_um": float(radius.mean()),
        "tortuosity": float(np.mean(tortuosity)) if tortuosity else 1.0,
    }
    centres = [voxels[list(cluster)].mean(axis=0) * spacing for cluster in clusters]
    outside = float(half[~other[skeleton]].sum())
    return _Graph(measures, np.reshape(centres, (-1, 3)), outside)


def _junction_f1(found: Any, expected: Any, tolerance_um: float) -> float:
    if not (len(found) and len(expected)):
        return float(len(found) == len(expected))
    near = KDTree(found).query_ball_tree(KDTree(expected), tolerance_um)
    graph = nx.Graph()
    graph.add_nodes_from(("found", number) for number in range(len(found)))
    graph.add_edges_from(
        (("found", a), ("expected", b)) for a, others in enumerate(near) for b in others
    )
    top = [("found", number) for number in range(len(found))]
    matched = len(nx.bipartite.hopcroft_karp_matching(graph, top)) // 2
    return 2 * matched / (len(found) + len(expected))


def morphometry(pair: Pair) -> Values:
    """What the graph of the skeleton tells, by scikit-image, NetworkX and SciPy."""
    found = _graph(pair.prediction, pair.reference, pair.spacing_um)
    expected = _graph(pair.reference, pair.prediction, pair.spacing_um)
    values = dict(found.measures)
    for name, value in found.measures.items():
        error = f"{name[:-3]}_error_um" if name.endswith("_um") else f"{name}_error"
        values[error] = abs(value - expected.measures[name])
    values["junction_f1"] = _junction_f1(
        found.junctions_um, expected.junctions_um, pair.junction_tolerance_um
    )
    values["missing_length_um"] = expected.outside_um
    values["spurious_length_um"] = found.outside_um
    return values


def _ece(probability: npt.NDArray[np.float32], reference: Bools) -> float:
    exact = probability.astype(np.float64)
    gaps = np.histogram(exact, N_BINS, (0.0, 1.0), weights=exact - reference)[0]
    return float(np.abs(gaps).sum()) / exact.size


def calibration(pair: Pair) -> Values:
    """Calibration, by NumPy in double precision; the band, by SciPy's distance transform."""
    exact, reference = pair.probability.astype(np.float64), pair.reference
    order = np.argsort(exact, axis=None, kind="stable")
    gaps = exact.ravel()[order] - reference.ravel()[order]
    likelihood = np.clip(np.where(reference, exact, 1 - exact), CLIP, 1 - CLIP)
    edge = reference & ~ndimage.binary_erosion(reference)
    distance = ndimage.distance_transform_edt(~edge, sampling=pair.spacing_um)
    band = distance <= pair.tolerance_um
    return {
        "ece": _ece(pair.probability, reference),
        "ace": sum(abs(float(part.sum())) for part in np.array_split(gaps, N_BINS)) / gaps.size,
        "brier": float(np.mean((exact - reference) ** 2)),
        "nll": float(-np.log(likelihood).mean()),
        "boundary_ece": _ece(pair.probability[band], reference[band]),
    }


FAMILIES: dict[str, Callable[[Pair], Values]] = {
    "overlap: NumPy": overlap,
    "surfaces: MONAI": surfaces,
    "centreline: scikit-image": centreline_dice,
    "components: SciPy": component_dice,
    "topology: SciPy, scikit-image": topology,
    "morphometry: scikit-image, NetworkX, SciPy": morphometry,
    "calibration: NumPy, SciPy": calibration,
}


def evaluate(pair: Pair) -> tuple[Values, Values]:
    """Return the values of all metrics, and the seconds of each family."""
    values, seconds = {}, {}
    for name, family in FAMILIES.items():
        start = time.perf_counter()
        values |= family(pair)
        seconds[name] = time.perf_counter() - start
    return values, seconds
