from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from minivess.config.schema import LossConfig

if TYPE_CHECKING:
    import torch

    from minivess.types import Array

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason=f"no values of the authors' implementation at {REFERENCE}"
)
VALUES = ("cbdice_iter3", "cbdice_iter10")


def neighbours(voxel: tuple[int, int, int], shape: tuple[int, ...], *, corners: bool) -> list:
    """The voxel and its neighbours inside the volume: 6 across faces, or all 26."""
    found = []
    for step in itertools.product((-1, 0, 1), repeat=3):
        if not corners and sum(map(abs, step)) > 1:
            continue
        other = tuple(a + b for a, b in zip(voxel, step, strict=True))
        if all(0 <= a < n for a, n in zip(other, shape, strict=True)):
            found.append(other)
    return found


def pooled(volume: dict, shape: tuple[int, ...], choose: type | object, *, corners: bool) -> dict:
    return {
        voxel: choose(volume[other] for other in neighbours(voxel, shape, corners=corners))
        for voxel in volume
    }


def slow_skeleton(volume: dict, shape: tuple[int, ...], iterations: int) -> dict:
    """Algorithm 1 of the clDice paper, voxel by voxel."""

    def opened(values: dict) -> dict:
        return pooled(pooled(values, shape, min, corners=False), shape, max, corners=True)

    top = opened(volume)
    skeleton = {voxel: max(volume[voxel] - top[voxel], 0.0) for voxel in volume}
    for _ in range(iterations):
        volume = pooled(volume, shape, min, corners=False)
        top = opened(volume)
        for voxel, old in skeleton.items():
            ridge = max(volume[voxel] - top[voxel], 0.0)
            skeleton[voxel] = old + max(ridge - old * ridge, 0.0)
    return skeleton


def slow_weights(values: dict, skeleton: dict) -> tuple[dict, dict, dict]:
    """Distance weight of the mask, radius weight of the skeleton, inverse radius weight."""
    background = [voxel for voxel, value in values.items() if value <= 0.5]
    distance = {
        voxel: min(math.dist(voxel, other) for other in background) if value > 0.5 else 0.0
        for voxel, value in values.items()
    }
    radius = {v: distance[v] if skeleton[v] > 0.5 else 0.0 for v in values}
    largest = max(1.0, *radius.values())
    depth = {v: min(distance[v], largest) / largest * values[v] for v in values}
    ring = {v: radius[v] / largest * values[v] for v in values}
    thin = {
        v: ((largest - radius[v] + 1.0) / largest) ** 2 * skeleton[v] if skeleton[v] > 0.5 else 0.0
        for v in values
    }
    return depth, ring, thin


def slow_cbdice(probability: Array, label: Array, iterations: int) -> float:
    """cbDice of one volume, from the paper's definition, with nothing but loops."""
    shape = label.shape
    p = {voxel: float(probability[voxel]) for voxel in np.ndindex(*shape)}
    t = {voxel: float(label[voxel]) for voxel in np.ndindex(*shape)}
    hard = {voxel: 1.0 if value > 0.5 else 0.0 for voxel, value in p.items()}
    ours = {v: s * p[v] for v, s in slow_skeleton(hard, shape, iterations).items()}
    theirs = slow_skeleton(t, shape, iterations)
    depth_p, ring_p, thin_p = slow_weights(p, ours)
    depth_t, ring_t, thin_t = slow_weights(t, theirs)

    def ratio(thin: dict, depth: dict, own: dict, other: dict) -> float:
        above = sum(thin[v] * depth[v] for v in p)
        below = 0.0
        for v in p:
            # The radius is the other's where that has one; its own where it lies outside it.
            below += thin[v] * (own[v] if other[v] == 0.0 else other[v])
        return (above + 1.0) / (below + 1.0)

    precision, sensitivity = (
        ratio(thin_p, depth_t, ring_p, ring_t),
        ratio(thin_t, depth_p, ring_t, ring_p),
    )
    return 2.0 * precision * sensitivity / (precision + sensitivity)


def random_tube(seed: int) -> tuple[Array, Array]:
    """Logits and label of a small tube; the prediction is shifted, noisy and partly missing."""
    rng = np.random.default_rng(seed)
    x, y, z = np.mgrid[:11, :9, :7]
    radius = rng.uniform(1.2, 2.6)
    centre = rng.uniform(3.5, 5.0), rng.uniform(2.5, 3.5)
    away = np.hypot(y - centre[0] - 0.2 * (x - 5), z - centre[1])
    label = (away <= radius).astype(np.uint8)
    foreground = 2.5 * (radius - away) + rng.normal(0, 1.5, label.shape)
    foreground = np.roll(foreground, int(rng.integers(0, 2)), axis=1)
    logits = np.stack([-foreground / 2, foreground / 2]).astype(np.float32)
    return logits, label


def as_tensors(logits: Array, label: Array) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.from_numpy(logits)[None], torch.from_numpy(label)[None, None]


@pytest.mark.parametrize("seed", range(6))
def test_cbdice_is_the_papers(seed: int) -> None:
    from minivess.losses import build_loss

    logits, label = random_tube(seed)
    iterations = 2 + seed % 3
    probability = 1.0 / (1.0 + np.exp(logits[0].astype(float) - logits[1]))
    expected = slow_cbdice(probability, label, iterations)
    assert 0.2 < expected < 0.98, "a case that tells right from wrong"
    loss = build_loss("cbdice", LossConfig(skeleton_iterations=iterations))
    found = 1.0 - loss(*as_tensors(logits, label)).item()
    assert found == pytest.approx(expected, abs=1e-5)


