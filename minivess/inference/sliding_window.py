"""Vessel probability of a whole volume from overlapping windows, blended with Gaussian weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.monai_import import import_monai
from minivess.types import Float32Array, Shape

if TYPE_CHECKING:
    import torch


def window_for(window: Shape, divisor: Shape) -> Shape:
    """The window with each axis rounded up to a multiple of what the network needs.

    >>> window_for((60, 64, 11), (4, 4, 2))
    (60, 64, 12)
    """
    x, y, z = (-(-length // step) * step for length, step in zip(window, divisor, strict=True))
    return x, y, z


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

    Probabilities, not logits, are blended: each window votes with its own confidence.

    Source: Gaussian importance weighting as in nnU-Net (Isensee et al. 2021), MONAI's
    implementation.
    """
    import torch

    import_monai()
    from monai.inferers.utils import sliding_window_inference

    device = next(network.parameters()).device

    def foreground(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            logits = network(batch)
        return torch.softmax(logits.float(), dim=1)[:, 1:]

    network.eval()
    if dropout:
        _switch_on_dropout(network)
    padded, inner = _mirrored(np.array(image, dtype=np.float32), window)
    with torch.no_grad():
        blended = sliding_window_inference(
            torch.from_numpy(padded[None, None]).to(device),
            roi_size=window,
            sw_batch_size=window_batch,
            predictor=foreground,
            overlap=overlap,
            mode="gaussian",
        )
    assert isinstance(blended, torch.Tensor)  # one output, one tensor
    probability = blended[0, 0].cpu().numpy()[inner]
    return np.ascontiguousarray(np.clip(probability, 0.0, 1.0), dtype=np.float32)


def _switch_on_dropout(network: torch.nn.Module) -> None:
    import torch

    for layer in network.modules():
        if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.train()


def _mirrored(image: Float32Array, window: Shape) -> tuple[Float32Array, tuple[slice, ...]]:
    missing = [max(0, want - have) for want, have in zip(window, image.shape, strict=True)]
    before = [length // 2 for length in missing]
    pads = [(first, more - first) for first, more in zip(before, missing, strict=True)]
    inner = tuple(
        slice(first, first + length) for first, length in zip(before, image.shape, strict=True)
    )
    return (np.pad(image, pads, mode="symmetric") if any(missing) else image), inner
