"""What every network of the registry promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from minivess.config.schema import LossConfig, ModelConfig
from minivess.errors import MinivessError
from minivess.losses import build_loss
from minivess.models import ADAPTERS, build_adapter
from minivess.models.weights import load_weights, weights_of
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from minivess.models.adapter import ModelAdapter

SPACING = (1.0, 1.0, 5.0)


@pytest.fixture(params=sorted(ADAPTERS))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return ModelConfig(architecture=request.param, filters=(4, 8, 8))


@pytest.fixture
def adapter(config: ModelConfig) -> ModelAdapter:
    return build_adapter(config, SPACING)


def build(adapter: ModelAdapter, seed: int = 0) -> torch.nn.Module:
    with torch_seeded(seed, "test"):
        return adapter.build()


def example(adapter: ModelAdapter) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of the smallest size that has something to see in every axis."""
    import torch

    size = tuple(max(8, 2 * step) // step * step for step in adapter.patch_divisor())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 1, *size, generator=generator)
    return image, (image > 0.5).to(torch.uint8)


def test_one_step_of_training_changes_weights_and_lowers_the_loss(
    adapter: ModelAdapter,
) -> None:
    import torch

    network, (image, label) = build(adapter).train(), example(adapter)
    loss = build_loss("dice_ce", LossConfig())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    before = weights_of(network)
    first = loss(adapter.heads(network(image))[0], label)
    first.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    optimizer.step()
    after = weights_of(network)
    assert sum(not torch.equal(before[name], after[name]) for name in before) >= len(before) / 2
    assert loss(adapter.heads(network(image))[0], label) < first


def test_it_maps_images_to_two_channels_of_the_same_size(adapter: ModelAdapter) -> None:
    import torch

    network, (image, _) = build(adapter).eval(), example(adapter)
    with torch.no_grad():
        logits = network(image)
        assert logits.shape == (2, 2, *image.shape[2:])
        # in evaluation mode no sample depends on the others of its batch
        torch.testing.assert_close(network(image[:1]), logits[:1], atol=1e-5, rtol=1e-5)
        assert torch.equal(network(image), logits)


def test_it_takes_any_multiple_of_its_divisor(adapter: ModelAdapter) -> None:
    import torch

    network = build(adapter).eval()
    for factors in ((2, 2, 2), (3, 2, 5)):
        size = [a * b for a, b in zip(factors, adapter.patch_divisor(), strict=True)]
        with torch.no_grad():
            assert network(torch.zeros(1, 1, *size)).shape == (1, 2, *size)


def test_weights_survive_safetensors_bit_by_bit(adapter: ModelAdapter, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    network = build(adapter)
    save_file(weights_of(network), tmp_path / "weights.safetensors")
    other = build(adapter, seed=1)
    load_weights(other, load_file(tmp_path / "weights.safetensors"), "here")
    ours, theirs = weights_of(network), weights_of(other)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_of_another_size_are_refused(config: ModelConfig, adapter: ModelAdapter) -> None:
    wider = build_adapter(config.model_copy(update={"filters": (8, 8, 8)}), SPACING)
    with pytest.raises(MinivessError) as caught:
        load_weights(build(adapter), weights_of(build(wider)), "here")
    assert caught.value.code == "MV-STATE-003"


def test_the_seed_decides_the_weights(adapter: ModelAdapter) -> None:
    import torch

    one, again, other = (weights_of(build(adapter, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_was_derived_is_told(adapter: ModelAdapter) -> None:
    facts = adapter.describe()
    assert facts
    assert all(name.startswith("arch_") and value for name, value in facts.items())


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(MinivessError) as caught:
        build_adapter(ModelConfig(architecture="dynunett"), SPACING)
    assert caught.value.code == "MV-CONFIG-003"
    assert caught.value.fix == "did you mean dynunet?"
