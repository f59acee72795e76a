"""Skeletons whose graphs are compared with skan's; NumPy, SciPy and scikit-image only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import skeletonize

type Case = tuple[npt.NDArray[np.bool_], tuple[float, float, float]]


def _drawn(*lines: tuple[tuple[int, int, int], tuple[int, int, int]]) -> npt.NDArray[np.bool_]:
    skeleton = np.zeros((24, 24, 12), dtype=bool)
    for start, end in lines:
        steps = max(abs(b - a) for a, b in zip(start, end, strict=True))
        for step in range(steps + 1):
            place = [round(a + (b - a) * step / steps) for a, b in zip(start, end, strict=True)]
            skeleton[tuple(place)] = True
    return skeleton


def _vessels(seed: int, sigma: float) -> npt.NDArray[np.bool_]:
    noise = np.random.default_rng(seed).normal(size=(40, 36, 20))
    field = np.asarray(ndimage.gaussian_filter(noise, sigma))
    thin: npt.NDArray[np.bool_] = skeletonize(field > 0.7 * field.std(), method="lee")
    return thin


def cases() -> dict[str, Case]:
    """Name -> skeleton and spacing in um."""
    ring = np.zeros((12, 12, 3), dtype=bool)
    ring[2:9, 2, 1] = ring[2:9, 8, 1] = ring[2, 2:9, 1] = ring[8, 2:9, 1] = True
    ring[2, 2, 1] = False
    bow = _drawn(((2, 2, 2), (12, 12, 2)), ((12, 12, 2), (22, 2, 2)))
    fork = _drawn(((2, 12, 5), (12, 12, 5)), ((12, 12, 5), (20, 20, 5)), ((12, 12, 5), (20, 4, 5)))
    cross = _drawn(((2, 12, 5), (20, 12, 5)), ((12, 2, 5), (12, 20, 5)))
    space = _drawn(((2, 2, 1), (20, 20, 10)), ((12, 12, 6), (12, 2, 1)))
    return {
        "line": (_drawn(((2, 2, 2), (20, 2, 2))), (3.0, 2.0, 1.0)),
        "bow": (bow, (3.0, 2.0, 1.0)),
        "ring": (ring, (1.5, 1.0, 5.0)),
        "fork": (fork, (3.0, 2.0, 1.0)),
        "cross": (cross, (1.0, 1.0, 1.0)),
        "space": (space, (0.5, 0.7, 2.5)),
        "apart": (fork | _drawn(((1, 1, 1), (1, 6, 1))), (3.0, 2.0, 1.0)),
        "vessels 1": (_vessels(1, 2.0), (1.0, 1.0, 1.0)),
        "vessels 2": (_vessels(2, 2.5), (1.0, 1.0, 5.0)),
        "vessels 3": (_vessels(3, 3.0), (3.0, 2.0, 1.0)),
    }


def fingerprint(skeleton: npt.NDArray[Any]) -> int:
    """A number that tells whether the same voxels are set."""
    return int(np.flatnonzero(skeleton).sum())
