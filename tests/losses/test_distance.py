"""Distances as GPUs compute them, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage


@given(seed=st.integers(0, 10_000), filled=st.sampled_from([0.02, 0.5, 0.9, 0.99]))
@settings(max_examples=40, deadline=None)
def test_in_voxels_it_is_scipys_to_the_bit(seed: int, filled: float) -> None:
    import torch

    from minivess.losses.distance import _on_gpu, to_background

    mask = np.random.default_rng(seed).random((1, 9, 14, 5)) < filled
    mask[0, 0, 0, 0], mask[0, 4, 4, 4] = False, True
    expected = ndimage.distance_transform_edt(mask[0]).astype(np.float32)
    found = _on_gpu(torch.from_numpy(mask), torch.ones(3)).numpy()
    assert np.array_equal(found[0], expected)
    assert np.array_equal(to_background(torch.from_numpy(mask[None]))[0, 0].float(), expected)


def test_with_sizes_of_voxels_it_is_scipys() -> None:
    import torch

    from minivess.losses.distance import _on_gpu

    mask = np.random.default_rng(0).random((1, 20, 12, 7)) < 0.95
    sizes = torch.tensor([1.0, 1.7, 5.0])
    expected = ndimage.distance_transform_edt(mask[0], sampling=sizes.tolist())
    found = _on_gpu(torch.from_numpy(mask), sizes).numpy()
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from minivess.losses import distance

    mask = torch.from_numpy(np.random.default_rng(1).random((1, 10, 11, 4)) < 0.97)
    whole = distance._on_gpu(mask, torch.ones(3))
    monkeypatch.setattr(distance, "PIECE", 50)
    assert torch.equal(distance._on_gpu(mask, torch.ones(3)), whole)


@pytest.mark.parametrize("full", [True, False])
def test_without_a_border_there_is_no_distance(full: bool) -> None:
    import torch

    from minivess.losses.distance import _on_gpu, to_background

    mask = torch.full((1, 1, 4, 3, 2), full)
    assert not to_background(mask).any()
    assert not _on_gpu(mask[0], torch.ones(3)).any()
