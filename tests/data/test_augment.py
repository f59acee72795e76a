from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from minivess.config.augment import AugmentConfig
from minivess.config.schema import PatchConfig
from minivess.data.augment import affine_margin, training_patch
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.patches import locate_patch, read_patch
from minivess.data.preprocess import PreparedCase
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import Shape, Spacing

KEY = (0, 0, 1)
PATCHES = PatchConfig(patch_size=(16, 16, 8), batch_size=2, patches_per_epoch=8)
NOTHING = AugmentConfig(
    flip_probability=0, affine_probability=0, noise_probability=0, gamma_probability=0
)
EVERYTHING = AugmentConfig(
    flip_probability=0.5,
    affine_probability=1,
    blur_probability=1,
    low_resolution_probability=1,
    brightness_probability=1,
    contrast_probability=1,
    gamma_probability=1,
    gamma_method="range",
    gamma_invert_probability=0.5,
    noise_probability=1,
)
INTENSITY = EVERYTHING.model_copy(update={"flip_probability": 0.0, "affine_probability": 0.0})
GEOMETRIC = AugmentConfig(
    flip_probability=0.5, affine_probability=1, noise_probability=0, gamma_probability=0
)


def make_case(
    folder: Path, name: str, shape: Shape = (24, 24, 10), spacing: Spacing = (1.0, 1.0, 5.0)
) -> PreparedCase:
    """A case of smooth blobs, memory-mapped; the image is 1 in the label and 0 outside."""
    seed = sum(name.encode())
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (3, 3, 1))
    label = (noise > np.quantile(noise, 0.7)).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    arrays = {
        "image": label.astype(np.float32),
        "label": label,
        "foreground": np.flatnonzero(label),
    }
    for key, array in arrays.items():
        np.save(folder / f"{name}_{key}.npy", array)
    maps = {key: np.load(folder / f"{name}_{key}.npy", mmap_mode="r") for key in arrays}
    geometry = Geometry(shape, diagonal_affine(spacing))
    return PreparedCase(case=name, group=name, geometry=geometry, **maps)


@pytest.fixture
def cases(tmp_path: Path) -> list[PreparedCase]:
    return [make_case(tmp_path, name) for name in ("a", "b", "c")]


class Patches:
    """A data set whose items are training patches."""

    def __init__(self, cases: list[PreparedCase], key: tuple[int, int, int]) -> None:
        self.cases, self.key = cases, key

    def __len__(self) -> int:
        return PATCHES.patches_per_epoch

    def __getitem__(self, index: int) -> tuple[int, Any, Any]:
        return index, *training_patch(self.cases, PATCHES, EVERYTHING, self.key, index)


def drawn(
    cases: list[PreparedCase], workers: int, order: list[int], key: tuple[int, int, int] = KEY
) -> dict[int, tuple[bytes, bytes]]:
    """Bytes of every patch of an epoch, asked for in an order by so many processes."""
    from torch.utils.data import DataLoader

    patches: Any = Patches(cases, key)
    loader = DataLoader(
        patches,
        batch_size=2,
        sampler=order,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    return {
        int(index): (image.numpy().tobytes(), label.numpy().tobytes())
        for indices, images, labels in loader
        for index, image, label in zip(indices, images, labels, strict=True)
    }


def test_without_augmentation_a_patch_is_what_lies_there(cases: list[PreparedCase]) -> None:
    import torch

    for index in range(6):
        image, label = training_patch(cases, PATCHES, NOTHING, KEY, index)
        location = locate_patch(cases, PATCHES, KEY, index)
        expected = read_patch(cases[location.case], location, PATCHES.patch_size, (0, 0, 0))
        assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
        assert image.shape == label.shape == (1, *PATCHES.patch_size)
        np.testing.assert_array_equal(image[0].numpy(), expected[0])
        np.testing.assert_array_equal(label[0].numpy(), expected[1])


def test_neither_order_nor_workers_change_a_patch(cases: list[PreparedCase]) -> None:
    straight = list(range(PATCHES.patches_per_epoch))
    shuffled = [5, 2, 7, 0, 3, 6, 1, 4]
    first = drawn(cases, 0, straight)
    assert len({image for image, _ in first.values()}) == len(straight)
    assert drawn(cases, 0, shuffled) == first
    assert drawn(cases, 1, straight) == first
    assert drawn(cases, 2, shuffled) == first


@pytest.mark.parametrize("key", [(1, 0, 1), (0, 1, 1), (0, 0, 2)], ids=["seed", "fold", "epoch"])
def test_other_seeds_folds_and_epochs_give_other_patches(
    cases: list[PreparedCase], key: tuple[int, int, int]
) -> None:
    order = list(range(PATCHES.patches_per_epoch))
    one, other = drawn(cases, 0, order), drawn(cases, 0, order, key)
    assert all(one[index] != other[index] for index in order)


def test_the_label_stays_binary_and_the_image_float(cases: list[PreparedCase]) -> None:
    import torch

    values: set[int] = set()
    for index in range(24):
        image, label = training_patch(cases, PATCHES, EVERYTHING, KEY, index)
        assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
        assert image.shape == label.shape == (1, *PATCHES.patch_size)
        assert image.is_contiguous()
        assert label.is_contiguous()
        assert torch.isfinite(image).all()
        values |= set(label.unique().tolist())
    assert values == {0, 1}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (0.5, 1.0, 2.0)])
