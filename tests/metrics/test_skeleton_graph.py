from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skeleton_cases import cases, fingerprint

from minivess.errors import MinivessError
from minivess.metrics.skeleton import skeleton
from minivess.metrics.skeleton_graph import skeleton_graph
from minivess.types import BoolArray, Spacing

SKAN = json.loads(Path(__file__).with_name("skan_values.json").read_text(encoding="utf-8"))
CASES = cases()
masks = hnp.arrays(np.bool_, (6, 5, 4), elements=st.booleans())


@pytest.mark.parametrize("name", CASES)
def test_equal_to_skan(name: str) -> None:
    thin, spacing_um = CASES[name]
    expected = SKAN["cases"][name]
    assert fingerprint(thin) == expected["fingerprint"], "another skeleton: run skan_values.py"
    graph = skeleton_graph(thin, spacing_um)
    assert graph.length_um == pytest.approx(expected["length_um"], rel=1e-12)
    assert graph.branch_length_um.size == len(expected["branches"])
    assert len(graph.junctions_um) == expected["n_junctions"]


@pytest.mark.parametrize("name", ["line", "bow", "fork", "apart"])
def test_branches_equal_to_skans_where_a_junction_is_one_voxel(name: str) -> None:
    expected = SKAN["cases"][name]["branches"]
    graph = skeleton_graph(*CASES[name])
    lengths = [length for length, _ in expected]
    assert sorted(graph.branch_length_um) == pytest.approx(lengths, rel=1e-12)
    tortuosity = sorted(length / distance for length, distance in expected)
    assert sorted(graph.tortuosity) == pytest.approx(tortuosity, rel=1e-12)


def drawn(*places: tuple[int, int, int]) -> BoolArray:
    mask = np.zeros((8, 8, 4), dtype=bool)
    mask[tuple(np.transpose(places))] = True
    return mask


def test_a_hand_computed_bend() -> None:
    graph = skeleton_graph(drawn((1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 2)), (3.0, 2.0, 1.0))
    assert graph.length_um == pytest.approx(3 + 13**0.5 + 10**0.5)
    assert graph.branch_length_um.tolist() == pytest.approx([graph.length_um])
    assert graph.tortuosity.tolist() == pytest.approx([graph.length_um / 86**0.5])
    assert graph.voxel_length_um.tolist() == pytest.approx(
        [1.5, (3 + 13**0.5) / 2, (13**0.5 + 10**0.5) / 2, 10**0.5 / 2]
    )


def test_a_single_voxel_and_nothing_have_no_branch() -> None:
    for thin in (drawn((1, 1, 1)), np.zeros((2, 2, 2), dtype=bool)):
        graph = skeleton_graph(thin, (1.0, 1.0, 1.0))
        assert graph.length_um == 0
        assert (graph.branch_length_um.size, len(graph.junctions_um)) == (0, 0)
        assert len(graph.voxels) == np.count_nonzero(thin)


def test_a_closed_ring_is_one_branch_without_ends() -> None:
    ring = drawn((1, 2, 1), (2, 1, 1), (3, 2, 1), (2, 3, 1))
    graph = skeleton_graph(ring, (1.0, 1.0, 1.0))
    assert graph.branch_length_um.tolist() == pytest.approx([4 * 2**0.5])
    assert (graph.tortuosity.size, len(graph.junctions_um)) == (0, 0)


@settings(deadline=None, max_examples=150)
@given(masks, st.sampled_from([(1.0, 1.0, 1.0), (3.0, 2.0, 1.0)]))
def test_length_is_that_of_branches_and_junctions(mask: BoolArray, spacing_um: Spacing) -> None:
    graph = skeleton_graph(mask, spacing_um)
    assert graph.branch_length_um.sum() <= graph.length_um + 1e-9
    if not len(graph.junctions_um):
        assert graph.branch_length_um.sum() == pytest.approx(graph.length_um)
    assert (graph.tortuosity >= 1).all()
    assert (graph.branch_length_um > 0).all()


@settings(deadline=None, max_examples=50)
@given(masks, st.permutations([0, 1, 2]))
def test_turning_the_volume_changes_nothing_of_the_length(mask: BoolArray, axes: list[int]) -> None:
    spacing_um = (3.0, 2.0, 1.0)
    turned = skeleton_graph(np.transpose(mask, axes), tuple(spacing_um[a] for a in axes))  # type: ignore[arg-type]
    graph = skeleton_graph(mask, spacing_um)
    assert turned.length_um == pytest.approx(graph.length_um)
    assert len(turned.junctions_um) == len(graph.junctions_um)


def test_the_length_of_a_cluster_is_shared_by_all_its_voxels() -> None:
    """A square of four voxels: three of its four sides are kept, which one is lost has no part."""
    square = drawn((1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 1))
    graph = skeleton_graph(square, (1.0, 1.0, 1.0))
    assert graph.length_um == pytest.approx(3.0)
    assert graph.voxel_length_um.tolist() == pytest.approx([0.75] * 4)


@settings(deadline=None, max_examples=50)
@given(masks, st.permutations([0, 1, 2]), st.booleans())
def test_turning_the_volume_moves_the_length_of_each_voxel(
    mask: BoolArray, axes: list[int], mirrored: bool
) -> None:
    def by_voxel(one: BoolArray) -> BoolArray:
        graph = skeleton_graph(one, (1.0, 1.0, 1.0))
        lengths = np.zeros(one.shape)
        lengths[tuple(graph.voxels.T)] = graph.voxel_length_um
        return lengths  # type: ignore[return-value]

    def turned(one: BoolArray) -> BoolArray:
        other = np.transpose(one, axes)
        return other[::-1] if mirrored else other

    np.testing.assert_allclose(by_voxel(turned(mask)), turned(by_voxel(mask)), atol=1e-12)
    first, second = (skeleton_graph(one, (1.0, 1.0, 1.0)) for one in (mask, turned(mask)))
    assert sorted(first.tortuosity) == pytest.approx(sorted(second.tortuosity))


def test_loops_of_the_mask_are_loops_of_the_graph() -> None:
    """Branches - junctions - free ends + components = loops, where branches end in junctions."""
    x, y, z = np.meshgrid(*[np.arange(31) - 15] * 3, indexing="ij")
    torus = (np.hypot(x, y) - 9) ** 2 + z**2 <= 3**2
    mask = torus | ((np.abs(y) <= 1) & (np.abs(z) <= 1) & (np.abs(x) <= 9))
    graph = skeleton_graph(skeleton(mask), (1.0, 1.0, 1.0))
    assert (graph.branch_length_um.size, len(graph.junctions_um)) == (3, 2)
    assert ndimage.label(skeleton(mask), np.ones((3, 3, 3)))[1] == 1


def test_spacing_must_be_usable() -> None:
    with pytest.raises(MinivessError) as caught:
        skeleton_graph(drawn((1, 1, 1)), (1.0, 0.0, 1.0))
    assert caught.value.code == "MV-DATA-009"
