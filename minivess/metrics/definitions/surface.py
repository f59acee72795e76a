"""Surface distances: definitions."""

from __future__ import annotations

from minivess.metrics.definition import (
    DISTANCE_RANGE,
    DISTANCE_RULE,
    METRICS_RELOADED,
    RATIO_RULE,
    UNIT_RANGE,
    MetricDefinition,
)

DEFINITIONS = (
    MetricDefinition(
        "masd_um",
        "MASD",
        "um",
        DISTANCE_RANGE,
        "lower",
        "mean of the two directed mean surface distances",
        DISTANCE_RULE,
        METRICS_RELOADED,
        "main",
    ),
    MetricDefinition(
        "nsd",
        "NSD",
        "1",
        UNIT_RANGE,
        "higher",
        "part of both surfaces within the tolerance of the other",
        RATIO_RULE,
        METRICS_RELOADED,
        "main",
    ),
    MetricDefinition(
        "hd95_um",
        "HD95",
        "um",
        DISTANCE_RANGE,
        "lower",
        "larger of the two directed 95th percentiles of the surface distances",
        DISTANCE_RULE,
        METRICS_RELOADED,
        "main",
    ),
    MetricDefinition(
        "hd_um",
        "HD",
        "um",
        DISTANCE_RANGE,
        "lower",
        "Hausdorff distance: largest distance from one surface to the other, either way",
        DISTANCE_RULE,
        METRICS_RELOADED,
    ),
    MetricDefinition(
        "assd_um",
        "ASSD",
        "um",
        DISTANCE_RANGE,
        "lower",
        "mean of the surface distances of both directions taken together",
        DISTANCE_RULE,
        METRICS_RELOADED,
    ),
)
