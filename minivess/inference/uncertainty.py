"""How sure an ensemble is of each voxel, and whether its members disagree or doubt together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from minivess.types import Float32Array, FloatArray


@dataclass(frozen=True)
class Uncertainty:
    """Maps (x, y, z), float32; entropies in nats, at most ln 2.

    Attributes:
        probability: mean of the members' vessel probabilities.
        entropy: of that mean: all uncertainty.
        expected_entropy: mean of the members' own entropies: doubt that they share (aleatoric).
        mutual_information: the difference: their disagreement (epistemic), never negative.
    """

    probability: Float32Array
    entropy: Float32Array
    expected_entropy: Float32Array
    mutual_information: Float32Array


def binary_entropy(probability: FloatArray) -> FloatArray:
    """Entropy of vessel or not, in nats, of each voxel; 0 for certainty.

    >>> binary_entropy(np.array([0.0, 0.5, 1.0])).round(4).tolist()
    [0.0, 0.6931, 0.0]
    """
    from scipy.special import entr

    wide = np.asarray(probability, dtype=np.float64)
    entropy: FloatArray = entr(wide) + entr(1.0 - wide)
    return entropy


def uncertainty(probabilities: Iterable[Float32Array]) -> Uncertainty:
    """Mean probability, entropies and mutual information of an ensemble's members.

    Args:
        probabilities: vessel probabilities (x, y, z), one array per member; read one by one.

    Raises:
        ValueError: there is no member.

    Source: Houlsby et al. 2011, BALD, arXiv:1112.5745; Gal et al. 2017, arXiv:1703.02910, eq. 4.

    >>> found = uncertainty([np.float32([0.0, 0.5]), np.float32([1.0, 0.5])])
    >>> found.entropy.round(3).tolist(), found.mutual_information.round(3).tolist()
    ([0.6930000185966492, 0.6930000185966492], [0.6930000185966492, 0.0])
    """
    total, doubts, count = None, None, 0
    for probability in probabilities:
        wide, doubt = probability.astype(np.float64), binary_entropy(probability)
        total = wide if total is None else total + wide
        doubts = doubt if doubts is None else doubts + doubt
        count += 1
    if total is None or doubts is None:
        raise ValueError("an ensemble needs a member")
    mean, expected = total / count, doubts / count
    entropy = binary_entropy(mean)
    parts = (mean, entropy, expected, np.maximum(entropy - expected, 0.0))
    return Uncertainty(*(part.astype(np.float32) for part in parts))
