from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.schema import ModelConfig
from minivess.models import build_adapter
from minivess.models.dynunet import kernels_and_strides
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    import torch

    from minivess.types import Shape, Spacing

FLAT, FULL = (3, 3, 1), (3, 3, 3)


@pytest.mark.parametrize(
    ("spacing", "kernels", "strides"),
    [
        ((1.0, 1.0, 1.0), [FULL] * 4, [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
        # 5, then 2.5 times as coarse along z, then even
        ((1.0, 1.0, 5.0), [FLAT, FLAT, FULL, FULL], [(1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)]),
        ((0.99, 0.99, 5.0), [FLAT, FLAT, FULL, FULL], [(1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)]),
        # exactly twice as coarse is twice as coarse
        ((1.0, 1.0, 2.0), [FLAT, FULL, FULL, FULL], [(1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)]),
        ((2.48, 2.48, 5.0), [FLAT, FULL, FULL, FULL], [(1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)]),
        ((4.97, 4.97, 5.0), [FULL] * 4, [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
        # the coarse axis may be another one
        ((3.0, 1.0, 1.0), [(1, 3, 3), FULL, FULL], [(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
    ],
)
def test_kernels_and_strides_by_hand(
    spacing: Spacing, kernels: list[Shape], strides: list[Shape]
) -> None:
    assert kernels_and_strides(spacing, len(kernels)) == (kernels, strides)


@settings(deadline=None, max_examples=100)
@given(st.tuples(*[st.floats(0.1, 20.0)] * 3), st.integers(3, 6))
def test_pooling_never_makes_the_spacing_less_even(spacing: Spacing, levels: int) -> None:
    kernels, strides = kernels_and_strides(spacing, levels)
    assert strides[0] == (1, 1, 1)
    current = np.array(spacing)
    for kernel, stride in zip(kernels, strides, strict=True):
        before = current.max() / current.min()
        current = current * stride
        assert current.max() / current.min() <= max(before, 2.0) + 1e-9
        assert kernel[int(np.argmin(current))] == 3
    assert all(max(stride) == 2 for stride in strides[1:])


@pytest.mark.parametrize(
    ("spacing", "levels", "divisor"),
    [((1.0, 1.0, 1.0), 3, (4, 4, 4)), ((1.0, 1.0, 5.0), 4, (8, 8, 2)), ((3.0, 1, 1), 3, (2, 4, 4))],
)
def test_the_patch_divisor_is_the_product_of_the_strides(
    spacing: Spacing, levels: int, divisor: Shape
) -> None:
    config = ModelConfig(filters=(4, 8, 8, 8)[:levels])
    assert build_adapter(config, spacing).patch_divisor() == divisor


def tiny(deep_supervision: bool, filters: tuple[int, ...] = (4, 8, 8)) -> ModelConfig:
    return ModelConfig(filters=filters, deep_supervision=deep_supervision)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0), (3.0, 1.0, 1.0)])
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_shapes_in_training_and_evaluation(spacing: Spacing, deep_supervision: bool) -> None:
    import torch

    adapter = build_adapter(tiny(deep_supervision), spacing)
    network = adapter.build()
    size = tuple(2 * step for step in adapter.patch_divisor())
    image = torch.zeros(2, 1, *size)
    heads = adapter.heads(network.train()(image))
    assert len(heads) == (2 if deep_supervision else 1)
    assert all(head.shape == (2, 2, *size) for head in heads)
    with torch.no_grad():
        assert network.eval()(image).shape == (2, 2, *size)


@pytest.mark.parametrize(("filters", "count"), [((4, 8, 8), 2), ((4, 8, 8, 8), 3)])
def test_every_head_is_another_level_and_gets_a_gradient(
    filters: tuple[int, ...], count: int
) -> None:
    import torch

    adapter = build_adapter(tiny(True, filters), (1.0, 1.0, 1.0))
    with torch_seeded(0, "test"):
        network = adapter.build().train()
        image = torch.randn(1, 1, 16, 16, 16)
    heads = adapter.heads(network(image))
    assert len(heads) == count
    trained: list[set[str]] = []
    for head in heads:
        network.zero_grad(set_to_none=True)
        head.square().mean().backward(retain_graph=True)
        grads = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        trained.append({name for name, grad in grads.items() if grad.abs().sum() > 0})
    # A coarser head trains fewer of the decoder's levels, and an output of its own.
    assert all(len(fewer) < len(more) for more, fewer in itertools.pairwise(trained))
    for index, names in enumerate(trained):
        own = names - set().union(*(other for at, other in enumerate(trained) if at != index))
        assert own, f"head {index} has weights that only it trains"
    assert set().union(*trained) == {name for name, _ in network.named_parameters()}


def blockiness(head: torch.Tensor, step: int) -> bool:
    """Whether a map is constant over cubes of a side."""
    small = head[..., ::step, ::step, ::step]
    grown = small
    for axis in (2, 3, 4):
        grown = grown.repeat_interleave(step, dim=axis)
    import torch

    return bool(torch.equal(grown, head))


def test_heads_come_finest_first() -> None:
    import torch

    adapter = build_adapter(tiny(True, (4, 8, 8, 8)), (1.0, 1.0, 1.0))
    with torch_seeded(0, "test"):
        network = adapter.build().train()
        heads = adapter.heads(network(torch.randn(1, 1, 16, 16, 16)))
    assert [blockiness(head, 2) for head in heads] == [False, True, True]
    assert [blockiness(head, 4) for head in heads] == [False, False, True]


def test_the_record_says_what_was_derived() -> None:
    adapter = build_adapter(tiny(False), (1.0, 1.0, 5.0))
    assert adapter.describe() == {
        "arch_kernels": "3x3x1 3x3x1 3x3x3",
        "arch_strides": "1x1x1 2x2x1 2x2x1",
    }
