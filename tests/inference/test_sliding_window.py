from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.schema import ModelConfig
from minivess.inference.sliding_window import predict_probability
from minivess.inference.windows import window_for
from minivess.models import build_adapter
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from minivess.types import Float32Array, Shape


def random_image(shape: Shape, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def constant_network(probability: float) -> torch.nn.Module:
    """Logits that do not depend on the image."""
    import torch

    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([0.0, np.log(probability / (1 - probability))]))
    return network


def local_network() -> torch.nn.Module:
    """The logit of each voxel is its own intensity."""
    import torch

    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1))
        network.bias.zero_()
    return network


def dynunet() -> torch.nn.Module:
    with torch_seeded(0, "test"):
        return build_adapter(ModelConfig(filters=(4, 8, 8)), (1.0, 1.0, 5.0)).build()


def sigmoid(values: Float32Array) -> Float32Array:
    return np.asarray(1.0 / (1.0 + np.exp(-values.astype(np.float64))), dtype=np.float32)


sides = st.integers(3, 17)


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(sides, sides, sides),
    st.tuples(*[st.integers(4, 10)] * 3),
    st.floats(0, 0.9),
    st.integers(1, 5),
)
def test_a_voxel_local_network_gives_the_exact_result(
    shape: Shape, window: Shape, overlap: float, batch: int
) -> None:
    image = random_image(shape)
    found = predict_probability(local_network(), image, window, overlap, batch)
    assert found.shape == shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sigmoid(image), atol=1e-5)


@pytest.mark.parametrize("probability", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_a_constant_network_gives_a_constant(probability: float, overlap: float) -> None:
    network = constant_network(probability)
    found = predict_probability(network, random_image((20, 13, 7)), (8, 8, 4), overlap)
    np.testing.assert_allclose(found, probability, atol=1e-5)


def test_a_window_over_the_whole_volume_is_one_forward_pass() -> None:
    import torch

    network, image = dynunet().eval(), random_image((16, 12, 6))
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None, None])
        expected = torch.softmax(logits, dim=1)[0, 1].numpy()
    found = predict_probability(network, image, (16, 12, 6), 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_volume_smaller_than_the_window_is_mirrored_up_to_it() -> None:
    import torch

    network, image = dynunet().eval(), random_image((11, 16, 3))
    mirrored = np.pad(image, ((2, 3), (0, 0), (1, 2)), mode="symmetric")
    with torch.no_grad():
        logits = network(torch.from_numpy(mirrored)[None, None])
        expected = torch.softmax(logits, dim=1)[0, 1].numpy()[2:13, :, 1:4]
    found = predict_probability(network, image, (16, 16, 6), 0.5)
    assert found.shape == image.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_windows_are_blended_with_weights_that_fade_to_their_borders() -> None:
    import torch

    class Left(torch.nn.Module):
        """Certain of vessel in the first window along x, of none in the second."""

        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            first = (batch[:, :, :1, :1, :1] == 0).float()
            vessel = 40 * (2 * first - 1) + 0 * batch
            return torch.cat([-vessel, vessel], dim=1)

    image = np.repeat(np.arange(12, dtype=np.float32)[:, None, None], 4, axis=1).repeat(4, axis=2)
    found = predict_probability(Left(), image, (8, 4, 4), 0.5)[:, 2, 2]
    # Voxels 0..3 are only in the first window, 8..11 only in the second.
    assert np.allclose(found[:4], 1.0, atol=1e-5)
    assert np.allclose(found[8:], 0.0, atol=1e-5)
    assert (np.diff(found[3:9]) < 0).all(), "each window counts less towards its border"
    assert np.allclose(found[4:8] + found[4:8][::-1], 1.0, atol=1e-5), "alike on both sides"


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_the_number_of_windows_per_pass_does_not_matter(batch: int) -> None:
    network, image = dynunet(), random_image((20, 20, 8))
    one = predict_probability(network, image, (8, 8, 4), 0.5, 1)
    np.testing.assert_allclose(
        predict_probability(network, image, (8, 8, 4), 0.5, batch), one, atol=1e-5
    )


@pytest.mark.parametrize("bfloat16", [False, True])
def test_probabilities_are_between_0_and_1_and_the_same_twice(bfloat16: bool) -> None:
    import torch

    network = dynunet()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4.0)  # confident to the point of saturation
    image = random_image((20, 20, 8))
    precision = torch.bfloat16 if bfloat16 else None
    found = predict_probability(network, image, (8, 8, 4), 0.5, 2, precision)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    again = predict_probability(network, image, (8, 8, 4), 0.5, 2, precision)
    assert found.tobytes() == again.tobytes()


def test_training_mode_and_gradients_do_not_leak_in() -> None:
    network, image = dynunet().train(), random_image((16, 16, 8))
    first = predict_probability(network, image, (8, 8, 4), 0.25)
    assert not network.training
    np.testing.assert_array_equal(first, predict_probability(network, image, (8, 8, 4), 0.25))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_memory_map_is_read_without_a_warning_and_left_alone(tmp_path: Path) -> None:
    image = random_image((16, 16, 8))
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not writable.*")
        found = predict_probability(local_network(), mapped, (8, 8, 4), 0.5)
    np.testing.assert_array_equal(
        found, predict_probability(local_network(), image, (8, 8, 4), 0.5)
    )
    np.testing.assert_array_equal(mapped, image)


@settings(deadline=None, max_examples=100)
@given(st.tuples(*[st.integers(1, 200)] * 3), st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3))
def test_a_window_is_rounded_up_to_the_next_multiple(window: Shape, divisor: Shape) -> None:
    found = window_for(window, divisor)
    for want, got, step in zip(window, found, divisor, strict=True):
        assert got % step == 0
        assert 0 <= got - want < step
    assert window_for(cast("Shape", found), divisor) == found
