"""Instance normalisation with channels last, against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch

from minivess.config.schema import ModelConfig
from minivess.models import build_adapter
from minivess.models.channels_last import ChannelsLastNorm, use_channels_last

pytestmark = pytest.mark.usefixtures("monai")


def both(channels: int) -> tuple[torch.nn.InstanceNorm3d, ChannelsLastNorm]:
    torch.manual_seed(0)
    plain = torch.nn.InstanceNorm3d(channels, affine=True)
    with torch.no_grad():
        plain.weight.uniform_(0.5, 2.0)
        plain.bias.uniform_(-1.0, 1.0)
    found = use_channels_last(torch.nn.Sequential(copy.deepcopy(plain)))[0]
    assert isinstance(found, ChannelsLastNorm)
    return plain, found


@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (1, 16), (3, 5)])
def test_values_and_gradients_are_those_of_torch(batch: int, channels: int) -> None:
    plain, ours = both(channels)
    values = 3 * torch.randn(batch, channels, 9, 8, 4) + 7
    direction = torch.randn_like(values)
    results = []
    for norm in (plain, ours):
        features = values.clone().requires_grad_()
        output = norm(features)
        output.backward(direction)
        results.append((output.detach(), features.grad, norm.weight.grad, norm.bias.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_without_a_gradient_it_is_the_same() -> None:
    plain, ours = both(6)
    values = torch.randn(2, 6, 8, 8, 4)
    with torch.no_grad():
        found = ours(values)
        torch.testing.assert_close(found, plain(values), rtol=1e-4, atol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("channels", [8, 16])
def test_in_bfloat16_it_is_the_same_up_to_its_rounding(channels: int) -> None:
    plain, ours = both(channels)
    values = torch.randn(2, channels, 8, 8, 4)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = ours(values.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain(values), rtol=2e-2, atol=3e-2)


def test_the_gradient_is_right_in_double_precision() -> None:
    _, ours = both(3)
    values = torch.randn(2, 3, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours.double(), (values,))


def test_a_network_keeps_its_weights_and_what_it_computes() -> None:
    from monai.networks.nets.dynunet import DynUNet

    adapter = build_adapter(ModelConfig(filters=(4, 8, 8)), (1.0, 1.0, 5.0))
    torch.manual_seed(0)
    ours = adapter.build().eval()
    kernels, strides = adapter._topology()  # type: ignore[attr-defined]
    plain = DynUNet(3, 1, 2, kernels, strides, strides[1:], filters=[4, 8, 8]).eval()
    plain.load_state_dict(ours.state_dict())
    assert not any(isinstance(part, ChannelsLastNorm) for part in plain.modules())
    assert any(isinstance(part, ChannelsLastNorm) for part in ours.modules())
    assert not any(type(part) is torch.nn.InstanceNorm3d for part in ours.modules())
    image = torch.randn(2, 1, 16, 16, 4)
    torch.testing.assert_close(ours(image), plain(image), rtol=1e-4, atol=1e-4)


def test_norms_of_another_kind_are_left_alone() -> None:
    kinds = [torch.nn.InstanceNorm3d(4), torch.nn.InstanceNorm3d(4, track_running_stats=True)]
    network = use_channels_last(torch.nn.Sequential(*kinds))
    assert list(network.children()) == kinds
