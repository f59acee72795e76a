"""Calibrators: maps from a network's vessel probability to one that says how often it is right.

Each is fitted on cases with a known reference that had no part in training, and has a module with
two functions: `fit`, whose result is plain numbers for a JSON file, and `apply`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from minivess import seeding
from minivess.errors import MinivessError, nearest

if TYPE_CHECKING:
    from minivess.config.calibration import CalibrationConfig
    from minivess.types import BoolArray, Float32Array

type Floats = npt.NDArray[np.float64]
type Fitted = Mapping[str, Any]

UNCALIBRATED = "none"
# Log-odds beyond this probability are those of it: a sigmoid in single precision says no more.
SMALLEST = 1e-6


@dataclass(frozen=True)
class Calibrator:
    """One calibrator of the registry."""

    name: str
    label: str
    source: str
    module: str


CALIBRATORS: dict[str, Calibrator] = {
    one.name: one
    for one in (
        Calibrator(
            "temperature",
            "temperature",
            "Guo et al. 2017, arXiv:1706.04599",
            "minivess.calibration.temperature",
        ),
        Calibrator(
            "local_temperature",
            "local temperature",
            "Ding et al. 2021, arXiv:2008.05105",
            "minivess.calibration.local_temperature",
        ),
        Calibrator(
            "isotonic",
            "isotonic",
            "Zadrozny and Elkan 2002, doi 10.1145/775047.775151",
            "minivess.calibration.isotonic",
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Sample:
    """A case with a known reference and the voxels of it that calibrators are fitted on.

    Attributes:
        probability: the network's vessel probability (x, y, z).
        image: normalised image of the same shape.
        reference: mask of the same shape.
        voxels: flat indices (C order) of the voxels to use, rising.
    """

    probability: Float32Array
    image: Float32Array
    reference: BoolArray
    voxels: npt.NDArray[np.int64]

    def probabilities(self) -> Floats:
        """Probability of each voxel of the sample, float64."""
        return np.asarray(self.probability, dtype=np.float64).ravel()[self.voxels]

    def references(self) -> BoolArray:
        """Whether each voxel of the sample is vessel."""
        return np.asarray(self.reference).ravel()[self.voxels]


def choose_voxels(size: int, wanted: int, seed: int, case: str) -> npt.NDArray[np.int64]:
    """Up to `wanted` voxels of a case, uniform without replacement, as rising flat indices.

    >>> choose_voxels(5, 9, 0, "mv01").tolist()
    [0, 1, 2, 3, 4]
    """
    if wanted >= size:
        return np.arange(size, dtype=np.int64)
    rng = seeding.generator(seed, "calibration-voxels", case)
    return np.sort(rng.choice(size, wanted, replace=False, shuffle=False)).astype(np.int64)


def log_odds(probability: npt.NDArray[Any]) -> Floats:
    """log(p / (1 - p)) in float64, of probabilities clipped to 1e-6 from 0 and 1.

    For a network with two channels it is the difference of their logits.
    """
    clipped = np.clip(np.asarray(probability, dtype=np.float64), SMALLEST, 1 - SMALLEST)
    odds: Floats = np.log(clipped) - np.log1p(-clipped)
    return odds


def calibrator(name: str) -> Calibrator:
    """A calibrator of the registry.

    Raises:
        MinivessError: MV-CONFIG-003 there is none of that name.
    """
    if name in CALIBRATORS:
        return CALIBRATORS[name]
    raise MinivessError(
        "MV-CONFIG-003",
        what=f"there is no calibrator {name}",
        where="config calibration.methods",
        fix=nearest(name, CALIBRATORS),
    )


def fit(name: str, samples: Sequence[Sample], config: CalibrationConfig) -> Fitted:
    """Fit a calibrator; its parameters as plain numbers, rounded as they are written.

    Raises:
        MinivessError: MV-CONFIG-003 no such calibrator.
        ValueError: no sample.
    """
    if not samples:
        raise ValueError("a calibrator needs at least one case")
    module: Any = importlib.import_module(calibrator(name).module)
    fitted: Fitted = module.fit(samples, config)
    return fitted


def apply(
    name: str, fitted: Fitted, probability: Float32Array, image: Float32Array
) -> Float32Array:
    """Calibrated vessel probability (x, y, z), float32, of a whole volume.

    Args:
        name: calibrator, or `none` for the probability as it is.
        fitted: what `fit` returned.
        probability: the network's vessel probability (x, y, z).
        image: the normalised image of the same shape.

    Raises:
        MinivessError: MV-CONFIG-003 no such calibrator.
    """
    if name == UNCALIBRATED:
        return np.asarray(probability, dtype=np.float32)
    module: Any = importlib.import_module(calibrator(name).module)
    calibrated: Float32Array = module.apply(fitted, probability, image)
    return calibrated
