"""Topology: definitions."""

from __future__ import annotations

from minivess.metrics.definition import COUNT_RULE, UNBOUNDED, MetricDefinition

_HU = "Hu et al. 2019, arXiv:1906.05404 (global, not per patch)"


_CONNECTIVITY = "vessel 26-connected, background 6-connected"


COUNTED = (
    ("betti0", "Betti-0", "number of connected components"),
    ("betti1", "Betti-1", "number of independent loops"),
    ("betti2", "Betti-2", "number of enclosed cavities"),
    ("euler", "Euler characteristic", "components minus loops plus cavities"),
)


DEFINITIONS = (
    *(
        MetricDefinition(
            name,
            label,
            "1",
            "any whole number" if name == "euler" else UNBOUNDED,
            "neither",
            f"{meaning} of the prediction ({_CONNECTIVITY})",
            COUNT_RULE,
            _HU,
        )
        for name, label, meaning in COUNTED
    ),
    *(
        MetricDefinition(
            f"{name}_error",
            f"{label} error",
            "1",
            UNBOUNDED,
            "lower",
            f"absolute difference of the masks in the {meaning} ({_CONNECTIVITY})",
            COUNT_RULE,
            _HU,
        )
        for name, label, meaning in COUNTED
    ),
)
