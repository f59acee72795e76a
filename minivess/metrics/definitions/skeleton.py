"""Centreline overlap: definitions."""

from __future__ import annotations

from minivess.metrics.definition import RATIO_RULE, UNIT_RANGE, MetricDefinition

_CLDICE = "Shit et al. 2021, clDice, arXiv:2003.07311"


DEFINITIONS = (
    MetricDefinition(
        "cldice",
        "clDice",
        "1",
        UNIT_RANGE,
        "higher",
        "harmonic mean of Tprec and Tsens",
        RATIO_RULE,
        _CLDICE,
        "main",
    ),
    MetricDefinition(
        "tprec",
        "Tprec",
        "1",
        UNIT_RANGE,
        "higher",
        "part of the prediction's skeleton inside the reference",
        RATIO_RULE,
        _CLDICE,
    ),
    MetricDefinition(
        "tsens",
        "Tsens",
        "1",
        UNIT_RANGE,
        "higher",
        "part of the reference's skeleton inside the prediction",
        RATIO_RULE,
        _CLDICE,
    ),
)
