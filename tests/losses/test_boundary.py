"""Losses of distances, against distances found by trying every pair of voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from loss_inputs import whole_loss

from minivess.config.schema import LossConfig
from minivess.losses import build_loss
from minivess.types import Array, Spacing

CONFIG = LossConfig(boundary_weight=0.3)
CUBES: Spacing = (1.0, 1.0, 1.0)


def nearest(mask: Array, steps: Spacing = CUBES) -> Array:
    """Distance of every voxel to the nearest one of a mask; how long a step along each axis is."""
    targets = np.argwhere(mask)
    voxels = itertools.product(*(range(n) for n in mask.shape))
    found = [
        np.sqrt((((targets - np.array(v)) * np.array(steps)) ** 2).sum(axis=1)).min()
        for v in voxels
    ]
    return np.array(found).reshape(mask.shape)


def random_case(seed: int) -> tuple[Array, Array, Array]:
    """Logits, label and vessel probability (B, x, y, z)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, 2, 6, 5, 4)).astype(np.float32)
    label = (rng.random((2, 1, 6, 5, 4)) < 0.3).astype(np.uint8)
    wide = logits.astype(np.float64)
    return logits, label, 1 / (1 + np.exp(wide[:, 0] - wide[:, 1]))


def value(name: str, logits: Array, label: Array, spacing: Spacing = CUBES) -> float:
    import torch

    loss = whole_loss(name, CONFIG, spacing)
    return loss(torch.from_numpy(logits), torch.from_numpy(label)).item()


def boundary_by_hand(label: Array, probability: Array, steps: Spacing = CUBES) -> float:
    terms = []
    for t, p in zip(label[:, 0] > 0, probability, strict=True):
        terms.append(p * np.where(t, -(nearest(~t, steps) - 1), nearest(t, steps)))
    return float(np.mean(terms))


@pytest.mark.parametrize(
    ("spacing", "steps"),
    [
        (CUBES, CUBES),
        ((3.0, 2.0, 1.0), (3.0, 2.0, 1.0)),
        ((0.5, 0.5, 2.5), (1.0, 1.0, 5.0)),
        ((0.25, 0.25, 0.25), CUBES),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(2))
def test_boundary_is_the_formula(seed: int, spacing: Spacing, steps: Spacing) -> None:
    logits, label, probability = random_case(seed)
    expected = boundary_by_hand(label, probability, steps)
    assert value("boundary", logits, label, spacing) == pytest.approx(expected, abs=1e-5)
    both = value("generalized_dice", logits, label) + 0.3 * expected
    found = value("generalized_dice_boundary", logits, label, spacing)
    assert found == pytest.approx(both, abs=1e-5)


def test_each_sample_has_its_own_spacing() -> None:
    import torch

    logits, label, probability = random_case(4)
    spacings: list[Spacing] = [(3.0, 2.0, 1.0), (2.0, 2.0, 2.0)]
    loss = build_loss("boundary", CONFIG)
    found = loss(torch.from_numpy(logits), torch.from_numpy(label), torch.tensor(spacings)).item()
    alone = [
        boundary_by_hand(label[n : n + 1], probability[n : n + 1], steps)
        for n, steps in enumerate(((3.0, 2.0, 1.0), CUBES))
    ]
    assert found == pytest.approx(float(np.mean(alone)), abs=1e-5)


def test_the_size_of_cubic_voxels_changes_no_bit() -> None:
    import torch
    from scipy import ndimage

    from minivess.losses.boundary import signed_distance

    _, label, _ = random_case(0)
    for size in (0.497, 1.0, 7.0):
        found = signed_distance(torch.from_numpy(label), torch.full((2, 3), size))
        for sample, mask in zip(found[:, 0], label[:, 0] > 0, strict=True):
            inside = ndimage.distance_transform_edt(mask)
            expected = ndimage.distance_transform_edt(~mask) - np.maximum(inside - 1.0, 0.0)
            np.testing.assert_array_equal(sample, expected.astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_hausdorff_dt_is_the_formula(seed: int) -> None:
    logits, label, probability = random_case(seed)
    terms = []
    for t, p in zip(label[:, 0] > 0, probability, strict=True):
        ours = p > 0.5
        near = np.where(t, nearest(~t), nearest(t)), np.where(ours, nearest(~ours), nearest(ours))
        terms.append((p - t) ** 2 * (near[0] ** 2 + near[1] ** 2))
    assert value("hausdorff_dt", logits, label) == pytest.approx(float(np.mean(terms)), abs=1e-4)


def test_hausdorff_dt_counts_voxels_whatever_the_spacing() -> None:
    from minivess.losses import needs_of

    assert not needs_of("hausdorff_dt")
    # Turned onto its side, a patch has the same value: no axis is longer than another.
    logits, label, _ = random_case(1)
    turned = logits.transpose(0, 1, 4, 3, 2), label.transpose(0, 1, 4, 3, 2)
    copies = [np.ascontiguousarray(array) for array in turned]
    expected = value("hausdorff_dt", logits, label)
    assert value("hausdorff_dt", copies[0], copies[1]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [(2, [-8, -5, -2, 3, 6]), (3, [-5, -3, -1, 2, 4]), (4, [-2, -1, 0, 1, 2])],
)
def test_a_plane_by_hand(axis: int, expected: list[int]) -> None:
    import torch

    from minivess.losses.boundary import signed_distance

    label = torch.zeros(1, 1, 5, 1, 1)
    label[:, :, :3] = 1
    along = label.transpose(2, axis)
    found = signed_distance(along, torch.tensor([[3.0, 2.0, 1.0]]))
    assert found.ravel().tolist() == expected
