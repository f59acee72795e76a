"""Euclidean distance to the background, on the CPU by SciPy and on a GPU without leaving it.

Imported where it is needed: it needs torch.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

# Values that one piece of the computation on a GPU may hold: 64 MB.
PIECE = 2**24


def to_background(mask: torch.Tensor, steps: torch.Tensor | None = None) -> torch.Tensor:
    """Euclidean distance of each voxel of a mask to the nearest voxel that is not of it.

    Args:
        mask: (B, 1, x, y, z), bool.
        steps: (B, 3) size of a voxel along (x, y, z), in the unit of the result; none: voxels.

    The same shape, float64 on the CPU and float32 on a GPU. Zero outside the mask, and throughout
    where a sample has no background.

    >>> to_background(torch.tensor([0, 1, 1, 1]).view(1, 1, 4, 1, 1) > 0).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    sizes = torch.ones(len(mask), 3) if steps is None else steps.detach().cpu()
    if mask.is_cuda:
        return torch.stack([_on_gpu(one, size) for one, size in zip(mask, sizes, strict=True)])
    array = mask.numpy()
    distances = np.zeros(array.shape)
    for index, sample in enumerate(array[:, 0]):
        if sample.any() and not sample.all():
            sampling = sizes[index].double().numpy()
            distances[index, 0] = ndimage.distance_transform_edt(sample, sampling=sampling)
    return torch.from_numpy(distances)


def _on_gpu(mask: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Distances in one sample (1, x, y, z): squared ones along one axis after the other.

    Source: Felzenszwalb and Huttenlocher 2012, Distance Transforms of Sampled Functions, whose
    one-dimensional minimum is here taken over all voxels of a line.
    """
    squared = torch.where(mask, torch.inf, 0.0)
    for axis, step in zip((1, 2, 3), size.tolist(), strict=True):
        lines = squared.movedim(axis, -1)
        length = lines.shape[-1]
        places = torch.arange(length, device=mask.device, dtype=torch.float32) * step
        between = (places[:, None] - places[None, :]) ** 2
        flat = lines.reshape(-1, length)
        pieces = [
            (piece[:, None, :] + between).amin(-1)
            for piece in flat.split(max(1, PIECE // length**2))
        ]
        squared = torch.cat(pieces).reshape(lines.shape).movedim(-1, axis)
    # In float64 the root is rounded once, as SciPy's is.
    return torch.where(squared.isinf(), 0.0, squared).double().sqrt().float()
