"""Dice of each connected component of the reference with what was predicted around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.metrics.nearest import VoxelTree
from minivess.metrics.overlap import check_masks
from minivess.metrics.skeleton import label_components
from minivess.metrics.surface import boundary, check_spacing

if TYPE_CHECKING:
    from minivess.types import Array, BoolArray, Spacing


def component_dice(prediction: BoolArray, reference: BoolArray, spacing_um: Spacing) -> float:
    """Return the mean over the reference's components of the Dice in each one's neighbourhood.

    A voxel belongs to the component that is nearest in um; where several are equally near, to one
    of them. Both masks empty: 1; one empty: 0.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.overlap.check_masks`; MV-DATA-009 spacing
            not positive.

    Source: Jaus et al. 2024, Every Component Counts, arXiv:2410.18684 (CC-Dice).

    >>> import numpy as np
    >>> reference = np.array([1, 1, 1, 1, 0, 0, 1]).reshape(7, 1, 1) > 0
    >>> prediction = reference & (np.arange(7).reshape(7, 1, 1) < 5)
    >>> component_dice(prediction, reference, (1.0, 1.0, 1.0))
    0.5
    """
    check_masks(prediction, reference)
    check_spacing(spacing_um)
    surface = VoxelTree(boundary(reference), spacing_um)
    return dice_by_component(prediction, *label_components(reference), surface)


def dice_by_component(
    prediction: BoolArray, labels: Array, n_components: int, surface: VoxelTree
) -> float:
    """Return `component_dice`, the reference given by its labelled components and its boundary."""
    if n_components == 0:
        return 0.0 if prediction.any() else 1.0
    length = n_components + 1
    # The reference's voxel that is nearest to a voxel outside of it lies on its boundary.
    outside = np.argwhere(prediction & (labels == 0))
    owners = labels[tuple(surface.voxels[surface.nearest(outside)].T)]
    common = np.bincount(labels[prediction], minlength=length)[1:]
    expected = np.bincount(labels.ravel(), minlength=length)[1:]
    found = common + np.bincount(owners, minlength=length)[1:]
    return float(np.mean(2 * common / (expected + found)))
