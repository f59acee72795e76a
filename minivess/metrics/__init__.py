"""Per-case metrics: the registry of ids, units, directions and sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricDefinition:
    """What a metric id stands for."""

    id: str
    label: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    meaning: str
    empty_rule: str
    source: str


_METRICS_RELOADED = "Maier-Hein et al. 2024, Metrics Reloaded, doi 10.1038/s41592-023-02151-z"
_CLDICE = "Shit et al. 2021, clDice, arXiv:2003.07311"
_RATIO_RULE = "both empty: 1; one empty: 0"
_DISTANCE_RULE = "both empty: 0; one empty: diagonal of the volume in um, the worst possible value"
_COUNT_RULE = "counts of an empty mask are 0"

METRICS: dict[str, MetricDefinition] = {
    definition.id: definition
    for definition in (
        MetricDefinition(
            "dice", "Dice", "1", "higher", "overlap of the masks", _RATIO_RULE, _METRICS_RELOADED
        ),
        MetricDefinition(
            "cldice",
            "clDice",
            "1",
            "higher",
            "harmonic mean of Tprec and Tsens",
            _RATIO_RULE,
            _CLDICE,
        ),
        MetricDefinition(
            "tprec",
            "Tprec",
            "1",
            "higher",
            "part of the prediction's skeleton inside the reference",
            _RATIO_RULE,
            _CLDICE,
        ),
        MetricDefinition(
            "tsens",
            "Tsens",
            "1",
            "higher",
            "part of the reference's skeleton inside the prediction",
            _RATIO_RULE,
            _CLDICE,
        ),
        MetricDefinition(
            "hd95_um",
            "HD95",
            "um",
            "lower",
            "larger of the two directed 95th percentiles of the surface distances",
            _DISTANCE_RULE,
            _METRICS_RELOADED,
        ),
        MetricDefinition(
            "masd_um",
            "MASD",
            "um",
            "lower",
            "mean of the two directed mean surface distances",
            _DISTANCE_RULE,
            _METRICS_RELOADED,
        ),
        MetricDefinition(
            "nsd",
            "NSD",
            "1",
            "higher",
            "part of both surfaces within the tolerance of the other",
            _RATIO_RULE,
            _METRICS_RELOADED,
        ),
        MetricDefinition(
            "betti0_error",
            "Betti-0 error",
            "1",
            "lower",
            "difference in the number of connected components (26-connectivity), absolute",
            _COUNT_RULE,
            "Hu et al. 2019, arXiv:1906.05404 (global, not per patch)",
        ),
        MetricDefinition(
            "betti1_error",
            "Betti-1 error",
            "1",
            "lower",
            "difference in the number of independent loops (26-connectivity), absolute",
            _COUNT_RULE,
            "Hu et al. 2019, arXiv:1906.05404 (global, not per patch)",
        ),
        MetricDefinition(
            "volume_fraction",
            "Vessel fraction",
            "1",
            "neither",
            "part of the volume predicted as vessel",
            "0 where the prediction is empty",
            "definition",
        ),
        MetricDefinition(
            "volume_fraction_error",
            "Vessel fraction error",
            "1",
            "lower",
            "absolute difference of the predicted and the reference vessel fraction",
            "as computed",
            "definition",
        ),
    )
}
