"""Losses of overlap and of voxels, against their papers' formulas written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from minivess.config.schema import LossConfig
from minivess.losses import build_loss
from minivess.types import Array

CONFIG = LossConfig(tversky_alpha=0.2, tversky_beta=0.9, focal_gamma=1.5)


def random_case(seed: int) -> tuple[Array, Array, Array]:
    """Logits (B, 2, x, y, z), label (B, 1, x, y, z) and the vessel probability (B, n)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (3, 2, 6, 5, 4)).astype(np.float32)
    label = (rng.random((3, 1, 6, 5, 4)) < 0.3).astype(np.uint8)
    wide = logits.astype(np.float64)
    probability = 1 / (1 + np.exp(wide[:, 0] - wide[:, 1]))
    return logits, label, probability.reshape(3, -1)


def dice(p: Array, t: Array) -> float:
    return float(1 - 2 * (p * t).sum() / (p.sum() + t.sum()))


def tversky(p: Array, t: Array) -> float:
    hit = (p * t).sum()
    return float(1 - hit / (hit + 0.2 * (p * (1 - t)).sum() + 0.9 * ((1 - p) * t).sum()))


def generalized_dice(p: Array, t: Array) -> float:
    both = [(1 - p, 1 - t), (p, t)]
    weights = [1 / r.sum() ** 2 for _, r in both]
    above = sum(w * (q * r).sum() for w, (q, r) in zip(weights, both, strict=True))
    below = sum(w * (q.sum() + r.sum()) for w, (q, r) in zip(weights, both, strict=True))
    return float(1 - 2 * above / below)


def focal(p: Array, t: Array) -> float:
    true = np.where(t == 1, p, 1 - p)
    return float(np.mean(-((1 - true) ** 1.5) * np.log(true))) / 2


@pytest.mark.parametrize("formula", [dice, tversky, generalized_dice, focal])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_formula(formula: object, seed: int) -> None:
    import torch

    assert callable(formula)
    logits, label, probability = random_case(seed)
    loss = build_loss(formula.__name__, CONFIG)
    found = loss(torch.from_numpy(logits), torch.from_numpy(label)).item()
    flat = label.reshape(3, -1).astype(np.float64)
    expected = np.mean([formula(p, t) for p, t in zip(probability, flat, strict=True)])
    assert found == pytest.approx(expected, abs=2e-5)


def test_tversky_with_equal_weights_is_dice() -> None:
    import torch

    logits, label, _ = random_case(7)
    case = torch.from_numpy(logits), torch.from_numpy(label)
    equal = build_loss("tversky", LossConfig(tversky_alpha=0.5, tversky_beta=0.5))(*case)
    assert equal.item() == pytest.approx(build_loss("dice", CONFIG)(*case).item(), abs=1e-5)


def test_focal_without_focus_is_half_the_cross_entropy() -> None:
    import torch

    logits, label, _ = random_case(8)
    case = torch.from_numpy(logits), torch.from_numpy(label)
    entropy = torch.nn.functional.cross_entropy(case[0], case[1][:, 0].long())
    found = build_loss("focal", LossConfig(focal_gamma=0.0))(*case)
    assert found.item() == pytest.approx(entropy.item() / 2, abs=1e-6)
