"""Betti numbers of masks: connected components, loops, cavities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.metrics.overlap import bounding_box, check_mask, check_masks

if TYPE_CHECKING:
    from minivess.types import BoolArray


def betti_numbers(mask: BoolArray) -> tuple[int, int, int]:
    """Return the numbers of components, independent loops and enclosed cavities of a mask.

    Vessel is 26-connected, background 6-connected: the topology of the union of closed voxels.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_mask`.

    Source: Euler-Poincare formula, Euler number = b0 - b1 + b2; Euler number by Ohser et al.
    2002, doi 10.1007/3-540-45782-8_12, through scikit-image.

    >>> import numpy as np
    >>> ring = np.ones((3, 3, 1), dtype=bool)
    >>> ring[1, 1, 0] = False
    >>> betti_numbers(ring)
    (1, 1, 0)
    """
    from scipy import ndimage
    from skimage.measure import euler_number

    check_mask(mask)
    if not mask.any():
        return 0, 0, 0
    # The margin joins all background that is not enclosed into one component.
    padded = np.pad(mask[bounding_box(mask)], 1)
    components = ndimage.label(padded, structure=np.ones((3, 3, 3)))[1]
    cavities = ndimage.label(~padded)[1] - 1
    euler: int = euler_number(padded, connectivity=3)  # type: ignore[no-untyped-call]
    loops = components + cavities - euler
    return int(components), int(loops), int(cavities)


def betti_errors(prediction: BoolArray, reference: BoolArray) -> tuple[int, int]:
    """Return the absolute differences of two masks in components and in loops.

    Global counts, so a missed vessel and a false one cancel; an empty mask counts 0 and 0.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_masks`.

    Source: Hu et al. 2019, arXiv:1906.05404, on whole volumes instead of patches.

    >>> import numpy as np
    >>> prediction, reference = np.ones((2, 5, 3, 1), dtype=bool)
    >>> prediction[2], reference[1, 1] = False, False
    >>> betti_errors(prediction, reference)
    (1, 1)
    """
    check_masks(prediction, reference)
    found, expected = betti_numbers(prediction), betti_numbers(reference)
    return abs(found[0] - expected[0]), abs(found[1] - expected[1])
