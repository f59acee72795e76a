from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from minivess.errors import MinivessError
from minivess.metrics.morphometry import (
    Vessels,
    junction_f1,
    mean_radius_um,
    measures,
    morphometry_values,
    outside_length_um,
)
from minivess.metrics.skeleton import skeleton
from minivess.metrics.skeleton_graph import skeleton_graph
from minivess.types import BoolArray, FloatArray

SPACING = (3.0, 2.0, 1.0)
masks = hnp.arrays(np.bool_, (6, 5, 4), elements=st.booleans())
places = hnp.arrays(
    np.float64, st.tuples(st.integers(0, 4), st.just(3)), elements=st.integers(0, 4)
)


def vessels(mask: BoolArray) -> Vessels:
    graph = skeleton_graph(skeleton(mask), SPACING)
    return Vessels(mask, graph, mean_radius_um(mask, graph, SPACING))


def fork(arm: bool = True) -> BoolArray:
    mask = np.zeros((20, 20, 7), dtype=bool)
    mask[1:19, 9:12, 2:5] = True
    if arm:
        mask[9:12, 11:19, 2:5] = True
    return mask


@settings(deadline=None)
@given(masks.filter(lambda mask: bool(mask.any() and not mask.all())))
def test_radius_is_what_a_distance_transform_finds(mask: BoolArray) -> None:
    graph = skeleton_graph(skeleton(mask), SPACING)
    distance = ndimage.distance_transform_edt(mask, sampling=SPACING)
    expected = distance[tuple(graph.voxels.T)].mean()
    assert mean_radius_um(mask, graph, SPACING) == pytest.approx(expected)


def test_radius_without_background_is_the_diagonal() -> None:
    full = np.ones((3, 4, 12), dtype=bool)
    graph = skeleton_graph(skeleton(full), (1.0, 1.0, 1.0))
    assert mean_radius_um(full, graph, (1.0, 1.0, 1.0)) == 13


def best_f1(a: FloatArray, b: FloatArray, tolerance_um: float) -> float:
    """All ways of matching, tried one after the other."""
    if not (len(a) and len(b)):
        return float(not len(a) and not len(b))
    short, long = sorted((a, b), key=len)
    near = np.linalg.norm(short[:, None] - long[None], axis=2) <= tolerance_um
    ways = permutations(range(len(long)), len(short))
    most = max(sum(bool(near[i, j]) for i, j in enumerate(way)) for way in ways)
    return 2 * most / (len(a) + len(b))


@settings(deadline=None)
@given(places, places, st.sampled_from([0.5, 1.0, 2.0, 3.0]))
def test_as_many_junctions_are_matched_as_can_be(
    a: FloatArray, b: FloatArray, tolerance_um: float
) -> None:
    score = junction_f1(a, b, tolerance_um)
    assert score == best_f1(a, b, tolerance_um)
    assert score == junction_f1(b, a, tolerance_um)


@pytest.mark.parametrize("tolerance_um", [0.0, -1.0, np.nan, np.inf])
def test_tolerance_must_be_usable(tolerance_um: float) -> None:
    with pytest.raises(MinivessError) as caught:
        junction_f1(np.zeros((1, 3)), np.zeros((1, 3)), tolerance_um)
    assert caught.value.code == "MV-CONFIG-002"


def test_a_missed_arm() -> None:
    found, expected = vessels(fork(arm=False)), vessels(fork())
    values = morphometry_values(found, expected, 5.0)
    assert (values["n_branches"], values["n_branches_error"]) == (1, 2)
    assert (values["n_junctions"], values["n_junctions_error"]) == (0, 1)
    assert values["junction_f1"] == 0
    assert values["spurious_length_um"] == 0
    # The arm leaves the other vessel at y = 11 and ends at y = 18: steps of 2 um.
    assert 10 <= values["missing_length_um"] <= 14
    assert values["length_error_um"] == pytest.approx(
        expected.graph.length_um - found.graph.length_um
    )


def test_junctions_are_found_within_the_tolerance() -> None:
    expected = vessels(fork())
    moved = vessels(np.roll(fork(), 2, axis=1))  # 4 um
    assert morphometry_values(moved, expected, 3.9)["junction_f1"] == 0
    assert morphometry_values(moved, expected, 4.0)["junction_f1"] == 1


@settings(deadline=None)
@given(masks, masks)
def test_what_is_outside_and_inside_is_the_whole_length(a: BoolArray, b: BoolArray) -> None:
    graph = skeleton_graph(skeleton(a), SPACING)
    both = outside_length_um(graph, b) + outside_length_um(graph, ~b)
    assert both == pytest.approx(graph.length_um)


def test_an_empty_mask_is_straight_and_has_nothing_else() -> None:
    values = measures(vessels(np.zeros((3, 3, 3), dtype=bool)))
    assert values.pop("tortuosity") == 1
    assert set(values.values()) == {0}
