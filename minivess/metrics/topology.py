"""Betti numbers of masks (connected components, loops, cavities) and the Euler characteristic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.metrics.definitions.topology import COUNTED
from minivess.metrics.overlap import bounding_box, check_mask, check_masks
from minivess.metrics.skeleton import label_components

if TYPE_CHECKING:
    from minivess.types import BoolArray


def euler_characteristic(mask: BoolArray) -> int:
    """Return the Euler characteristic of a mask: vertices - edges + faces - voxels.

    Of the union of closed voxels: vessel is 26-connected, background 6-connected. A vertex, edge
    or face counts where one of the voxels around it is vessel.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_mask`.

    Source: Kong and Rosenfeld 1989, doi 10.1016/0734-189X(89)90147-3.

    >>> import numpy as np
    >>> ring = np.ones((3, 3, 1), dtype=bool)
    >>> ring[1, 1, 0] = False
    >>> euler_characteristic(ring), euler_characteristic(~ring)
    (0, 1)
    """
    check_mask(mask)
    padded = np.pad(mask, 1)
    face_x, face_y, face_z = (_touching(padded, axis) for axis in range(3))
    edge_xy, edge_xz, edge_yz = (
        _touching(face_x, 1),
        _touching(face_x, 2),
        _touching(face_y, 2),
    )
    vertex = _touching(edge_xy, 2)
    counts = [
        sum(int(np.count_nonzero(cells)) for cells in kind)
        for kind in ((vertex,), (edge_xy, edge_xz, edge_yz), (face_x, face_y, face_z), (mask,))
    ]
    return counts[0] - counts[1] + counts[2] - counts[3]


def _touching(cells: BoolArray, axis: int) -> BoolArray:
    """Between each two neighbours along an axis: whether one of them is set."""
    moved = np.moveaxis(cells, axis, 0)
    return np.moveaxis(moved[1:] | moved[:-1], 0, axis)


def betti_numbers(mask: BoolArray) -> tuple[int, int, int]:
    """Return the numbers of components, independent loops and enclosed cavities of a mask.

    Vessel is 26-connected, background 6-connected: the topology of the union of closed voxels.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_mask`.

    Source: Euler-Poincare formula, Euler characteristic = b0 - b1 + b2.

    >>> import numpy as np
    >>> ring = np.ones((3, 3, 1), dtype=bool)
    >>> ring[1, 1, 0] = False
    >>> betti_numbers(ring)
    (1, 1, 0)
    """
    check_mask(mask)
    return betti_of_components(mask, label_components(mask)[1])


def betti_of_components(mask: BoolArray, n_components: int) -> tuple[int, int, int]:
    """Return `betti_numbers` of a mask whose components are counted."""
    from scipy import ndimage

    if n_components == 0:
        return 0, 0, 0
    # The margin joins all background that is not enclosed into one component.
    padded = np.pad(mask[bounding_box(mask)], 1)
    cavities = int(ndimage.label(~padded)[1]) - 1
    return n_components, n_components + cavities - euler_characteristic(padded), cavities


def topology_values(
    found: tuple[int, int, int], expected: tuple[int, int, int]
) -> dict[str, float]:
    """Return the metrics of this family from the Betti numbers of prediction and reference.

    >>> topology_values((2, 1, 0), (1, 3, 0))["euler_error"]
    3.0
    """
    pairs = [*zip(found, expected, strict=True)]
    pairs.append((found[0] - found[1] + found[2], expected[0] - expected[1] + expected[2]))
    names = [name for name, _, _ in COUNTED]
    values = {name: float(pair[0]) for name, pair in zip(names, pairs, strict=True)}
    for name, (one, other) in zip(names, pairs, strict=True):
        values[f"{name}_error"] = float(abs(one - other))
    return values


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
