"""The pooling of GPUs, computed here: the same as torch's, to the bit, with its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

SIZES = {2: (3, 1, 1), 3: (1, 3, 1), 4: (1, 1, 3)}


def volumes() -> dict[str, torch.Tensor]:
    import torch

    rng = np.random.default_rng(0)
    shape = (2, 2, 7, 5, 6)
    return {
        "numbers": torch.from_numpy(rng.normal(size=shape)),
        "ties": torch.from_numpy(rng.integers(0, 3, shape).astype(np.float64)),
        "constant": torch.zeros(shape, dtype=torch.float64),
        "thin": torch.from_numpy(rng.integers(0, 2, (1, 1, 1, 4, 1)).astype(np.float64)),
    }


def gradient(pooled: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
    import torch

    # Whole numbers: sums that are exact in any order.
    weights = torch.arange(1.0, 1 + volume.numel(), dtype=volume.dtype).view_as(volume)
    return torch.autograd.grad((pooled * weights).sum(), volume)[0]


@pytest.mark.parametrize("name", ["numbers", "ties", "constant", "thin"])
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_along_an_axis(name: str, axis: int) -> None:
    import torch
    from torch.nn import functional

    from minivess.losses.pooling import _LargestOfThree, largest_along

    volume = volumes()[name].requires_grad_()
    size = SIZES[axis]
    theirs = functional.max_pool3d(volume, size, 1, [length // 2 for length in size])
    ours: torch.Tensor = _LargestOfThree.apply(volume, axis)
    assert torch.equal(ours, theirs)
    assert torch.equal(gradient(ours, volume), gradient(theirs, volume))
    assert torch.equal(largest_along(volume, axis), theirs)


@pytest.mark.parametrize("name", ["numbers", "ties", "constant", "thin"])
def test_around_a_voxel(name: str) -> None:
    import torch
    from torch.nn import functional

    from minivess.losses.pooling import AXES, _LargestOfThree, largest_around

    volume = volumes()[name].requires_grad_()
    theirs = functional.max_pool3d(volume, 3, 1, 1)
    ours: torch.Tensor = volume
    for axis in reversed(AXES):
        ours = _LargestOfThree.apply(ours, axis)
    assert torch.equal(ours, theirs)
    assert torch.equal(gradient(ours, volume), gradient(theirs, volume))
    assert torch.equal(largest_around(volume), theirs)


def test_its_gradient_is_that_of_its_value() -> None:
    import torch

    from minivess.losses.pooling import _LargestOfThree

    volume = volumes()["numbers"][:1, :1, :4, :3, :3].clone().requires_grad_()
    for axis in (2, 3, 4):
        assert torch.autograd.gradcheck(
            lambda given, a=axis: _LargestOfThree.apply(given, a), volume
        )
