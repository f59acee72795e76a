from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from loss_inputs import whole_loss

from minivess.config.schema import LossConfig

if TYPE_CHECKING:
    import torch

    from minivess.types import Array

pytestmark = pytest.mark.usefixtures("monai")


def random_case(seed: int, shape: tuple[int, ...] = (3, 6, 5, 4)) -> tuple[Array, Array]:
    """Logits (B, 2, x, y, z) and label (B, 1, x, y, z)."""
    rng = np.random.default_rng(seed)
    batch, *space = shape
    logits = rng.normal(0, 2, (batch, 2, *space)).astype(np.float32)
    return logits, (rng.random((batch, 1, *space)) < 0.3).astype(np.uint8)


def tensors(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    logits, label = random_case(seed)
    return torch.from_numpy(logits), torch.from_numpy(label)


def written_out(logits: Array, label: Array) -> float:
    """Dice of the vessel class, mean over samples, plus mean cross-entropy of both classes."""
    logits = logits.astype(np.float64)
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = exponent / exponent.sum(axis=1, keepdims=True)
    dice, entropy = [], []
    for sample in range(len(label)):
        p, t = probability[sample, 1], label[sample, 0].astype(np.float64)
        dice.append(1 - (2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5))
        entropy.append(-np.log(np.where(t == 1, p, probability[sample, 0])))
    return float(np.mean(dice) + np.mean(entropy))


@pytest.mark.parametrize("seed", range(4))
def test_dice_ce_is_the_formula(seed: int) -> None:
    from minivess.losses import build_loss

    found = build_loss("dice_ce", LossConfig())(*tensors(seed)).item()
    assert found == pytest.approx(written_out(*random_case(seed)), abs=1e-5)


def test_dice_ce_of_one_voxel_by_hand() -> None:
    import torch

    from minivess.losses import build_loss

    logits = torch.zeros(1, 2, 2, 1, 1)  # p = 0.5 for both voxels
    label = torch.tensor([1, 0], dtype=torch.uint8).reshape(1, 1, 2, 1, 1)
    found = build_loss("dice_ce", LossConfig())(logits, label).item()
    assert found == pytest.approx((1 - 2 * 0.5 / (1 + 1)) + np.log(2), abs=1e-4)


def test_dice_ce_is_monais_with_class_indices() -> None:
    import torch
    from monai.losses.dice import DiceCELoss

    from minivess.losses import build_loss

    logits, label = tensors(5)
    indices = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True)
    grads = []
    for criterion in (build_loss("dice_ce", LossConfig()), indices):
        leaf = logits.clone().requires_grad_()
        value = criterion(leaf, label)
        value.backward()
        grads.append((value.detach(), leaf.grad))
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-5)


def test_dice_ce_cldice_is_made_of_its_parts() -> None:
    from minivess.losses import build_loss
    from minivess.losses.cldice import soft_cldice, soft_skeleton

    config = LossConfig(skeleton_iterations=2, smooth=0.5)
    logits, label = tensors(6)
    probability, target = logits.softmax(1)[:, 1:], label.float()
    skeletons = soft_skeleton(probability, 2), soft_skeleton(target, 2)
    topology = 1.0 - soft_cldice(probability, target, skeletons, 0.5).mean().item()
    expected = 0.5 * written_out(*random_case(6)) + 0.5 * topology
    found = build_loss("dice_ce_cldice", config)(logits, label).item()
    assert found == pytest.approx(expected, abs=1e-5)


def test_no_operation_lacks_a_deterministic_cuda_kernel() -> None:
    from minivess.losses import LOSSES

    # torch.use_deterministic_algorithms documents these as errors on CUDA.
    refused = ("NllLoss", "AvgPool3D", "AdaptiveAvgPool", "UpsampleTrilinear", "MaxUnpool")
    for name in LOSSES:
        logits, label = tensors(7)
        loss = whole_loss(name, LossConfig())(logits.requires_grad_(), label)
        todo, seen = [loss.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            assert not node.name().startswith(refused), (name, node.name())
            todo += [parent for parent, _ in node.next_functions]
        assert len(seen) >= 5
