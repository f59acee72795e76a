"""All metrics of one case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from minivess.metrics import METRICS
from minivess.metrics.calibration import boundary_band, calibration_values, check_probability
from minivess.metrics.components import dice_by_component
from minivess.metrics.morphometry import Vessels, mean_radius_um, morphometry_values
from minivess.metrics.nearest import VoxelTree
from minivess.metrics.overlap import (
    check_masks,
    dice,
    joint_box,
    precision,
    sensitivity,
    volume_error_um3,
    volume_fraction,
)
from minivess.metrics.skeleton import (
    cldice_of_skeletons,
    label_components,
    skeleton_of_components,
)
from minivess.metrics.skeleton_graph import skeleton_graph
from minivess.metrics.surface import (
    SurfaceDistances,
    assd_um,
    boundary,
    check_spacing,
    diagonal_um,
    distances_between,
    hd95_um,
    hd_um,
    masd_um,
    nsd,
)
from minivess.metrics.topology import betti_of_components, topology_values

if TYPE_CHECKING:
    from minivess.types import Array, BoolArray, FloatArray, RunKey, Spacing

type Status = Literal["ok", "empty_prediction", "empty_reference", "both_empty"]


@dataclass(frozen=True)
class MetricValue:
    """One metric of one case; where a mask is empty, the value follows the metric's rule."""

    metric: str
    value: float
    unit: str
    status: Status


def evaluate_case(
    prediction: BoolArray,
    reference: BoolArray,
    probability: FloatArray,
    spacing_um: Spacing,
    nsd_tolerance_um: float,
    junction_tolerance_um: float,
) -> list[MetricValue]:
    """Return all metrics of `minivess.metrics.METRICS` for one case, in that order, never NaN.

    Boundaries, components, skeletons and graphs of the masks are made once, in the box that holds
    both, and shared by the metrics.

    Args:
        prediction: mask (x, y, z).
        reference: mask of the same shape.
        probability: vessel probability, same shape.
        spacing_um: spacing (x, y, z) in um.
        nsd_tolerance_um: tolerance of the normalised surface distance, and half the width of the
            band of the boundary ECE, in um.
        junction_tolerance_um: largest offset of a found junction in um.

    Raises:
        TypeError: a mask is not boolean.
        MinivessError: MV-DATA-003 not three axes, MV-DATA-004 different shapes, MV-DATA-006
            probability outside 0 to 1, MV-DATA-009 spacing not positive, MV-CONFIG-002 tolerance
            not positive.

    >>> import numpy as np
    >>> mask = np.ones((4, 4, 2), dtype=bool)
    >>> evaluate_case(mask, mask, mask.astype(float), (1.0, 1.0, 5.0), 2.0, 5.0)[0]
    MetricValue(metric='dice', value=1.0, unit='1', status='ok')
    """
    check_masks(prediction, reference)
    check_spacing(spacing_um)
    check_probability(probability, reference)
    # NIfTI stores x fastest; in one order for all, no metric makes its own copy.
    prediction, reference = np.ascontiguousarray(prediction), np.ascontiguousarray(reference)
    values = _overlap_values(prediction, reference, spacing_um)
    box = joint_box(prediction, reference)
    found, expected = (
        _analyse(np.ascontiguousarray(mask[box]), spacing_um) for mask in (prediction, reference)
    )
    worst_um = diagonal_um(prediction.shape, spacing_um)
    distances = distances_between(found.surface, expected.surface, worst_um)
    values |= _distance_values(distances, nsd_tolerance_um)
    values |= _skeleton_and_component_values(found, expected)
    values |= topology_values(found.betti, expected.betti)
    values |= morphometry_values(found.vessels, expected.vessels, junction_tolerance_um)
    edge = np.zeros_like(reference)
    edge[box] = expected.edge
    band = boundary_band(edge, nsd_tolerance_um, spacing_um)
    values |= calibration_values(np.ascontiguousarray(probability), reference, band)
    status = _status(prediction, reference)
    return [
        MetricValue(name, float(values[name]), definition.unit, status)
        for name, definition in METRICS.items()
    ]


@dataclass(frozen=True, eq=False)
class _Analysed:
    """What the metrics share of one mask."""

    vessels: Vessels
    labels: Array
    edge: BoolArray
    surface: VoxelTree
    skeleton: BoolArray
    betti: tuple[int, int, int]


def _analyse(mask: BoolArray, spacing_um: Spacing) -> _Analysed:
    labels, n_components = label_components(mask)
    thin = skeleton_of_components(mask, labels)
    graph, edge = skeleton_graph(thin, spacing_um), boundary(mask)
    return _Analysed(
        Vessels(mask, graph, mean_radius_um(mask, graph, spacing_um)),
        labels,
        edge,
        VoxelTree(edge, spacing_um),
        thin,
        betti_of_components(mask, n_components),
    )


def _distance_values(distances: SurfaceDistances, nsd_tolerance_um: float) -> dict[str, float]:
    return {
        "masd_um": masd_um(distances),
        "nsd": nsd(distances, nsd_tolerance_um),
        "hd95_um": hd95_um(distances),
        "hd_um": hd_um(distances),
        "assd_um": assd_um(distances),
    }


def _skeleton_and_component_values(found: _Analysed, expected: _Analysed) -> dict[str, float]:
    masks = found.vessels.mask, expected.vessels.mask
    score, tprec, tsens = cldice_of_skeletons(
        (masks[0], found.skeleton), (masks[1], expected.skeleton)
    )
    by_component = dice_by_component(masks[0], expected.labels, expected.betti[0], expected.surface)
    return {"cldice": score, "tprec": tprec, "tsens": tsens, "component_dice": by_component}


def _overlap_values(
    prediction: BoolArray, reference: BoolArray, spacing_um: Spacing
) -> dict[str, float]:
    fraction = volume_fraction(prediction)
    return {
        "dice": dice(prediction, reference),
        "sensitivity": sensitivity(prediction, reference),
        "precision": precision(prediction, reference),
        "volume_fraction": fraction,
        "volume_fraction_error": abs(fraction - volume_fraction(reference)),
        "volume_error_um3": volume_error_um3(prediction, reference, spacing_um),
    }


def _status(prediction: BoolArray, reference: BoolArray) -> Status:
    """Which of the masks are empty."""
    if prediction.any():
        return "ok" if reference.any() else "empty_reference"
    return "empty_prediction" if reference.any() else "both_empty"


def case_rows(
    experiment: str, run: RunKey, case: str, values: list[MetricValue]
) -> list[dict[str, object]]:
    """Return the metrics of one case of one run as rows of the table `cases`.

    >>> from minivess.types import RunKey
    >>> values = [MetricValue("dice", 0.5, "1", "ok")]
    >>> rows = case_rows("demo", RunKey("dynunet", "dice_ce", 0, 1), "mv01", values)
    >>> list(rows[0].values())
    ['demo', 'dynunet', 'dice_ce', 0, 1, 'mv01', 'dice', 0.5, '1', 'ok']
    """
    return [
        {
            "experiment": experiment,
            "model": run.model,
            "loss": run.loss,
            "seed": run.seed,
            "fold": run.fold,
            "case": case,
            "metric": value.metric,
            "value": value.value,
            "unit": value.unit,
            "status": value.status,
        }
        for value in values
    ]
