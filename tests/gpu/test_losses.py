"""Losses on a GPU: those of the CPU, and the same bytes in every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from loss_inputs import needed

from minivess.config.schema import LossConfig
from minivess.losses import LOSSES, build_loss

if TYPE_CHECKING:
    import torch

SHAPE = (40, 36, 12)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and label of two samples with thick and thin tubes."""
    import torch

    rng = np.random.default_rng(0)
    label = np.zeros((2, 1, *SHAPE), dtype=np.uint8)
    label[0, 0, 8:17, 9:18, :] = 1
    label[0, 0, 30, :, 5] = 1
    label[1, 0, :, 20:23, 4:7] = 1
    logits = rng.normal(0, 1, (2, 2, *SHAPE)) + 2.0 * np.concatenate([1.0 - label, label], axis=1)
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(label)


def value_and_gradient(name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    logits, label = inputs()
    more = {key: value.to(device) for key, value in needed(name, label, (1.0, 1.0, 5.0)).items()}
    leaf = logits.to(device).requires_grad_()
    value = build_loss(name, LossConfig(skeleton_iterations=3))(leaf, label.to(device), **more)
    value.backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    return value.detach().cpu(), leaf.grad.cpu()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_it_is_the_loss_of_the_cpu(name: str, gpu: torch.device) -> None:
    import torch

    value, gradient = value_and_gradient(name, gpu)
    expected, its_gradient = value_and_gradient(name, torch.device("cpu"))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    scale = its_gradient.abs().max()
    assert float((gradient - its_gradient).abs().max() / scale) < 1e-4


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_it_has_the_same_bytes_every_time(name: str, gpu: torch.device) -> None:
    import torch

    value, gradient = value_and_gradient(name, gpu)
    for _ in range(3):
        again, its_gradient = value_and_gradient(name, gpu)
        assert torch.equal(value, again)
        assert torch.equal(gradient, its_gradient)