@pytest.mark.parametrize("shape", [(24, 24, 10), (16, 16, 8)])
def test_image_and_label_move_together(tmp_path: Path, shape: Shape, spacing: Spacing) -> None:
    cases = [make_case(tmp_path, name, shape, spacing) for name in ("a", "b")]
    moved, agreement = 0, []
    for index in range(16):
        image, label = training_patch(cases, PATCHES, GEOMETRIC, KEY, index)
        ours, theirs = image[0].numpy(), label[0].numpy()
        # The image is the label. In the plane the nearest of four voxels has a quarter of the
        # weight or more, so that linear interpolation is never further off than the rest.
        assert np.abs(ours - theirs).max() <= 0.75 + 1e-3
        agreement.append(np.mean((ours > 0.5) == (theirs > 0)))
        location = locate_patch(cases, PATCHES, KEY, index)
        _, still = read_patch(cases[location.case], location, PATCHES.patch_size, (0, 0, 0))
        moved += not np.array_equal(theirs, still)
    assert moved >= 14
    assert min(agreement) > 0.95
    assert np.mean(agreement) > 0.97


def test_flips_reach_every_axis(cases: list[PreparedCase]) -> None:
    flips = NOTHING.model_copy(update={"flip_probability": 0.5})
    seen = set()
    for index in range(80):
        image, label = training_patch(cases, PATCHES, flips, KEY, index)
        location = locate_patch(cases, PATCHES, KEY, index)
        still, still_label = read_patch(
            cases[location.case], location, PATCHES.patch_size, (0, 0, 0)
        )
        found = [
            axes
            for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
            if np.array_equal(image[0].numpy(), np.flip(still, axes))
            and np.array_equal(label[0].numpy(), np.flip(still_label, axes))
        ]
        assert found, "a flip of the patch, the same for image and label"
        seen.add(found[0])
    assert len(seen) == 8


def test_intensity_changes_leave_the_label_alone(cases: list[PreparedCase]) -> None:
    changes = NOTHING.model_copy(update={"noise_probability": 1.0, "gamma_probability": 1.0})
    for index in range(4):
        image, label = training_patch(cases, PATCHES, changes, KEY, index)
        still, still_label = training_patch(cases, PATCHES, NOTHING, KEY, index)
        assert not np.array_equal(image, still)
        np.testing.assert_array_equal(label, still_label)
        assert float((image - still).std()) < 2 * changes.noise_std


def only(**changes: Any) -> AugmentConfig:
    return NOTHING.model_copy(update=changes)


def test_switched_off_transforms_draw_no_number(cases: list[PreparedCase]) -> None:
    """Patches are what flips, gamma and noise alone make of them, one after the other."""
    import torch
    import torchio as tio

    config = AugmentConfig(affine_probability=0, gamma_probability=0.6, noise_probability=0.6)
    alone = tio.Compose(
        [
            tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
            tio.RandomGamma(log_gamma=(-0.3, 0.3), p=0.6),
            tio.RandomNoise(std=(0.0, 0.2), p=0.6),
        ]
    )
    for index in range(8):
        image, label = training_patch(cases, PATCHES, NOTHING, KEY, index)
        subject = tio.Subject(image=tio.ScalarImage(tensor=image), label=tio.LabelMap(tensor=label))
        with torch_seeded(0, "augment", 0, 1, index):
            expected = alone(subject)
        image, label = training_patch(cases, PATCHES, config, KEY, index)
        assert torch.equal(image, expected.image.data)
        assert torch.equal(label, expected.label.data)


