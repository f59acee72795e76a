"""Overlap and volume: definitions."""

from __future__ import annotations

from minivess.metrics.definition import (
    AS_COMPUTED,
    METRICS_RELOADED,
    RATIO_RULE,
    UNBOUNDED,
    UNIT_RANGE,
    MetricDefinition,
)

DEFINITIONS = (
    MetricDefinition(
        "dice",
        "Dice",
        "1",
        UNIT_RANGE,
        "higher",
        "overlap of the masks: twice their common voxels over the sum of both",
        RATIO_RULE,
        METRICS_RELOADED,
        "main",
    ),
    MetricDefinition(
        "sensitivity",
        "Sensitivity",
        "1",
        UNIT_RANGE,
        "higher",
        "part of the reference's voxels that are predicted (recall)",
        RATIO_RULE,
        METRICS_RELOADED,
    ),
    MetricDefinition(
        "precision",
        "Precision",
        "1",
        UNIT_RANGE,
        "higher",
        "part of the predicted voxels that are in the reference (positive predictive value)",
        RATIO_RULE,
        METRICS_RELOADED,
    ),
    MetricDefinition(
        "volume_fraction",
        "Vessel fraction",
        "1",
        UNIT_RANGE,
        "neither",
        "part of the volume predicted as vessel",
        "0 where the prediction is empty",
        "definition",
    ),
    MetricDefinition(
        "volume_fraction_error",
        "Vessel fraction error",
        "1",
        UNIT_RANGE,
        "lower",
        "absolute difference of the predicted and the reference vessel fraction",
        AS_COMPUTED,
        "definition",
    ),
    MetricDefinition(
        "volume_error_um3",
        "Volume error",
        "um^3",
        UNBOUNDED,
        "lower",
        "absolute difference of the predicted and the reference vessel volume",
        AS_COMPUTED,
        "definition",
    ),
)
