"""Per-case metrics: the registry of ids, units, ranges, directions and sources."""

from __future__ import annotations

from minivess.metrics.definition import MetricDefinition
from minivess.metrics.definitions import (
    calibration,
    components,
    morphometry,
    overlap,
    skeleton,
    surface,
    topology,
)

__all__ = ["METRICS", "MetricDefinition"]

METRICS: dict[str, MetricDefinition] = {
    definition.id: definition
    for definition in (
        *overlap.DEFINITIONS,
        *skeleton.DEFINITIONS,
        *surface.DEFINITIONS,
        *components.DEFINITIONS,
        *topology.DEFINITIONS,
        *morphometry.DEFINITIONS,
        *calibration.DEFINITIONS,
    )
}