def test_every_change_of_intensity_leaves_the_label_alone(cases: list[PreparedCase]) -> None:
    """Each for itself and all together: the label's bytes, shape, type, no NaN, another image."""
    import torch

    names = ("blur", "low_resolution", "brightness", "contrast", "gamma", "noise")
    settings = [only(**{f"{name}_probability": 1.0}) for name in names]
    gamma = settings[names.index("gamma")]
    for config in (*settings, INTENSITY):
        for index in range(4):
            image, label = training_patch(cases, PATCHES, config, KEY, index)
            still, still_label = training_patch(cases, PATCHES, NOTHING, KEY, index)
            assert torch.equal(label, still_label)
            assert (image.dtype, image.shape) == (still.dtype, still.shape)
            assert torch.isfinite(image).all()
            # The images are 0 and 1: more contrast is clipped to that, gamma leaves it.
            same = torch.equal(image, still)
            assert not same or config in (only(contrast_probability=1.0), gamma)


def test_a_constant_image_stays_finite_and_constant_without_noise(tmp_path: Path) -> None:
    case = make_case(tmp_path, "a")
    for value in (0.0, -1.3, 4.0):
        image = np.full(case.shape, value, dtype=np.float32)
        flat = PreparedCase("a", "a", image, case.label, case.foreground, case.geometry)
        config = INTENSITY.model_copy(update={"noise_probability": 0.0})
        for index in range(4):
            patch, _ = training_patch([flat], PATCHES, config, KEY, index)
            values = patch.numpy()
            assert np.isfinite(values).all()
            assert np.ptp(values) < 1e-5
            assert abs(values.mean() / (value or 1.0) - bool(value)) <= config.brightness_range


def one_case(folder: Path, image: np.ndarray, spacing: Spacing) -> PreparedCase:
    label = np.ones(image.shape, dtype=np.uint8)
    geometry = Geometry(image.shape, diagonal_affine(spacing))
    return PreparedCase("a", "a", image, label, np.arange(label.size), geometry)


def test_the_blur_is_gaussian_in_the_plane_and_in_micrometres(tmp_path: Path) -> None:
    spacing, size = (0.5, 1.0, 5.0), (41, 41, 3)
    point = np.zeros(size, dtype=np.float32)
    point[20, 20, 1] = 1.0
    patches = PatchConfig(patch_size=size)
    blurred = only(blur_probability=1.0, blur_sigma_um=2.0)
    found = []
    for index in range(24):
        case = one_case(tmp_path, point, spacing)
        image = training_patch([case], patches, blurred, KEY, index)[0][0].numpy()
        assert not image[:, :, [0, 2]].any()
        assert image.sum() == pytest.approx(1.0, abs=1e-5)
        # Neighbours of a point's image have the ratio exp(-1 / (2 sigma^2)).
        next_to_it = np.array([image[21, 20, 1], image[20, 21, 1]], dtype=float)
        sigma = (-2 * np.log(np.maximum(next_to_it, 1e-30) / image[20, 20, 1])) ** -0.5
        expected = ndimage.gaussian_filter(point, (*sigma, 0.0))
        np.testing.assert_allclose(image, expected, atol=1e-5)
        found.append(sigma * spacing[:2])
    assert np.max(found) <= 2.0
    assert np.max(found, axis=0) == pytest.approx((1.9, 1.9), abs=0.25)


