from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage, stats

from minivess.data.intensity import coarsened, contrasted, range_gamma
from minivess.types import Float32Array

IMAGES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7).map(lambda s: (1, *s)),
    elements=st.floats(-8, 8, width=16),
)


def textured(shape: tuple[int, ...], seed: int = 0) -> Float32Array:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, (0, 1, 1, 0)).astype(np.float32) * 4


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.25])
def test_contrast_is_the_linear_map_about_the_mean(factor: float) -> None:
    image = textured((1, 9, 8, 4))
    mean = float(np.mean(image.astype(float)))
    expected = np.array([mean + factor * (float(value) - mean) for value in image.ravel()])
    expected = np.minimum(np.maximum(expected, float(image.min())), float(image.max()))
    np.testing.assert_allclose(contrasted(image, factor).ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.6, 0.77, 0.93, 1.0])
def test_coarser_sampling_is_nearest_down_and_linear_up(scale: float) -> None:
    """As SciPy's interpolation at the centres of the fewer voxels has it, plane by plane."""
    shape = (13, 10, 3)
    image = textured((1, *shape))
    few = [round(length * scale) for length in shape[:2]]
    nearest = [
        np.floor((np.arange(count) + 0.5) * length / count + 1e-9).astype(int)
        for count, length in zip(few, shape[:2], strict=True)
    ]
    centres = np.meshgrid(
        *[
            (np.arange(length) + 0.5) * count / length - 0.5
            for count, length in zip(few, shape[:2], strict=True)
        ],
        indexing="ij",
    )
    for z in range(shape[2]):
        small = image[0, :, :, z][np.ix_(*nearest)].astype(float)
        expected = ndimage.map_coordinates(small, centres, order=1, mode="nearest")
        np.testing.assert_allclose(coarsened(image, scale)[0, :, :, z], expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.62, 0.75, 0.9])
def test_coarser_sampling_is_what_nnunet_computes(scale: float) -> None:
    """Its `SimulateLowResolutionTransform` calls these two functions of torch."""
    from torch.nn.functional import interpolate

    image = torch.from_numpy(textured((1, 32, 20, 4)))[None]
    few = [round(32 * scale), round(20 * scale), 4]
    small = interpolate(image, few, mode="nearest-exact")
    expected = interpolate(small, (32, 20, 4), mode="trilinear")
    np.testing.assert_allclose(coarsened(image[0].numpy(), scale), expected[0], atol=1e-5)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
def test_gamma_over_the_range_keeps_mean_and_standard_deviation(
    gamma: float, inverted: bool
) -> None:
    image = textured((1, 9, 8, 4))
    values = image.astype(float) * (-1 if inverted else 1)
    scaled = (values - values.min()) / (values.max() - values.min())
    expected = stats.zscore(scaled**gamma, axis=None) * values.std() + values.mean()
    expected *= -1 if inverted else 1
    changed = range_gamma(torch.from_numpy(image), gamma, inverted).numpy()
    np.testing.assert_allclose(changed, expected, atol=1e-4)
    assert changed.mean() == pytest.approx(image.mean(), abs=1e-5)
    assert changed.std() == pytest.approx(image.std(), rel=1e-5)


def test_on_the_inverted_image_gamma_changes_the_other_end() -> None:
    image = torch.from_numpy(textured((1, 9, 8, 4)))
    once = range_gamma(image, 1.5, True)
    np.testing.assert_allclose(once, -range_gamma(-image, 1.5, False), atol=1e-5)
    assert not np.allclose(once, range_gamma(image, 1.5, False), atol=0.1)


@settings(max_examples=60, deadline=None)
@given(IMAGES, st.floats(0.5, 1.5), st.booleans())
def test_any_image_keeps_its_shape_type_range_and_order(
    image: Float32Array, factor: float, inverted: bool
) -> None:
    before = image.copy()
    gamma = range_gamma(torch.from_numpy(image), factor, inverted).numpy()
    coarse, contrast = coarsened(image, min(factor, 1.0)), contrasted(image, factor)
    np.testing.assert_array_equal(image, before)
    order = np.argsort(image, axis=None, kind="stable")
    for changed in (gamma, coarse, contrast):
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
        assert np.isfinite(changed).all()
    for changed in (gamma, contrast):
        assert (np.diff(changed.ravel()[order]) >= -1e-5).all()
    for changed in (coarse, contrast):
        assert image.min() - 1e-5 <= changed.min()
        assert changed.max() <= image.max() + 1e-5
    if np.ptp(image) == 0:
        np.testing.assert_array_equal(np.array([gamma, coarse, contrast]), np.array([image] * 3))


@pytest.mark.parametrize("value", [0.0, -1.25, 3.7])
def test_a_constant_image_stays_what_it_is(value: float) -> None:
    image = np.full((1, 5, 6, 3), value, dtype=np.float32)
    np.testing.assert_array_equal(coarsened(image, 0.6), image)
    np.testing.assert_array_equal(contrasted(image, 1.25), image)
    np.testing.assert_array_equal(range_gamma(torch.from_numpy(image), 1.4, True), image)
