"""Components: definitions."""

from __future__ import annotations

from minivess.metrics.definition import RATIO_RULE, UNIT_RANGE, MetricDefinition

DEFINITIONS = (
    MetricDefinition(
        "component_dice",
        "Component Dice",
        "1",
        UNIT_RANGE,
        "higher",
        "mean over the reference's components (26-connectivity) of the Dice within the part of "
        "the volume that is nearest to that component, so that a small vessel counts as much as "
        "a large one (CC-Dice)",
        RATIO_RULE,
        "Jaus et al. 2024, CC-Metrics, arXiv:2410.18684",
    ),
)
