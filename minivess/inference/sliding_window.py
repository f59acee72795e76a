"""Vessel probability of a whole volume from overlapping windows, blended with Gaussian weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.inference.windows import blended
from minivess.types import Float32Array, Shape

if TYPE_CHECKING:
    import torch


def predict_probability(
    network: torch.nn.Module,
    image: Float32Array,
    window: Shape,
    overlap: float,
    window_batch: int = 1,
    autocast: torch.dtype | None = None,
    dropout: bool = False,
) -> Float32Array:
    """Vessel probability (x, y, z), float32 in 0..1, of a normalised image.

    Args:
        network: maps (B, 1, x, y, z) to logits (B, 2, x, y, z) in evaluation mode.
        image: (x, y, z); may be smaller than the window (it is mirrored up to it).
        window: voxels along (x, y, z), multiples of the network's divisor.
        overlap: part of a window shared with its neighbour, 0 to below 1.
        window_batch: windows per forward pass.
        autocast: type for the forward pass; None for float32.
        dropout: leave units out as in training; which, torch's current generator decides.

    Source: Gaussian importance weighting as in nnU-Net (Isensee et al. 2021); see
    `windows.blended`.
    """
    import torch

    device = next(network.parameters()).device

    def foreground(batch: Float32Array) -> Float32Array:
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            logits = network(torch.from_numpy(batch[:, None]).to(device))
        probability: Float32Array = torch.softmax(logits.float(), dim=1)[:, 1].cpu().numpy()
        return probability

    network.eval()
    if dropout:
        _switch_on_dropout(network)
    with torch.no_grad():
        return blended(image, window, overlap, window_batch, foreground)


def _switch_on_dropout(network: torch.nn.Module) -> None:
    import torch

    for layer in network.modules():
        if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.train()
