from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from minivess.config.schema import ModelConfig
from minivess.errors import MinivessError
from minivess.models import build_adapter
from minivess.models.weights import load_weights, weights_of
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from pathlib import Path

    import torch

SPACING = (1.0, 1.0, 5.0)


def build(seed: int = 0, filters: tuple[int, ...] = (4, 8, 8)) -> torch.nn.Module:
    with torch_seeded(seed, "test"):
        return build_adapter(ModelConfig(filters=filters, deep_supervision=True), SPACING).build()


def test_each_tensor_is_listed_once() -> None:
    network = build()
    weights = weights_of(network)
    assert sum(tensor.numel() for tensor in weights.values()) == sum(
        parameter.numel() for parameter in network.parameters()
    )
    pointers = {tensor.data_ptr() for tensor in weights.values()}
    assert len(pointers) == len(weights)


def test_weights_are_copies() -> None:
    import torch

    network = build()
    weights = weights_of(network)
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_buffers_are_kept() -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2))
    network(torch.randn(2, 1, 3, 3, 3))
    other = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2))
    load_weights(other, weights_of(network), "here")
    assert torch.equal(network[1].running_mean, other[1].running_mean)
    assert int(other[1].num_batches_tracked) == 1


def test_loading_makes_networks_equal() -> None:
    import torch

    one, two = build(0), build(1)
    image = torch.randn(1, 1, 8, 8, 4)
    with torch.no_grad():
        assert not torch.equal(one.eval()(image), two.eval()(image))
        load_weights(two, weights_of(one), "here")
        assert torch.equal(one(image), two(image))


@pytest.mark.parametrize("filters", [(4, 8, 16), (4, 8, 8, 8)])
def test_weights_of_another_network_are_refused(filters: tuple[int, ...], tmp_path: Path) -> None:
    import torch

    network = build()
    kept = weights_of(network)
    with pytest.raises(MinivessError) as caught:
        load_weights(network, weights_of(build(filters=filters)), str(tmp_path))
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == str(tmp_path)
    assert "tensors differ" in caught.value.found
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights_of(network).items())


def test_a_missing_and_a_surplus_tensor_are_refused() -> None:
    network = build()
    weights = weights_of(network)
    name = sorted(weights)[0]
    without = {key: value for key, value in weights.items() if key != name}
    for wrong in (without, {**weights, "surplus": weights[name]}):
        with pytest.raises(MinivessError) as caught:
            load_weights(network, wrong, "here")
        assert caught.value.code == "MV-STATE-003"
        assert "1 tensors differ" in caught.value.found
