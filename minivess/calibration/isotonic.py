"""Isotonic calibration: the rising step-wise linear map that fits best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivess.calibration import Fitted, Sample

if TYPE_CHECKING:
    from minivess.config.calibration import CalibrationConfig
    from minivess.types import Float32Array

# As many as single precision holds: corners may lie at tiny probabilities.
SIGNIFICANT = 9


def fit(samples: Sequence[Sample], config: CalibrationConfig) -> Fitted:
    """The rising map with the smallest squared error, as its corners.

    Args:
        samples: the cases and their voxels, all of equal weight.
        config: not used; all calibrators are called alike.

    Source: Zadrozny and Elkan 2002, doi 10.1145/775047.775151, by scikit-learn's
    IsotonicRegression (pool adjacent violators).
    """
    from sklearn.isotonic import IsotonicRegression

    del config
    probability = np.concatenate([sample.probabilities() for sample in samples])
    vessel = np.concatenate([sample.references() for sample in samples]).astype(np.float64)
    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(probability, vessel)
    return {
        "probability": [float(f"{value:.{SIGNIFICANT}g}") for value in model.X_thresholds_],
        "calibrated": [float(f"{value:.{SIGNIFICANT}g}") for value in model.y_thresholds_],
    }


def apply(fitted: Fitted, probability: Float32Array, image: Float32Array) -> Float32Array:
    """Calibrated probability (x, y, z): linear between the corners, constant outside them.

    >>> corners = {"probability": [0.2, 0.6], "calibrated": [0.0, 1.0]}
    >>> apply(corners, np.array([0.1, 0.4, 0.9]), np.zeros(3)).tolist()
    [0.0, 0.5, 1.0]
    """
    del image
    values = np.asarray(probability, dtype=np.float64)
    return np.interp(values, fitted["probability"], fitted["calibrated"]).astype(np.float32)
