"""Numbers that follow from the levels of a network, against the networks themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from minivess.config.models import ModelConfig
from minivess.models import build_adapter
from minivess.models.levels import CUBE, POINT, Level, activations, multiply_adds, receptive_field
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    import torch

    from minivess.types import Shape, Spacing

SMALL: dict[str, dict[str, object]] = {
    "dynunet": {"filters": (4, 4, 4)},
    "segresnet": {"init_filters": 2, "blocks_down": (1, 2, 1)},
    "attention_unet": {"filters": (4, 4, 4)},
}


def without_statistics(network: torch.nn.Module) -> None:
    """Take out what looks at the whole patch, and let every gradient through."""
    import torch

    norms = (torch.nn.InstanceNorm3d, torch.nn.GroupNorm, torch.nn.BatchNorm3d)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (*norms, torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.PReLU)):
                setattr(module, name, torch.nn.Identity())


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (1.0, 1.0, 1.0)])
def test_the_receptive_field_is_the_reach_of_a_voxels_gradient(
    architecture: str, spacing: Spacing
) -> None:
    import torch

    adapter = build_adapter(
        ModelConfig.model_validate({"architecture": architecture, **SMALL[architecture]}), spacing
    )
    field, step = adapter.receptive_field(), adapter.patch_divisor()
    with torch_seeded(0, "test"):
        network = adapter.build().eval()
    without_statistics(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().add_(0.01)
    for axis in range(3):
        # A bar along one axis, long enough that no end of it is in sight.
        size = [2 * step[a] for a in range(3)]
        size[axis] = step[axis] * (math.ceil(field[axis] / step[axis]) + 2)
        image = torch.rand(1, 1, *size, requires_grad=True)
        logits = network(image)
        reach = 0
        middle = size[axis] // 2 // step[axis] * step[axis]
        for voxel in range(middle, middle + step[axis]):
            index = [size[a] // 2 for a in range(3)]
            index[axis] = voxel
            (gradient,) = torch.autograd.grad(
                logits[0, 1, index[0], index[1], index[2]], image, retain_graph=True
            )
            seen = gradient[0, 0].abs().sum(dim=[a for a in range(3) if a != axis]).nonzero()
            reach = max(reach, voxel - int(seen.min()), int(seen.max()) - voxel)
        assert 2 * reach + 1 == field[axis], "xyz"[axis]


@pytest.mark.parametrize("axis", [0, 2])
def test_a_voxel_outside_changes_nothing_and_one_inside_does(axis: int) -> None:
    import torch

    adapter = build_adapter(ModelConfig(filters=(4, 4, 4)), (1.0, 1.0, 5.0))
    with torch_seeded(0, "test"):
        network = adapter.build().eval()
        without_statistics(network)
        size = [8, 8, 4]
        size[axis] = 64
        image = torch.rand(1, 1, *size)
    reach, centre = adapter.receptive_field()[axis] // 2, [4, 4, 2]
    centre[axis] = 32  # a multiple of the stride sees farthest to the left
    other = image.clone()
    place = list(centre)
    place[axis] -= reach + 1
    other[0, 0, place[0], place[1], place[2]] += 100
    near = image.clone()
    near[0, 0, centre[0], centre[1], centre[2]] += 100
    with torch.no_grad():
        at = (0, slice(None), *centre)
        assert torch.equal(network(image)[at], network(other)[at])
        assert not torch.equal(network(image)[at], network(near)[at])


@pytest.mark.parametrize(
    ("levels", "field"),
    [
        ([Level(4, POINT, (CUBE,))], (3, 3, 3)),
        ([Level(4, POINT, ((3, 3, 1), CUBE))], (5, 5, 3)),
        # by hand: below, voxel 0 sees 2 (-1 .. 1) - 1 .. + 1 = -3 .. 3; voxel 1 sees as much, so
        # up to 4 voxels away; one convolution more on the way up
        ([Level(4, POINT, (POINT,), (CUBE,), (2, 2, 2)), Level(8, (2, 2, 2), (CUBE, CUBE))], None),
    ],
)
def test_receptive_fields_by_hand(levels: list[Level], field: Shape | None) -> None:
    if field is None:
        # voxel 1 needs 0 .. 2, so 0 .. 1 below, there -1 .. 2, above -3 .. 5: four away
        # voxel 0 needs -1 .. 1, so -1 .. 0 below, there -2 .. 1, above -5 .. 3: five away
        field = (11, 11, 11)
    assert receptive_field(levels) == field


def test_work_and_memory_by_hand() -> None:
    levels = [
        Level(4, POINT, (CUBE, CUBE), (CUBE, CUBE), (2, 2, 1)),
        Level(8, (2, 2, 1), (CUBE, CUBE)),
    ]
    assert activations(levels) == 4 * 4 + 2 * 8 / 4
    # Of the transposed convolution's 2 x 2 weights each voxel meets one.
    finest = 27 * (1 * 4 + 4 * 4) + 8 * 4 + 27 * (8 * 4 + 4 * 4)
    assert multiply_adds(levels) == finest + 27 * (4 * 8 + 8 * 8) / 4
