from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from minivess.errors import MinivessError
from minivess.metrics.topology import (
    betti_errors,
    betti_numbers,
    euler_characteristic,
    topology_values,
)
from minivess.seeding import generator
from minivess.types import BoolArray

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6))


def gudhi_betti_numbers(mask: BoolArray) -> tuple[int, int, int]:
    """Homology of the union of closed voxels, computed from a cubical complex."""
    import gudhi  # type: ignore[import-untyped]

    complex_ = gudhi.CubicalComplex(top_dimensional_cells=np.where(mask, 0.0, 1.0))
    complex_.compute_persistence()
    numbers = [int(n) for n in complex_.persistent_betti_numbers(0.0, 0.5)]
    return (numbers[0], numbers[1], numbers[2])


def grid(size: int = 25) -> tuple[np.ndarray, ...]:
    return np.meshgrid(*[np.arange(size) - size // 2] * 3, indexing="ij")


def ball(radius: float) -> BoolArray:
    x, y, z = grid()
    return np.asarray(x**2 + y**2 + z**2 <= radius**2)


def solid_torus() -> BoolArray:
    x, y, z = grid()
    return np.asarray((np.hypot(x, y) - 7) ** 2 + z**2 <= 3**2)


def torus_surface() -> BoolArray:
    return solid_torus() & ~ndimage.binary_erosion(solid_torus(), np.ones((3, 3, 3), dtype=bool))


def two_tubes() -> BoolArray:
    _, y, z = grid()
    return np.asarray((np.hypot(y - 6, z) <= 2) | (np.hypot(y + 6, z) <= 2))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (ball(8), (1, 0, 0)),
        (ball(8) & ~ball(4), (1, 0, 1)),
        (solid_torus(), (1, 1, 0)),
        (torus_surface(), (1, 2, 1)),
        (two_tubes(), (2, 0, 0)),
        (np.zeros((3, 3, 3), dtype=bool), (0, 0, 0)),
        (np.ones((3, 3, 3), dtype=bool), (1, 0, 0)),
    ],
    ids=["ball", "hollow ball", "torus", "torus surface", "two tubes", "nothing", "everything"],
)
def test_known_shapes(mask: BoolArray, expected: tuple[int, int, int]) -> None:
    assert betti_numbers(mask) == expected


def test_voxels_that_touch_at_a_corner_are_one_component() -> None:
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert betti_numbers(mask) == (1, 0, 0)


def test_background_does_not_leak_through_a_corner() -> None:
    mask = np.ones((3, 3, 3), dtype=bool)
    mask[1, 1, 1] = mask[0, 0, 0] = False
    assert betti_numbers(mask) == (1, 0, 1)


def test_a_ring_that_leaves_the_volume_is_open_there() -> None:
    ring = np.zeros((5, 5, 1), dtype=bool)
    ring[:, 0] = ring[:, 4] = ring[0] = ring[4] = True
    assert betti_numbers(ring) == (1, 1, 0)
    assert betti_numbers(ring[1:]) == (1, 0, 0)


@settings(deadline=None, max_examples=200)
@given(masks)
def test_equal_to_persistent_homology(mask: BoolArray) -> None:
    assert betti_numbers(mask) == gudhi_betti_numbers(mask)


@settings(deadline=None, max_examples=200)
@given(masks)
def test_euler_characteristic_is_scikit_images(mask: BoolArray) -> None:
    from skimage.measure import euler_number

    expected = euler_number(np.pad(mask, 1), connectivity=3)  # type: ignore[no-untyped-call]
    assert euler_characteristic(mask) == expected


def test_values_of_both_masks_and_their_differences() -> None:
    values = topology_values(betti_numbers(torus_surface()), betti_numbers(two_tubes()))
    assert [values[name] for name in ("betti0", "betti1", "betti2", "euler")] == [1, 2, 1, 0]
    errors = [values[f"{name}_error"] for name in ("betti0", "betti1", "betti2", "euler")]
    assert errors == [1, 2, 1, 2]


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.9])
def test_equal_to_persistent_homology_on_larger_masks(density: float) -> None:
    mask = generator(0, "test-topology").random((20, 18, 12)) < density
    assert betti_numbers(mask) == gudhi_betti_numbers(mask)


@settings(deadline=None)
@given(masks, st.tuples(*[st.integers(0, 2)] * 6))
def test_place_in_the_volume_does_not_matter(mask: BoolArray, margin: tuple[int, ...]) -> None:
    moved = np.pad(mask, np.reshape(margin, (3, 2)))
    assert betti_numbers(moved) == betti_numbers(mask)


def test_errors_are_absolute_differences() -> None:
    torus, tubes = solid_torus(), two_tubes()
    assert betti_errors(torus, tubes) == betti_errors(tubes, torus) == (1, 1)
    assert betti_errors(torus, np.zeros_like(torus)) == (1, 1)
    assert betti_errors(torus, torus) == (0, 0)


def test_shapes_must_agree() -> None:
    with pytest.raises(MinivessError) as caught:
        betti_errors(np.ones((2, 2, 2), dtype=bool), np.ones((2, 2, 3), dtype=bool))
    assert caught.value.code == "MV-DATA-004"
