"""Temperature scaling: all log-odds divided by one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivess.calibration import Fitted, Floats, Sample, log_odds

if TYPE_CHECKING:
    from minivess.config.calibration import CalibrationConfig
    from minivess.types import Float32Array

LOWEST, HIGHEST = 0.05, 20.0
DIGITS = 6


def negative_log_likelihood(odds: Floats, vessel: Floats) -> float:
    """Mean of -log p(reference) over voxels, from log-odds and 0 or 1.

    >>> round(negative_log_likelihood(np.zeros(2), np.array([0.0, 1.0])), 6)
    0.693147
    """
    return float(np.mean(np.logaddexp(0.0, odds) - vessel * odds))


def fit(samples: Sequence[Sample], config: CalibrationConfig) -> Fitted:
    """The temperature between 0.05 and 20 with the smallest negative log-likelihood.

    Args:
        samples: the cases and their voxels, all of equal weight.
        config: not used; all calibrators are called alike.

    Source: Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar

    del config
    odds = np.concatenate([log_odds(sample.probabilities()) for sample in samples])
    vessel = np.concatenate([sample.references() for sample in samples]).astype(np.float64)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(odds / np.exp(log_t), vessel),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return {"temperature": round(float(np.exp(found.x)), DIGITS)}


def apply(fitted: Fitted, probability: Float32Array, image: Float32Array) -> Float32Array:
    """Calibrated probability (x, y, z): the sigmoid of the log-odds over the temperature.

    >>> half = apply({"temperature": 2.0}, np.array([0.5, 0.9], dtype=np.float32), np.zeros(2))
    >>> half.round(4).tolist()
    [0.5, 0.75]
    """
    from scipy.special import expit

    del image
    scaled: Float32Array = expit(log_odds(probability) / fitted["temperature"]).astype(np.float32)
    return scaled
