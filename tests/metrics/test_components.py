from __future__ import annotations

import numpy as np
from scipy import ndimage

from minivess.metrics.components import component_dice
from minivess.metrics.overlap import dice
from minivess.seeding import generator
from minivess.types import BoolArray

SPACING = (3.0, 2.0, 1.0)


def no_voxel_between(prediction: BoolArray, reference: BoolArray) -> bool:
    """Whether there are components and no predicted voxel is equally near to two of them."""
    labels, count = ndimage.label(reference, np.ones((3, 3, 3)))
    if not count:
        return False
    own = [
        ndimage.distance_transform_edt(labels != number, sampling=SPACING)[prediction]
        for number in range(1, count + 1)
    ]
    distances = np.sort(own, axis=0)
    return count == 1 or bool((distances[1] - distances[0] > 1e-9).all())


def by_distance_transform(prediction: BoolArray, reference: BoolArray) -> float:
    """As in CC-Metrics: Dice within each region of a Voronoi partition of the volume."""
    labels, count = ndimage.label(reference, np.ones((3, 3, 3)))
    near = ndimage.distance_transform_edt(
        labels == 0, sampling=SPACING, return_distances=False, return_indices=True
    )
    regions = labels[tuple(near)]
    scores = []
    for number in range(1, count + 1):
        inside = regions == number
        scores.append(dice(prediction & inside, reference & inside))
    return float(np.mean(scores))


def test_equal_to_the_partition_by_a_distance_transform() -> None:
    rng, compared = generator(0, "test-components"), 0
    for _ in range(60):
        reference = rng.random((9, 8, 5)) < 0.02
        prediction = reference ^ (rng.random((9, 8, 5)) < 0.05)
        if no_voxel_between(prediction, reference):
            compared += 1
            expected = by_distance_transform(prediction, reference)
            assert np.isclose(component_dice(prediction, reference, SPACING), expected)
    assert compared >= 20


def test_a_missed_capillary_counts_as_much_as_an_artery() -> None:
    reference = np.zeros((20, 20, 5), dtype=bool)
    reference[2:12, 2:12], reference[16, 16] = True, True
    prediction = reference.copy()
    prediction[16, 16] = False
    assert component_dice(prediction, reference, (3.0, 2.0, 1.0)) == 0.5
    assert dice(prediction, reference) > 0.99


def test_the_spacing_decides_which_component_is_near() -> None:
    reference = np.zeros((5, 4, 1), dtype=bool)
    reference[0, 0], reference[3:5, 3] = True, True
    prediction = reference.copy()
    prediction[3, 1] = True  # along x 3, along y 2 steps
    assert component_dice(prediction, reference, (1.0, 3.0, 1.0)) == (2 / 3 + 1) / 2
    assert component_dice(prediction, reference, (1.0, 1.0, 1.0)) == (1 + 4 / 5) / 2


def test_empty_masks() -> None:
    empty, full = np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)
    scores = [component_dice(a, b, (1, 1, 1)) for a in (empty, full) for b in (empty, full)]
    assert scores == [1, 0, 0, 1]
