from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage

if TYPE_CHECKING:
    import torch

    from minivess.types import Array

pytestmark = pytest.mark.usefixtures("monai")


def random_volume(seed: int, shape: tuple[int, ...] = (2, 1, 12, 10, 8)) -> torch.Tensor:
    import torch

    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return torch.from_numpy(values)


def scipy_skeleton(volume: Array, iterations: int) -> Array:
    """The same algorithm with SciPy's filters, written from the paper."""
    cross = ndimage.generate_binary_structure(3, 1)

    def opened(array: Array) -> Array:
        return np.asarray(
            ndimage.grey_dilation(
                ndimage.grey_erosion(array, footprint=cross, mode="nearest"),
                size=(3, 3, 3),
                mode="nearest",
            )
        )

    skeleton = np.maximum(volume - opened(volume), 0)
    for _ in range(iterations):
        volume = ndimage.grey_erosion(volume, footprint=cross, mode="nearest")
        ridge = np.maximum(volume - opened(volume), 0)
        skeleton = skeleton + np.maximum(ridge - skeleton * ridge, 0)
    return skeleton


@pytest.mark.parametrize("iterations", [0, 1, 3, 7])
def test_the_soft_skeleton_is_monais(iterations: int) -> None:
    import torch
    from monai.losses.cldice import soft_skel

    from minivess.losses.cldice import soft_skeleton

    for volume in (random_volume(0), (random_volume(1) > 0.4).float()):
        ours, theirs = soft_skeleton(volume, iterations), soft_skel(volume, iterations)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("iterations", [0, 2, 5])
def test_the_soft_skeleton_is_the_papers(iterations: int) -> None:
    from minivess.losses.cldice import soft_skeleton

    for volume in (random_volume(2), (random_volume(3) > 0.2).float()):
        found = soft_skeleton(volume, iterations).numpy()
        for sample in range(2):
            expected = scipy_skeleton(volume[sample, 0].numpy(), iterations)
            np.testing.assert_allclose(found[sample, 0], expected, atol=1e-6)


def test_the_skeleton_of_a_tube_is_its_axis() -> None:
    import torch

    from minivess.losses.cldice import soft_skeleton

    x, y = np.mgrid[:15, :15]
    disk = (x - 7) ** 2 + (y - 7) ** 2 <= 4**2
    tube = torch.from_numpy(np.repeat(disk[:, :, None], 20, axis=2)[None, None].astype(np.float32))
    skeleton = soft_skeleton(tube, 6)[0, 0].numpy()
    middle = skeleton[:, :, 10]
    assert middle[7, 7] == 1.0
    inside = ndimage.distance_transform_cdt(disk, "taxicab")
    assert set(np.unique(skeleton)) <= {0.0, 1.0}
    assert skeleton.sum() < 0.2 * tube.sum()
    assert inside[middle > 0].min() >= 1


def test_gradients_of_the_skeleton_are_right() -> None:
    import torch

    from minivess.losses.cldice import soft_skeleton

    volume = random_volume(4, (1, 1, 4, 3, 3)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: soft_skeleton(v, 2), volume, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_soft_cldice_is_monais(smooth: float) -> None:
    import torch
    from monai.losses.cldice import SoftclDiceLoss

    from minivess.losses.cldice import soft_cldice, soft_skeleton

    probability = random_volume(5)
    label = (random_volume(6) > 0.6).float()
    skeletons = soft_skeleton(probability, 3), soft_skeleton(label, 3)
    ours = 1.0 - soft_cldice(probability, label, skeletons, smooth)
    assert ours.shape == (2,)
    criterion = SoftclDiceLoss(iter_=3, smooth_nr=smooth, smooth_dr=smooth, smooth=1e-12)
    theirs = criterion(input=probability, target=label)
    assert torch.allclose(ours.mean(), theirs, atol=1e-6)


def test_precision_and_sensitivity_by_hand() -> None:
    import torch

    from minivess.losses.cldice import soft_cldice

    label = torch.zeros(1, 1, 10, 3, 3)
    label[0, 0, :, 1, 1] = 1
    probability = torch.zeros_like(label)
    probability[0, 0, :4, 1, 1] = 0.5  # 4 of 10, at half strength
    probability[0, 0, 0, 0, 0] = 1.0  # and one voxel outside
    found = soft_cldice(probability, label, (probability, label), smooth=0.0)
    precision, sensitivity = 2.0 / 3.0, 2.0 / 10.0
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert found.item() == pytest.approx(expected)


def test_gradients_of_soft_cldice_are_right() -> None:
    import torch

    from minivess.losses.cldice import soft_cldice, soft_skeleton

    label = (random_volume(7, (1, 1, 4, 4, 3)) > 0.5).double()

    def score(probability: torch.Tensor) -> torch.Tensor:
        skeletons = soft_skeleton(probability, 1), soft_skeleton(label, 1)
        return soft_cldice(probability, label, skeletons, 1.0)

    probability = random_volume(8, (1, 1, 4, 4, 3)).double().requires_grad_()
    assert torch.autograd.gradcheck(score, probability, eps=1e-7, atol=1e-5)
