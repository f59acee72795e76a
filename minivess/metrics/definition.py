"""What a metric id stands for, and the rules that several families share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

METRICS_RELOADED = "Maier-Hein et al. 2024, Metrics Reloaded, doi 10.1038/s41592-023-02151-z"
RATIO_RULE = "both empty: 1; one empty: 0"
DISTANCE_RULE = "both empty: 0; one empty: diagonal of the volume in um, the worst possible value"
COUNT_RULE = "0 for an empty mask"
AS_COMPUTED = "as computed; nothing is divided by a mask's size"

UNIT_RANGE = "0 to 1"
DISTANCE_RANGE = "0 to the diagonal"
UNBOUNDED = "from 0"

type Unit = Literal["1", "um", "um^3"]


@dataclass(frozen=True)
class MetricDefinition:
    """What a metric id stands for.

    `panel` is main for the few metrics that the printed summary and the main table of the paper
    show; every metric is in the tables `cases`, `metrics` and `summary`.
    """

    id: str
    label: str
    unit: Unit
    range: str
    better: Literal["higher", "lower", "neither"]
    meaning: str
    empty_rule: str
    source: str
    panel: Literal["main", "full"] = "full"
