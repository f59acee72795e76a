"""Measures of the skeleton's graph: definitions."""

from __future__ import annotations

from minivess.metrics.definition import (
    DISTANCE_RANGE,
    RATIO_RULE,
    UNBOUNDED,
    UNIT_RANGE,
    MetricDefinition,
    Unit,
)

_SKAN = "Nunez-Iglesias et al. 2018, skan, doi 10.7717/peerj.4312"


_MEASURES: tuple[tuple[str, str, Unit, str, str, str], ...] = (
    ("length_um", "Length", "um", UNBOUNDED, "length of the skeleton", "0"),
    ("n_branches", "Branches", "1", UNBOUNDED, "number of branches of the skeleton", "0"),
    (
        "n_junctions",
        "Junctions",
        "1",
        UNBOUNDED,
        "number of junctions of the skeleton; junction voxels that touch are one",
        "0",
    ),
    (
        "radius_um",
        "Radius",
        "um",
        DISTANCE_RANGE,
        "mean over the skeleton's voxels of the distance to the volume's nearest background voxel",
        "0; no background: the diagonal of the volume",
    ),
    (
        "tortuosity",
        "Tortuosity",
        "1",
        "from 1",
        "mean over the branches with two ends of their length over the distance of the ends",
        "1, as where no branch has two ends",
    ),
)


def error_name(name: str) -> str:
    """Id of the error of a measure: its unit stays last.

    >>> error_name("length_um"), error_name("tortuosity")
    ('length_error_um', 'tortuosity_error')
    """
    return f"{name[:-3]}_error_um" if name.endswith("_um") else f"{name}_error"


DEFINITIONS = (
    *(
        MetricDefinition(
            name, label, unit, range_, "neither", f"{meaning}, of the prediction", empty, _SKAN
        )
        for name, label, unit, range_, meaning, empty in _MEASURES
    ),
    *(
        MetricDefinition(
            error_name(name),
            f"{label} error",
            unit,
            DISTANCE_RANGE if range_ == DISTANCE_RANGE else UNBOUNDED,
            "lower",
            f"absolute difference of the masks in the {meaning}",
            f"an empty mask has {empty}",
            _SKAN,
        )
        for name, label, unit, range_, meaning, empty in _MEASURES
    ),
    MetricDefinition(
        "junction_f1",
        "Junction F1",
        "1",
        UNIT_RANGE,
        "higher",
        "F1 score of the junctions, matched one to one within the tolerance (as many as can be)",
        "1 where neither skeleton has a junction, 0 where one has none; " + RATIO_RULE,
        "definition",
    ),
    MetricDefinition(
        "missing_length_um",
        "Missing length",
        "um",
        UNBOUNDED,
        "lower",
        "length of the reference's branches outside the prediction",
        "an empty prediction misses the whole length",
        "definition",
    ),
    MetricDefinition(
        "spurious_length_um",
        "Spurious length",
        "um",
        UNBOUNDED,
        "lower",
        "length of the prediction's branches outside the reference",
        "without a reference the whole length is spurious",
        "definition",
    ),
)
