"""Weights of a network by name, each tensor once.

`state_dict` lists shared tensors under every name they have (MONAI's DynUNet does); safetensors
refuses those, and writing them twice would double the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from minivess.errors import MinivessError

if TYPE_CHECKING:
    import torch


def _tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy on the CPU of every parameter and buffer."""
    return {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in _tensors(network).items()
    }


def load_weights(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy weights into a network of the same architecture.

    Args:
        network: changed in place.
        weights: as `weights_of` gave them.
        where: file they come from, for the error.

    Raises:
        MinivessError: MV-STATE-003 other names or shapes.
    """
    import torch

    own = _tensors(network)
    differing = sorted(set(own) ^ set(weights))
    differing += [
        name for name in sorted(set(own) & set(weights)) if own[name].shape != weights[name].shape
    ]
    if differing:
        raise MinivessError(
            "MV-STATE-003",
            what="the weights are not of this network",
            where=where,
            found=f"{len(differing)} tensors differ in name or shape, first {differing[0]}",
            fix="delete the file and run the experiment again",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
