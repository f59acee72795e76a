"""Losses of distances, against distances found by trying every pair of voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minivess.config.schema import LossConfig
from minivess.losses import build_loss
from minivess.types import Array

CONFIG = LossConfig(boundary_weight=0.3)


def nearest(mask: Array) -> Array:
    """Distance of every voxel to the nearest one of a mask."""
    targets = np.argwhere(mask)
    voxels = itertools.product(*(range(n) for n in mask.shape))
    found = [np.sqrt(((targets - np.array(v)) ** 2).sum(axis=1)).min() for v in voxels]
    return np.array(found).reshape(mask.shape)


def random_case(seed: int) -> tuple[Array, Array, Array]:
    """Logits, label and vessel probability (B, x, y, z)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, 2, 6, 5, 4)).astype(np.float32)
    label = (rng.random((2, 1, 6, 5, 4)) < 0.3).astype(np.uint8)
    wide = logits.astype(np.float64)
    return logits, label, 1 / (1 + np.exp(wide[:, 0] - wide[:, 1]))


def value(name: str, logits: Array, label: Array) -> float:
    import torch

    return build_loss(name, CONFIG)(torch.from_numpy(logits), torch.from_numpy(label)).item()


def boundary_by_hand(label: Array, probability: Array) -> float:
    terms = []
    for t, p in zip(label[:, 0] > 0, probability, strict=True):
        terms.append(p * np.where(t, -(nearest(~t) - 1), nearest(t)))
    return float(np.mean(terms))


@pytest.mark.parametrize("seed", range(3))
def test_boundary_is_the_formula(seed: int) -> None:
    logits, label, probability = random_case(seed)
    expected = boundary_by_hand(label, probability)
    assert value("boundary", logits, label) == pytest.approx(expected, abs=1e-5)
    both = value("generalized_dice", logits, label) + 0.3 * expected
    assert value("generalized_dice_boundary", logits, label) == pytest.approx(both, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_hausdorff_dt_is_the_formula(seed: int) -> None:
    logits, label, probability = random_case(seed)
    terms = []
    for t, p in zip(label[:, 0] > 0, probability, strict=True):
        ours = p > 0.5
        near = np.where(t, nearest(~t), nearest(t)), np.where(ours, nearest(~ours), nearest(ours))
        terms.append((p - t) ** 2 * (near[0] ** 2 + near[1] ** 2))
    assert value("hausdorff_dt", logits, label) == pytest.approx(float(np.mean(terms)), abs=1e-4)


def test_a_plane_by_hand() -> None:
    import torch

    from minivess.losses.boundary import signed_distance

    label = torch.zeros(1, 1, 5, 1, 1)
    label[:, :, :3] = 1
    assert signed_distance(label).ravel().tolist() == [-2, -1, 0, 1, 2]
