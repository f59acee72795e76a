"""Max-pooling whose gradient is the same in every run, on GPUs too.

torch's max-pooling of volumes adds up its gradient on a GPU in whatever order its threads come, and
is refused where operations have to be deterministic. There the same is computed along one axis
after the other; on CPUs it is torch's.

Imported where it is needed: it needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

# Of (B, C, x, y, z).
AXES = (2, 3, 4)


def largest_along(volume: torch.Tensor, axis: int) -> torch.Tensor:
    """Largest of each voxel and its two neighbours along one axis, the same shape.

    Args:
        volume: (B, C, x, y, z).
        axis: 2, 3 or 4.

    The gradient goes to the largest one, of equal ones to the first, as torch's does.

    >>> largest_along(torch.tensor([0.0, 2.0, 1.0, 0.0]).view(1, 1, 4, 1, 1), 2).flatten().tolist()
    [2.0, 2.0, 2.0, 1.0]
    """
    if _gradient_is_wanted(volume):
        found: torch.Tensor = _LargestOfThree.apply(volume, axis)
        return found
    size = [3 if axis == own else 1 for own in AXES]
    return functional.max_pool3d(volume, size, 1, [length // 2 for length in size])


def largest_around(volume: torch.Tensor) -> torch.Tensor:
    """Largest of each voxel and its 26 neighbours, the same shape.

    Args:
        volume: (B, C, x, y, z).

    The gradient goes to the largest one, of equal ones to the first, as torch's does.
    """
    if not _gradient_is_wanted(volume):
        return functional.max_pool3d(volume, 3, 1, 1)
    for axis in reversed(AXES):
        volume = largest_along(volume, axis)
    return volume


def _gradient_is_wanted(volume: torch.Tensor) -> bool:
    """Whether there will be a gradient, on a GPU."""
    return volume.is_cuda and volume.requires_grad and torch.is_grad_enabled()


class _LargestOfThree(torch.autograd.Function):
    """`largest_along`, with comparisons in place of indices."""

    @staticmethod
    def forward(ctx: Any, volume: torch.Tensor, axis: int) -> torch.Tensor:
        length = volume.shape[axis]
        borders = [0] * (2 * (volume.ndim - axis))
        borders[-2:] = [1, 1]
        padded = functional.pad(volume, borders, value=-torch.inf)
        before, after = padded.narrow(axis, 0, length), padded.narrow(axis, 2, length)
        first_two = torch.maximum(before, volume)
        ctx.save_for_backward(before >= volume, after > first_two)
        ctx.axis = axis
        return torch.maximum(first_two, after)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient, axis = gradients[0], ctx.axis
        is_before, is_after = ctx.saved_tensors
        last = gradient.shape[axis] - 1
        from_after = gradient * is_after
        from_first_two = gradient - from_after
        from_before = from_first_two * is_before
        inputs = from_first_two - from_before
        inputs.narrow(axis, 0, last).add_(from_before.narrow(axis, 1, last))
        inputs.narrow(axis, 1, last).add_(from_after.narrow(axis, 0, last))
        return inputs, None
