"""Calibration: definitions."""

from __future__ import annotations

from minivess.metrics.definition import UNIT_RANGE, MetricDefinition

N_BINS = 15


CLIP = 1e-7  # probabilities of the likelihood stay this far from 0 and 1


_EMPTY = "as computed: an empty mask is one without vessel voxels"


DEFINITIONS = (
    MetricDefinition(
        "ece",
        "ECE",
        "1",
        UNIT_RANGE,
        "lower",
        f"expected calibration error of the vessel probability: {N_BINS} bins of equal width, the "
        "last one closed; mean over voxels of the absolute difference of mean probability and part "
        "of vessel in their bin",
        _EMPTY,
        "Naeini et al. 2015, doi 10.1609/aaai.v29i1.9602 (of the vessel class)",
    ),
    MetricDefinition(
        "ace",
        "ACE",
        "1",
        UNIT_RANGE,
        "lower",
        f"adaptive calibration error of the vessel probability: the same over {N_BINS} bins of "
        "equally many voxels; where equal probabilities fall into two bins, each gets its share "
        "of them and of their vessel voxels",
        _EMPTY,
        "Nixon et al. 2019, arXiv:1904.01685 (of the vessel class)",
    ),
    MetricDefinition(
        "brier",
        "Brier score",
        "1",
        UNIT_RANGE,
        "lower",
        "mean squared difference of probability and reference",
        _EMPTY,
        "Brier 1950, Monthly Weather Review 78:1-3",
    ),
    MetricDefinition(
        "nll",
        "NLL",
        "1",
        "0 to 16.12",
        "lower",
        "mean negative log-likelihood (nats) of the reference; probabilities stay "
        f"{CLIP:g} away from 0 and 1",
        _EMPTY,
        "definition",
    ),
    MetricDefinition(
        "boundary_ece",
        "Boundary ECE",
        "1",
        UNIT_RANGE,
        "lower",
        "ECE over the voxels within evaluation.nsd_tolerance_um of the reference's boundary",
        "empty reference: the ECE of the whole volume",
        "definition",
    ),
)
