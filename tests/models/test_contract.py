"""What every network of the registry promises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from forked import forked
from small_networks import PUBLISHED, SMALL, TRAINED_HERE

from minivess.config.models import ARCHITECTURE_KEYS, SHARED_KEYS, ModelConfig
from minivess.config.training import LossConfig
from minivess.errors import MinivessError
from minivess.losses import build_loss
from minivess.models import ADAPTERS, adapter, build_adapter
from minivess.models.weights import load_weights, weights_of
from minivess.seeding import torch_seeded
from minivess.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from minivess.models.adapter import ModelAdapter
    from minivess.types import Shape

SPACING = (1.0, 1.0, 5.0)


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """One thread, and an error for an operation that is not deterministic."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # NaN where memory is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted(ADAPTERS))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(architecture: str, **keys: Any) -> ModelAdapter:
    config = {"architecture": architecture, **SMALL[architecture], **keys}
    return build_adapter(ModelConfig.model_validate(config), SPACING)


def build(made: ModelAdapter, seed: int = 0) -> torch.nn.Module:
    with torch_seeded(seed, "test"):
        return made.build()


def shapes_alone(made: ModelAdapter) -> torch.nn.Module:
    """The network without numbers: it computes shapes, at once."""
    import torch

    with torch.device("meta"):
        return made.build().eval()


def smallest(made: ModelAdapter) -> Shape:
    """The smallest patch with more than one voxel at the coarsest level."""
    x, y, z = (max(8, step) for step in made.patch_divisor())
    return 2 * x if x > 8 else x, y, z


def example(made: ModelAdapter) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    count = 1 if math.prod(smallest(made)) > 20_000 else 2
    image = torch.randn(count, 1, *smallest(made), generator=torch.Generator().manual_seed(0))
    return image, (image > 0.5).to(torch.uint8)


@dataclass(frozen=True)
class Trial:
    """A network before and after two steps, and after a second one that was resumed."""

    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]
    final: dict[str, torch.Tensor]
    resumed: dict[str, torch.Tensor]
    losses: tuple[float, float]
    gradients: dict[str, torch.Tensor | None]
    kept_bytes: int


def optimise(network: torch.nn.Module) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)


def step(
    made: ModelAdapter, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[float, int]:
    """One step of training; its loss, and the bytes that were kept for its gradient."""
    import torch

    image, label = example(made)
    kept: dict[int, tuple[int, torch.Tensor]] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held: no pointer is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        heads = made.heads(network.train()(image))
    total = sum(count for count, _ in kept.values())
    kept.clear()
    loss = build_loss("dice_ce", LossConfig())(heads[0], label)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach()), total


@cache
def trial(architecture: str, folder: Path) -> Trial:
    made = make(architecture)
    network = build(made)
    optimizer = optimise(network)
    before = weights_of(network)
    first, kept_bytes = step(made, network, optimizer)
    gradients = {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }
    after = weights_of(network)
    save_checkpoint(folder, TrainingState(epoch=1), network, optimizer)
    second, _ = step(made, network, optimizer)
    other = build(made, seed=1)
    its_optimizer = optimise(other)
    assert load_checkpoint(folder, other, its_optimizer) is not None
    step(made, other, its_optimizer)
    return Trial(
        before,
        after,
        weights_of(network),
        weights_of(other),
        (first, second),
        gradients,
        kept_bytes,
    )


