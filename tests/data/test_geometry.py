"""Geometry: physical spacing, LPS and RAS, and which grids are the same."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from scipy.spatial.transform import Rotation

from minivess.data.geometry import (
    Geometry,
    corner_shift_voxels,
    diagonal_affine,
    lps_affine,
    same_grid,
)

SHAPE = (40, 30, 12)
spacings = st.tuples(*[st.floats(0.1, 20)] * 3)
angles = st.tuples(*[st.floats(-180, 180)] * 3)
origins = st.tuples(*[st.floats(-500, 500)] * 3)


def ras_to_lps(affine):
    """Direction, spacing and origin as ITK has them, the way back from `lps_affine`."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return lps[:3, :3] / spacing, spacing, lps[:3, 3]


def rotated(spacing: tuple[float, ...], degrees: tuple[float, ...], origin: tuple[float, ...]):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    return affine


@settings(deadline=None)
@given(spacings, angles, origins)
def test_spacing_does_not_depend_on_orientation(spacing, degrees, origin):
    grid = Geometry(SHAPE, rotated(spacing, degrees, origin))
    np.testing.assert_allclose(grid.spacing_um, spacing, rtol=1e-9)


def test_millimetres_become_micrometres():
    grid = Geometry(SHAPE, diagonal_affine((0.001, 0.002, 0.005)), unit_um=1000.0)
    np.testing.assert_allclose(grid.spacing_um, (1.0, 2.0, 5.0))


def test_affine_is_a_copy_that_cannot_be_changed():
    affine = np.eye(4)
    grid = Geometry(SHAPE, affine)
    affine[0, 0] = 9.0
    assert grid.affine[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2.0


def test_wrong_affine_is_refused():
    with pytest.raises(ValueError, match="4 x 4"):
        Geometry(SHAPE, np.eye(3))


@settings(deadline=None)
@given(spacings, angles, origins)
def test_float32_header_noise_is_the_same_grid(spacing, degrees, origin):
    affine = rotated(spacing, degrees, origin)
    exact = Geometry(SHAPE, affine)
    noisy = Geometry(SHAPE, affine.astype(np.float32).astype(np.float64))
    assert same_grid(exact, noisy)


@pytest.mark.parametrize(
    "change",
    [
        diagonal_affine((0.995, 0.994, 5.0)),
        diagonal_affine((0.994, -0.994, 5.0)),
        diagonal_affine((0.994, 0.994, 5.0)) + np.eye(4, k=3) * 0.01,
        rotated((0.994, 0.994, 5.0), (0, 0, 1), (0, 0, 0)),
        diagonal_affine((0.0, 0.994, 5.0)),
    ],
    ids=["spacing", "flip", "shift of a hundredth of a voxel", "rotation", "no volume"],
)
def test_real_differences_are_another_grid(change):
    base = Geometry(SHAPE, diagonal_affine((0.994, 0.994, 5.0)))
    assert not same_grid(base, Geometry(SHAPE, change))


def test_other_shape_is_another_grid():
    assert not same_grid(Geometry(SHAPE, np.eye(4)), Geometry((40, 30, 13), np.eye(4)))


def test_unit_counts():
    um = Geometry(SHAPE, diagonal_affine((1.0, 1.0, 5.0)), 1.0)
    mm = Geometry(SHAPE, diagonal_affine((0.001, 0.001, 0.005)), 1000.0)
    assert same_grid(um, mm)
    assert not same_grid(um, Geometry(SHAPE, um.affine, 1000.0))


def test_shift_is_counted_in_voxels():
    base = Geometry(SHAPE, diagonal_affine((2.0, 2.0, 5.0)))
    moved = diagonal_affine((2.0, 2.0, 5.0))
    moved[0, 3] = 3.0
    assert corner_shift_voxels(base, Geometry(SHAPE, moved)) == pytest.approx(1.5)


@settings(deadline=None)
@given(spacings, angles, origins)
def test_lps_round_trip_and_simpleitk_agree(spacing, degrees, origin):
    affine = rotated(spacing, degrees, origin)
    direction, lengths, position = ras_to_lps(affine)
    np.testing.assert_allclose(lps_affine(direction, lengths, position), affine, atol=1e-9)
    image = sitk.Image(*SHAPE, sitk.sitkUInt8)
    image.SetSpacing(lengths.tolist())
    image.SetOrigin(position.tolist())
    image.SetDirection(direction.ravel().tolist())
    index = (3, 7, 2)
    lps = np.array(image.TransformIndexToPhysicalPoint(index))
    np.testing.assert_allclose((affine @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-6)