def test_cbdice_of_two_straight_tubes_by_hand() -> None:
    import torch

    from minivess.losses.cbdice import radius_weights, soft_cbdice

    # Two parallel lines, one of half width 1, one of half width 3 (a square tube), along x.
    label = torch.zeros(1, 1, 6, 12, 9)
    label[..., :, 2, 4] = 1
    label[..., :, 6:11, 2:7] = 1
    skeleton = torch.zeros_like(label)
    skeleton[..., :, 2, 4] = 1
    skeleton[..., :, 8, 4] = 1
    depth, radius, thin = radius_weights(label, skeleton)
    assert radius[0, 0, 3, 2, 4].item() == pytest.approx(1 / 3)
    assert radius[0, 0, 3, 8, 4].item() == pytest.approx(1)
    assert depth[0, 0, 3, 7, 4].item() == pytest.approx(2 / 3)
    assert thin[0, 0, 3, 2, 4].item() == pytest.approx(1)
    assert thin[0, 0, 3, 8, 4].item() == pytest.approx((1 / 3) ** 2)
    # Only the thin line is found: precision 1, sensitivity by hand from six slices.
    probability = torch.zeros_like(label)
    probability[..., :, 2, 4] = 1
    ours = probability.clone()
    found = soft_cbdice(probability, label, (ours, skeleton), smooth=1.0)
    precision = (6 * 1 / 3 + 1) / (6 * 1 / 3 + 1)
    # The prediction's own largest radius is 1, so its depth is 1 on the line.
    sensitivity = (6 * 1 + 1) / (6 * (1 * 1 + (1 / 3) ** 2) + 1)
    assert found.item() == pytest.approx(2 * precision * sensitivity / (precision + sensitivity))


def test_cbdice_of_equal_masks_is_one() -> None:
    import torch

    from minivess.losses import build_loss

    for seed in range(3):
        label = torch.from_numpy(random_tube(seed)[1])[None, None]
        logits = torch.cat([-20.0 * (2.0 * label - 1), 20.0 * (2.0 * label - 1)], dim=1)
        assert build_loss("cbdice", LossConfig())(logits, label).item() == pytest.approx(
            0.0, abs=1e-6
        )


def test_the_sum_is_made_of_its_parts() -> None:
    from minivess.losses import build_loss
    from minivess.losses.cldice import soft_cldice, soft_skeleton

    config = LossConfig(skeleton_iterations=3)
    logits, label = as_tensors(*random_tube(1))
    probability, target = logits.softmax(1)[:, 1:], label.float()
    skeletons = soft_skeleton(probability, 3), soft_skeleton(target, 3)
    topology = 1.0 - soft_cldice(probability, target, skeletons, config.smooth).mean().item()
    expected = (
        0.5 * build_loss("cbdice", config)(logits, label).item()
        + 0.25 * build_loss("dice_ce", config)(logits, label).item()
        + 0.25 * topology
    )
    found = build_loss("cbdice_cldice", config)(logits, label).item()
    assert found == pytest.approx(expected, abs=1e-6)


def reference_case(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    with np.load(REFERENCE / "loss_cases.npz", allow_pickle=False) as arrays:
        logits = torch.from_numpy(arrays[f"{name}_logits"])
        label = torch.from_numpy(arrays[f"{name}_label"])[None, None]
    return logits, label


def reference_values(name: str) -> dict[str, float]:
    values = json.loads((REFERENCE / "loss_values.json").read_text(encoding="utf-8"))
    return dict(values[name])


@needs_reference
@pytest.mark.parametrize("name", ["case0", "case1", "case2"])
@pytest.mark.parametrize("key", VALUES)
def test_value_and_gradient_are_the_authors(name: str, key: str) -> None:
    from minivess.losses import build_loss

    logits, label = reference_case(name)
    logits.requires_grad_()
    iterations = int(key.removeprefix("cbdice_iter"))
    loss = build_loss("cbdice", LossConfig(skeleton_iterations=iterations))(logits, label)
    loss.backward()
    assert logits.grad is not None
    expected = reference_values(name)
    assert loss.item() - 1.0 == pytest.approx(expected[key], abs=1e-4)
    found = logits.grad.abs().sum().item()
    assert found == pytest.approx(expected[f"{key}_grad_l1"], abs=1e-4)


@needs_reference
@pytest.mark.parametrize("name", ["case0", "case1", "case2"])
def test_cldice_with_the_hard_skeleton_is_the_authors(name: str) -> None:
    from minivess.losses.cbdice import hard_skeleton
    from minivess.losses.cldice import soft_cldice, soft_skeleton

    logits, label = reference_case(name)
    probability, target = logits.softmax(1)[:, 1:], label.float()
    skeletons = hard_skeleton(probability, 10), soft_skeleton(target, 10)
    found = -soft_cldice(probability, target, skeletons, 1.0).item()
    assert found == pytest.approx(reference_values(name)["cldice_iter10"], abs=1e-4)