@pytest.fixture
def tried(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return trial(architecture, tmp_path_factory.getbasetemp() / architecture)


def test_one_step_of_training_changes_weights_and_lowers_the_loss(tried: Trial) -> None:
    import torch

    for name, gradient in tried.gradients.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
    changed = sum(not torch.equal(tried.before[n], tried.after[n]) for n in tried.gradients)
    assert changed >= 0.9 * len(tried.gradients)
    assert tried.losses[1] < tried.losses[0]


def test_a_resumed_training_is_equal_to_the_bit(tried: Trial) -> None:
    import torch

    assert set(tried.final) == set(tried.resumed)
    assert all(torch.equal(tried.final[name], tried.resumed[name]) for name in tried.final)


def test_memory_and_weights_are_about_what_is_said(architecture: str, tried: Trial) -> None:
    made = make(architecture)
    count = sum(tensor.numel() for tensor in tried.before.values())
    assert made.parameters() == pytest.approx(count, rel=0.04)
    image, _ = example(made)
    said = made.training_bytes(image.numel()) - 4 * adapter.COPIES * made.parameters()
    # Beside what is kept for the gradient, the gradients of the layers at work are alive.
    assert 1.0 < said / tried.kept_bytes < 2.5
    assert made.prediction_bytes(image.numel()) < made.training_bytes(image.numel())


def test_it_maps_images_to_two_channels_of_the_same_size(architecture: str) -> None:
    import torch

    made = make(architecture)
    network, (image, _) = build(made).eval(), example(made)
    with torch.no_grad():
        logits = network(image)
        assert logits.shape == (len(image), 2, *image.shape[2:])
        assert torch.equal(network(image), logits)
        if len(image) > 1:  # in evaluation mode no sample depends on the others of its batch
            torch.testing.assert_close(network(image[:1]), logits[:1], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("factors", [(2, 2, 2), (3, 2, 5), (2, 1, 1)])
def test_it_takes_any_multiple_of_its_divisor(architecture: str, factors: Shape) -> None:
    import torch

    made = make(architecture)
    size = [a * b for a, b in zip(factors, made.patch_divisor(), strict=True)]
    image = torch.empty(3, 1, *size, device="meta")
    assert shapes_alone(made)(image).shape == (3, 2, *size)


def test_it_takes_nothing_but_multiples_of_its_divisor(architecture: str) -> None:
    """The divisor asks for no more than the network does."""
    import torch

    made = make(architecture)
    network, divisor = shapes_alone(made), made.patch_divisor()
    for axis in range(3):
        size = [2 * step for step in divisor]
        size[axis] += divisor[axis] // 2
        if divisor[axis] > 1:
            with pytest.raises((RuntimeError, ValueError)):
                network(torch.empty(1, 1, *size, device="meta"))


@pytest.mark.parametrize("architecture", TRAINED_HERE)
def test_weights_survive_safetensors_bit_by_bit(architecture: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    made = make(architecture)
    network = build(made)
    save_file(weights_of(network), tmp_path / "weights.safetensors")
    other = build(made, seed=1)
    load_weights(other, load_file(tmp_path / "weights.safetensors"), "here")
    ours, theirs = weights_of(network), weights_of(other)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        ("dynunet", {"filters": (8, 8, 8)}),
        ("segresnet", {"init_filters": 8}),
        ("attention_unet", {"filters": (8, 8, 8)}),
        ("vista3d", {"embed_dim": 32}),
    ],
)
def test_weights_of_another_size_are_refused(architecture: str, keys: dict[str, Any]) -> None:
    with pytest.raises(MinivessError) as caught:
        load_weights(build(make(architecture)), weights_of(build(make(architecture, **keys))), "")
    assert caught.value.code == "MV-STATE-003"


@pytest.mark.parametrize("architecture", [*TRAINED_HERE, "vesselfm", "sam"])
def test_the_seed_decides_the_weights(architecture: str) -> None:
    import torch

    one, again, other = (weights_of(build(make(architecture), seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_was_derived_is_told(architecture: str) -> None:
    facts = make(architecture).describe()
    assert facts
    assert all(name.startswith("arch_") and value for name, value in facts.items())


@pytest.mark.parametrize("architecture", ["vesselfm", "vista3d"])
def test_it_can_be_exported_for_the_window_that_it_is_used_with(architecture: str) -> None:
    """The program that ONNX is made of; test_sam.py and tests/deploy/test_onnx.py have files.

    What the files of these give is in docs/reference/models.md.
    """
    import torch

    made = make(architecture)
    assert not made.any_window()
    image = torch.empty(2, 1, *smallest(made), device="meta")

    def inputs() -> list[str]:
        batches = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(shapes_alone(made), (image,), dynamic_shapes=batches)
        return [str(name) for name in program.graph_signature.user_inputs]

    assert forked(inputs)


def test_every_architecture_has_its_keys_and_no_others(architecture: str) -> None:
    assert set(ARCHITECTURE_KEYS) == set(ADAPTERS)
    config = ModelConfig(architecture=architecture)
    assert set(config.model_dump()) == {"architecture", *ARCHITECTURE_KEYS[architecture]}
    assert ModelConfig.model_validate(config.model_dump()) == config
    own = {*SHARED_KEYS, *ARCHITECTURE_KEYS[architecture]}
    for key in set(ModelConfig.model_fields) - own:
        value = ModelConfig.model_fields[key].default
        with pytest.raises(ValueError, match=f"{architecture} has no key {key}"):
            ModelConfig.model_validate({"architecture": architecture, key: value})


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_its_published_weights_no_training_starts(name: str, tmp_path: Path) -> None:
    kind = "folder" if name == "sam" else "file"
    absent = str(tmp_path / "a.pt")
    for weights, said in ((None, f"no {kind} is named"), (absent, f"there is no {kind}")):
        made = make(name, weights=weights)
        with pytest.raises(MinivessError) as caught:
            made.start(made.build())
        assert caught.value.code == "MV-MODEL-001"
        assert said in caught.value.found
        assert "models.NAME.weights" in caught.value.fix


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(MinivessError) as caught:
        build_adapter(ModelConfig(architecture="dynunett"), SPACING)
    assert caught.value.code == "MV-CONFIG-003"
    assert caught.value.fix == "did you mean dynunet?"
