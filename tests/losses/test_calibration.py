"""hL1-ACE against NumPy's histogram, and its gradient by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minivess.config.schema import LossConfig
from minivess.losses import build_loss
from minivess.losses.calibration import hard_l1_ace
from minivess.types import Array


def by_histogram(probability: Array, target: Array, bins: int) -> float:
    errors = []
    for p, t in zip(probability, target, strict=True):
        count, _ = np.histogram(p, bins, (0, 1))
        sums = [np.histogram(p, bins, (0, 1), weights=w)[0] for w in (p, t)]
        gap = np.abs(sums[0] - sums[1])[count > 0] / count[count > 0]
        errors.append(gap.mean())
    return float(np.mean(errors))


@pytest.mark.parametrize("bins", [1, 5, 20])
def test_it_is_what_a_histogram_gives(bins: int) -> None:
    rng = np.random.default_rng(bins)
    p, t = rng.random((3, 2, 400)), (rng.random((3, 2, 400)) < 0.4).astype(float)
    expected = by_histogram(p.reshape(6, -1), t.reshape(6, -1), bins)
    found = hard_l1_ace(torch.from_numpy(p).float(), torch.from_numpy(t).float(), bins)
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_edges_belong_to_the_bin_below() -> None:
    p, t = torch.tensor([[[0.0, 0.5, 1.0]]]), torch.tensor([[[0.0, 1.0, 1.0]]])
    # Bins (0, 0.5] with 0 and 0.5, (0.5, 1] with 1: |0.5 - 1| / 2 and 0.
    assert hard_l1_ace(p, t, 2).item() == pytest.approx(0.125)


def test_the_gradient_pulls_each_bin_to_its_frequency() -> None:
    p = torch.tensor([[[0.1, 0.2, 0.9, 0.8]]], requires_grad=True)
    hard_l1_ace(p, torch.tensor([[[1.0, 1.0, 0.0, 1.0]]]), 2).backward()
    assert p.grad is not None
    assert p.grad.ravel().tolist() == pytest.approx([-0.25, -0.25, 0.25, 0.25])


def test_it_is_added_to_dice_ce_with_its_weight() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 6, 4, generator=rng)
    label = (torch.rand(2, 1, 6, 6, 4, generator=rng) < 0.3).float()
    values = [
        build_loss("dice_ce_hl1ace", LossConfig(ace_weight=weight))(logits, label).item()
        for weight in (1.0, 3.0)
    ]
    main = build_loss("dice_ce", LossConfig())(logits, label).item()
    assert values[1] - main == pytest.approx(3 * (values[0] - main), rel=1e-4)
    assert values[0] > main
