"""Skeleton recall, against the formula written out voxel by voxel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage

from minivess.config.training import LossConfig
from minivess.data.skeletons import tubed_skeleton
from minivess.losses import build_loss

if TYPE_CHECKING:
    from minivess.types import Array

SHAPE = (14, 12, 8)


def vessels(seed: int, count: int = 2) -> Array:
    """Labels (B, 1, x, y, z) of smooth blobs."""
    noise = np.random.default_rng(seed).normal(size=(count, 1, *SHAPE))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2, 1))
    return (smooth > np.quantile(smooth, 0.6)).astype(np.uint8)


def case(seed: int) -> tuple[Array, Array, Array]:
    """Logits, label and its tubed skeleton."""
    label = vessels(seed)
    logits = np.random.default_rng(seed).normal(0, 2, (2, 2, *SHAPE)).astype(np.float32)
    tube = np.array([[tubed_skeleton(sample[0] > 0)] for sample in label]).astype(np.uint8)
    return logits, label, tube


def by_hand(logits: Array, tube: Array) -> float:
    """One voxel after the other, in double precision."""
    losses = []
    for (background, vessel), (skeleton,) in zip(logits.astype(float), tube, strict=True):
        found, there = 0.0, 0
        for place in zip(*np.nonzero(skeleton), strict=True):
            there += 1
            found += 1.0 / (1.0 + math.exp(background[place] - vessel[place]))
        losses.append(1.0 - (found + 1e-5) / (there + 1e-5))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_formula(seed: int) -> None:
    import torch

    logits, label, tube = (torch.from_numpy(array) for array in case(seed))
    expected = by_hand(logits.numpy(), tube.numpy())
    assert 0.1 < expected < 0.9
    found = build_loss("skeleton_recall", LossConfig())(logits, label, skeleton=tube)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    # The paper's whole loss: three terms of equal weight.
    main = build_loss("dice_ce", LossConfig())(logits, label).item()
    both = build_loss("dice_ce_skeleton_recall", LossConfig())(logits, label, skeleton=tube)
    assert both.item() == pytest.approx(main + expected, abs=1e-6)


def test_the_gradient_is_that_of_the_formula() -> None:
    import torch

    logits, label, tube = (torch.from_numpy(array) for array in case(5))
    wide = logits.double().requires_grad_()
    loss = build_loss("skeleton_recall", LossConfig())
    leaf = logits.clone().requires_grad_()
    loss(leaf, label, skeleton=tube).backward()
    p = torch.softmax(wide, dim=1)[:, 1:].detach()
    count = tube.sum((1, 2, 3, 4), keepdim=True).double() + 1e-5
    expected = -tube.double() * p * (1 - p) / count / len(tube)
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad[:, 1:], expected, atol=1e-8)
    np.testing.assert_allclose(leaf.grad[:, :1], -expected, atol=1e-8)
    assert expected.abs().sum() > 0


def test_samples_without_a_skeleton_say_nothing_and_change_no_other() -> None:
    import torch

    logits, label, tube = (torch.from_numpy(array) for array in case(3))
    loss = build_loss("skeleton_recall", LossConfig())
    one = loss(logits[:1], label[:1], skeleton=tube[:1])
    tube[1] = 0
    leaf = logits.clone().requires_grad_()
    both = loss(leaf, label, skeleton=tube)
    both.backward()
    assert both.item() == pytest.approx(one.item() / 2)
    assert leaf.grad is not None
    assert not leaf.grad[1].any()
    assert leaf.grad[0].any()


def test_it_is_computed_in_float32_under_autocast() -> None:
    import torch

    logits, label, tube = (torch.from_numpy(array) for array in case(4))
    half = logits.bfloat16()
    for name in ("skeleton_recall", "dice_ce_skeleton_recall"):
        loss = build_loss(name, LossConfig())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(half, label, skeleton=tube)
        assert found.dtype == torch.float32
        assert torch.equal(found, loss(half.float(), label, skeleton=tube))
