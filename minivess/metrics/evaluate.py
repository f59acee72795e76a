"""All metrics of one case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from minivess.metrics import METRICS
from minivess.metrics.overlap import check_masks, dice, volume_fraction
from minivess.metrics.skeleton import cldice
from minivess.metrics.surface import hd95_um, masd_um, nsd, surface_distances
from minivess.metrics.topology import betti_errors

if TYPE_CHECKING:
    from minivess.types import BoolArray, RunKey, Spacing

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
    spacing_um: Spacing,
    nsd_tolerance_um: float,
) -> list[MetricValue]:
    """Return all metrics of `minivess.metrics.METRICS` for one case, in that order, never NaN.

    Args:
        prediction: mask (x, y, z).
        reference: mask of the same shape.
        spacing_um: spacing (x, y, z) in um.
        nsd_tolerance_um: tolerance of the normalised surface distance in um.

    Raises:
        TypeError: a mask is not boolean.
        MinivessError: MV-DATA-003 not three axes, MV-DATA-004 different shapes, MV-DATA-009
            spacing not positive, MV-CONFIG-002 tolerance not positive.

    >>> import numpy as np
    >>> mask = np.ones((4, 4, 2), dtype=bool)
    >>> evaluate_case(mask, mask, (1.0, 1.0, 5.0), 2.0)[0]
    MetricValue(metric='dice', value=1.0, unit='1', status='ok')
    """
    check_masks(prediction, reference)
    distances = surface_distances(prediction, reference, spacing_um)
    values: dict[str, float] = {"dice": dice(prediction, reference)}
    values["cldice"], values["tprec"], values["tsens"] = cldice(prediction, reference)
    values["hd95_um"] = hd95_um(distances)
    values["masd_um"] = masd_um(distances)
    values["nsd"] = nsd(distances, nsd_tolerance_um)
    values["betti0_error"], values["betti1_error"] = betti_errors(prediction, reference)
    fraction = volume_fraction(prediction)
    values["volume_fraction"] = fraction
    values["volume_fraction_error"] = abs(fraction - volume_fraction(reference))
    status = _status(prediction, reference)
    return [
        MetricValue(name, float(values[name]), definition.unit, status)
        for name, definition in METRICS.items()
    ]


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
