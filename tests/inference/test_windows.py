"""Windows, weights and their mean, against MONAI's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.inference.windows import blended, gaussian_weights, window_starts, windows_of
from minivess.types import Float32Array, Shape

pytestmark = pytest.mark.usefixtures("monai")

sides = st.integers(1, 24)


@settings(deadline=None, max_examples=60)
@given(st.tuples(sides, sides, sides), st.tuples(sides, sides, sides), st.floats(0, 0.95))
def test_windows_are_those_of_monai(more: Shape, window: Shape, overlap: float) -> None:
    from monai.data.utils import dense_patch_slices
    from monai.inferers.utils import _get_scan_interval

    x, y, z = (size + extra - 1 for size, extra in zip(window, more, strict=True))
    steps = _get_scan_interval((x, y, z), window, 3, (overlap,) * 3)
    assert windows_of((x, y, z), window, overlap) == dense_patch_slices((x, y, z), window, steps)


@pytest.mark.parametrize("window", [(64, 64, 16), (16, 12, 5), (1, 1, 1), (8, 1, 3)])
def test_weights_are_those_of_monai(window: Shape) -> None:
    from monai.data.utils import compute_importance_map

    expected = compute_importance_map(window, mode="gaussian").numpy()
    found = gaussian_weights(window)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 60), st.floats(0, 0.99))
def test_windows_along_an_axis_cover_it_and_stay_inside(
    length: int, window: int, overlap: float
) -> None:
    window = min(length, window)
    starts = window_starts(length, window, overlap)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert all(b - a <= window for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_mean_is_that_of_monai(overlap: float, batch: int) -> None:
    import torch
    from monai.inferers.utils import sliding_window_inference

    image = np.random.default_rng(0).uniform(size=(21, 16, 9)).astype(np.float32)
    ramp = np.linspace(0, 1, 8, dtype=np.float32)[:, None, None]

    def predict(windows: Float32Array) -> Float32Array:
        """What depends on where in its window a voxel is, so that the weights matter."""
        return np.asarray(windows * ramp)

    found = blended(image, (8, 8, 4), overlap, batch, predict)
    expected = sliding_window_inference(
        torch.from_numpy(image[None, None]),
        (8, 8, 4),
        batch,
        lambda windows: windows * torch.from_numpy(ramp),
        overlap=overlap,
        mode="gaussian",
    )
    np.testing.assert_allclose(found, np.asarray(expected)[0, 0], atol=1e-6)
