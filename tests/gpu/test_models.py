"""Networks on a GPU: what the CPU computes, trained to the same bytes in every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from small_networks import SMALL, TRAINED_HERE

from minivess.config.models import ModelConfig
from minivess.config.training import LossConfig
from minivess.losses import build_loss
from minivess.models import build_adapter
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    import torch

    from minivess.models.adapter import ModelAdapter

DEEP = [*TRAINED_HERE, "dynunet with deep supervision"]


def made(name: str) -> ModelAdapter:
    architecture, _, deep = name.partition(" with ")
    config = {"architecture": architecture, **SMALL[architecture]}
    if deep:
        config |= {"deep_supervision": True}
    return build_adapter(ModelConfig.model_validate(config), (1.0, 1.0, 5.0))


def images() -> torch.Tensor:
    import torch

    return torch.randn(2, 1, 32, 32, 8, generator=torch.Generator().manual_seed(0))


def trained(
    name: str, device: torch.device, precision: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Weights after three steps."""
    import torch

    adapter = made(name)
    with torch_seeded(0, "test"):
        network = adapter.build().to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    loss, image = build_loss("cbdice_cldice", LossConfig()), images().to(device)
    for _ in range(3):
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            heads = adapter.heads(network(image))
        optimizer.zero_grad(set_to_none=True)
        sum(loss(head, (image > 0.5).to(torch.uint8)) for head in heads).backward()
        optimizer.step()
    return weights_of(network)


@pytest.mark.parametrize("name", TRAINED_HERE)
def test_it_computes_what_the_cpu_does(name: str, gpu: torch.device) -> None:
    import torch

    with torch_seeded(0, "test"):
        network = made(name).build().eval()
    with torch.no_grad():
        expected = network(images())
        found = network.to(gpu)(images().to(gpu)).cpu()
    # In float32: TF32, which the profile strict has off, is 5e-4 off and more.
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4


@pytest.mark.parametrize("precision", [None, "bfloat16"])
@pytest.mark.parametrize("name", DEEP)
def test_it_trains_to_the_same_bytes(name: str, precision: str | None, gpu: torch.device) -> None:
    import torch

    dtype = None if precision is None else torch.bfloat16
    first, second = trained(name, gpu, dtype), trained(name, gpu, dtype)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.isfinite(tensor).all() for tensor in first.values())
