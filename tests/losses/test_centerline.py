"""Centerline cross-entropy on masks whose skeletons are known."""

from __future__ import annotations

import math

import pytest
import torch

from minivess.config.schema import LossConfig
from minivess.losses import build_loss

CONFIG = LossConfig(skeleton_iterations=3)


def line(y: int) -> torch.Tensor:
    """A line one voxel thick, which is its own skeleton."""
    label = torch.zeros(1, 1, 9, 9, 5)
    label[..., 2:7, y, 2] = 1
    return label


def logits_of(mask: torch.Tensor, strength: float) -> torch.Tensor:
    sign = strength * (2 * mask - 1)
    return torch.cat([-sign, sign], dim=1)


def test_a_line_beside_the_label_by_hand() -> None:
    label, prediction = line(3), line(5)
    # On the label's line and on the predicted one the true class has probability 1 / (1 + e^8).
    entropy = math.log1p(math.exp(8.0))
    found = build_loss("centerline_ce", CONFIG)(logits_of(prediction, 4.0), label).item()
    assert found == pytest.approx(entropy * 10 / label.numel(), rel=5e-3)


def test_what_is_on_neither_skeleton_does_not_count() -> None:
    label = torch.zeros(1, 1, 9, 9, 5)
    label[..., 2:7, 3:6, 1:4] = 1  # a tube whose skeleton is on its axis
    missed = torch.zeros_like(label)
    missed[..., 2:7, 4, 2] = 1
    loss = build_loss("centerline_ce", CONFIG)
    thin, whole = loss(logits_of(missed, 9.0), label), loss(logits_of(label, 9.0), label)
    assert thin.item() == pytest.approx(whole.item(), abs=1e-5)
    assert loss(logits_of(line(0), 9.0), label) > 100 * thin


def test_with_dice_it_is_the_mean_of_both() -> None:
    label, logits = line(3), logits_of(line(4), 2.0)
    one, other, both = (
        build_loss(name, CONFIG)(logits, label).item()
        for name in ("dice", "centerline_ce", "dice_centerline_ce")
    )
    assert both == pytest.approx(0.5 * (one + other), abs=1e-6)
