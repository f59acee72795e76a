"""Tubed skeletons: what the authors' code makes, moved by the augmentation as the label is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import dilation, skeletonize

from minivess.config.augment import AugmentConfig
from minivess.config.schema import PatchConfig
from minivess.data.augment import training_patch
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.preprocess import LABEL_SKELETON, PreparedCase, open_case
from minivess.data.skeletons import (
    label_with_skeleton,
    tubed_skeleton,
    without_skeleton,
    write_label_skeleton,
)
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import Array

SHAPE = (40, 36, 14)
PATCHES = PatchConfig(patch_size=(16, 16, 8))
EVERYTHING = AugmentConfig(
    flip_probability=0.5, affine_probability=0.8, noise_probability=0.5, gamma_probability=0.5
)


def vessels(seed: int) -> Array:
    """Thick curved vessels, whose skeletons leave much of them out."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), (4, 4, 2))
    return (np.abs(noise) < np.quantile(np.abs(noise), 0.35)).astype(np.uint8)


def authors(label: Array) -> Array:
    """scikit-image's own operations in the order of the authors' released code."""
    thin = (skeletonize(label > 0) > 0).astype(np.int16)
    return dilation(dilation(thin)) * label.astype(np.int16)


@pytest.mark.parametrize("seed", range(3))
def test_the_tube_is_that_of_the_authors(seed: int) -> None:
    label = vessels(seed)
    tube = tubed_skeleton(label > 0)
    np.testing.assert_array_equal(tube, authors(label) > 0)
    assert 0.1 * label.sum() < tube.sum() < 0.95 * label.sum()
    assert not (tube & (label == 0)).any()


def test_labels_of_one_kind() -> None:
    for value in (0, 1):
        label = np.full((8, 8, 4), value, dtype=np.uint8)
        np.testing.assert_array_equal(label_with_skeleton(label) > 0, label > 0)
    assert not label_with_skeleton(np.zeros((8, 8, 4), dtype=np.uint8)).any()
    # One slice, and one voxel.
    assert label_with_skeleton(np.ones((6, 5, 1), dtype=np.uint8)).max() == 2
    assert label_with_skeleton(np.ones((1, 1, 1), dtype=np.uint8)).item() == 2


def test_components_that_the_library_erases_are_counted() -> None:
    label = np.zeros((20, 12, 8), dtype=np.uint8)
    label[2:6, 2:6] = 1  # a straight tube of even width: nothing is left of it
    label[10:15, 2:7] = 1
    label[18, 10] = 1
    made = label_with_skeleton(label)
    assert not (made[:8] == 2).any()
    assert without_skeleton(made) == (1, 3)
    assert without_skeleton(label * 0) == (0, 0)


def make_case(label: Array, image: Array) -> PreparedCase:
    geometry = Geometry(SHAPE, diagonal_affine((1.0, 1.0, 5.0)))
    foreground = np.flatnonzero(label)
    return PreparedCase("a", "a", image.astype(np.float32), label, foreground, geometry)


def test_the_skeleton_is_augmented_as_a_label_of_its_own_would_be() -> None:
    label = vessels(7)
    with_skeleton = label_with_skeleton(label)
    image = np.random.default_rng(0).normal(size=SHAPE)
    plain = make_case(label, image)
    ours = replace(plain, label=with_skeleton)
    alone = replace(plain, label=(with_skeleton == 2).astype(np.uint8))
    shares = []
    for index in range(24):
        images, labels = zip(
            *(
                training_patch([case], PATCHES, EVERYTHING, (0, 0, 1), index)
                for case in (ours, plain, alone)
            ),
            strict=True,
        )
        assert images[0].numpy().tobytes() == images[1].numpy().tobytes()
        assert set(labels[0].unique().tolist()) <= {0, 1, 2}
        np.testing.assert_array_equal(labels[0] > 0, labels[1])
        np.testing.assert_array_equal(labels[0] > 1, labels[2])
        assert not (labels[2].bool() & ~labels[1].bool()).any()
        shares.append(float(labels[2].sum() / labels[1].sum()))
    assert 0.2 < np.mean(shares) < 0.95


def test_a_case_is_opened_with_its_skeleton_or_without(tmp_path: Path) -> None:
    label = vessels(1)
    folder = prepared(tmp_path, label)
    with pytest.raises(MinivessError, match="minivess data skeletons") as caught:
        open_case(folder, with_skeleton=True)
    assert caught.value.code == "MV-STATE-002"
    assert write_label_skeleton(folder) == without_skeleton(label_with_skeleton(label))
    first = (folder / LABEL_SKELETON).read_bytes()
    write_label_skeleton(folder)
    assert (folder / LABEL_SKELETON).read_bytes() == first
    np.testing.assert_array_equal(open_case(folder).label, label)
    found = open_case(folder, with_skeleton=True).label
    assert isinstance(found, np.memmap)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found > 0, label > 0)
    np.testing.assert_array_equal(found > 1, authors(label) > 0)
    (folder / "label.npy").unlink()
    with pytest.raises(MinivessError, match=r"label\.npy"):
        write_label_skeleton(folder)


def prepared(folder: Path, label: Array) -> Path:
    """The files of a preprocessed case."""
    from minivess import output

    arrays = {"image": label.astype(np.float32), "label": label}
    arrays["foreground"] = np.flatnonzero(label)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    affine = np.diag([1.0, 1.0, 5.0, 1.0]).ravel().tolist()
    facts = {"case": "a", "group": "a", "shape": list(SHAPE), "affine": affine, "unit_um": 1.0}
    output.write_json(facts, folder / "case.json")
    return folder
