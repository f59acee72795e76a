"""Names for the tuples that every module passes around. Axes are (x, y, z), z the optical axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

type Shape = tuple[int, int, int]
type Spacing = tuple[float, float, float]
type FloatArray = npt.NDArray[np.floating[Any]]
type Float32Array = npt.NDArray[np.float32]
type BoolArray = npt.NDArray[np.bool_]
type Array = npt.NDArray[Any]


@dataclass(frozen=True, order=True)
class RunKey:
    """One training run of an experiment: model x loss x seed x fold."""

    model: str
    loss: str
    seed: int
    fold: int

    def __str__(self) -> str:
        return f"{self.model}/{self.loss}/seed{self.seed}/fold{self.fold}"