def test_factors_are_uniform_within_their_range(cases: list[PreparedCase]) -> None:
    """Brightness and contrast found again from the images, which are 0 outside and 1 inside."""
    brightness = only(brightness_probability=1.0, brightness_range=0.4)
    contrast = only(contrast_probability=1.0, contrast_range=0.4)
    factors: dict[str, list[float]] = {"brightness": [], "contrast": []}
    for index in range(60):
        still = training_patch(cases, PATCHES, NOTHING, KEY, index)[0].numpy()
        bright = training_patch(cases, PATCHES, brightness, KEY, index)[0].numpy()
        factor = float(bright.max())
        np.testing.assert_allclose(bright, still * factor, rtol=1e-6)
        factors["brightness"].append(factor)
        clear = training_patch(cases, PATCHES, contrast, KEY, index)[0].numpy()
        factor = float(np.ptp(clear))
        if factor < 1:  # else it is clipped to the range there was
            np.testing.assert_allclose(
                clear, still.mean() + factor * (still - still.mean()), atol=1e-6
            )
            factors["contrast"].append(factor)
        else:
            np.testing.assert_array_equal(clear, still)
    assert 15 <= len(factors["contrast"]) <= 45
    for name, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.6, 1.0)):
        assert low <= min(factors[name]) < low + 0.1
        assert high - 0.1 < max(factors[name]) <= high
        assert np.mean(factors[name]) == pytest.approx((low + high) / 2, abs=0.1)


def test_the_share_of_changed_patches_is_the_probability(cases: list[PreparedCase]) -> None:
    for name in ("blur", "low_resolution", "brightness"):
        config = only(**{f"{name}_probability": 0.25})
        changed = 0
        for index in range(80):
            image, _ = training_patch(cases, PATCHES, config, KEY, index)
            changed += not np.array_equal(
                image, training_patch(cases, PATCHES, NOTHING, KEY, index)[0]
            )
        assert 10 <= changed <= 32, name


def test_the_inverted_image_needs_the_method_range() -> None:
    with pytest.raises(ValueError, match="needs gamma_method range"):
        AugmentConfig(gamma_invert_probability=0.1)


def test_rotations_bring_in_no_padding(tmp_path: Path) -> None:
    # In a volume without zeros any padding would show.
    spacing, size = (1.0, 0.5, 5.0), (40, 8, 4)
    case = make_case(tmp_path, "a", (120, 120, 8), spacing)
    ones = np.ones(case.shape, dtype=np.float32)
    full = PreparedCase("a", "a", ones, ones.astype(np.uint8), np.arange(ones.size), case.geometry)
    patches = PatchConfig(patch_size=size)
    for degrees, zoom in ((20.0, 0.1), (45.0, 0.3), (180.0, 0.0)):
        turning = GEOMETRIC.model_copy(update={"rotation_degrees": degrees, "zoom": zoom})
        for index in range(8):
            image, label = training_patch([full], patches, turning, KEY, index)
            assert int(label.min()) == 1
            np.testing.assert_allclose(image.numpy(), 1.0, atol=1e-6)


def test_margins_by_hand() -> None:
    turn = AugmentConfig(rotation_degrees=90, zoom=0)
    # A square at 45 degrees is sqrt(2) wide; a long one is as wide as its diagonal.
    assert affine_margin((100, 100, 8), (1, 1, 5), turn) == (21, 21, 0)
    assert affine_margin((60, 80, 8), (1, 1, 5), turn) == (20, 10, 0)
    # The diagonal of a long one lies along its short side at almost a right angle.
    assert affine_margin((30, 400, 8), (1, 1, 5), turn) == (186, 1, 0)
    # The same in um with voxels of another width.
    assert affine_margin((60, 40, 8), (1, 2, 5), turn) == (20, 5, 0)
    zoom = AugmentConfig(rotation_degrees=0, zoom=0.5)
    assert affine_margin((60, 40, 8), (1, 2, 5), zoom) == (30, 20, 0)


def test_global_randomness_is_left_alone_and_does_not_matter(cases: list[PreparedCase]) -> None:
    import random

    import torch

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    one = training_patch(cases, PATCHES, EVERYTHING, KEY, 3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert states[2] == random.getstate()
    torch.manual_seed(6)
    np.random.seed(6)  # noqa: NPY002
    random.seed(6)
    two = training_patch(cases, PATCHES, EVERYTHING, KEY, 3)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_the_memory_map_is_not_written_through(cases: list[PreparedCase]) -> None:
    before = [np.array(case.image) for case in cases]
    for index in range(8):
        image, label = training_patch(cases, PATCHES, NOTHING, KEY, index)
        image += 1.0
        label += 1
    for case, image in zip(cases, before, strict=True):
        np.testing.assert_array_equal(case.image, image)
