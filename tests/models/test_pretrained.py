"""Published weights: from a file, whole, or not at all. The weights here are random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from minivess.config.models import ModelConfig
from minivess.errors import MinivessError
from minivess.models import build_adapter
from minivess.models.one_logit import SPECIAL, ClassPrompted, ReversedAxes, two_channels
from minivess.models.pretrained import Source, load_pretrained, read_state
from minivess.models.segresnet import scales
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.types import Spacing

pytestmark = pytest.mark.usefixtures("monai")

SOURCE = Source("Somebody's network", "theirs.pt", "https://example.org")


def network(seed: int = 0) -> torch.nn.Module:
    with torch_seeded(seed, "test"):
        return torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = weights_of(one), weights_of(other)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model": {f"model.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_weights_come_out_of_what_trainers_put_around_them(
    wrap: Callable[[dict[str, torch.Tensor]], object], tmp_path: Path
) -> None:
    theirs, ours = network(1), network()
    torch.save(wrap(dict(theirs.state_dict())), tmp_path / "theirs.pt")
    load_pretrained(ours, str(tmp_path / "theirs.pt"), SOURCE)
    assert equal(ours, theirs)


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    theirs, ours = network(1), network()
    save_file(weights_of(theirs), tmp_path / "theirs.safetensors")
    load_pretrained(ours, str(tmp_path / "theirs.safetensors"), SOURCE)
    assert equal(ours, theirs)


class Runs:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code of a file has run')",))


@pytest.mark.parametrize("content", [Runs(), {"weight": Runs()}, b"no file of torch's", [1, 2], {}])
def test_what_is_not_tensors_is_not_opened(content: object, tmp_path: Path) -> None:
    file = tmp_path / "theirs.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(MinivessError) as caught:
        read_state(file)
    assert caught.value.code == "MV-MODEL-002"
    assert caught.value.where == str(file)


def test_every_weight_must_fit(tmp_path: Path) -> None:
    state = dict(network(1).state_dict())
    first = next(iter(state))
    wrong = (
        {name: tensor for name, tensor in state.items() if name != first},
        {**state, "surplus": state[first]},
        {**state, first: torch.zeros(3)},
    )
    for number, content in enumerate(wrong):
        file = tmp_path / f"{number}.pt"
        torch.save(content, file)
        ours = network()
        with pytest.raises(MinivessError) as caught:
            load_pretrained(ours, str(file), SOURCE)
        assert caught.value.code == "MV-MODEL-002"
        assert "Somebody's network" in caught.value.what
        assert equal(ours, network()), "nothing of it was taken"


def test_tensors_that_a_network_lists_twice_are_read_from_either_list(tmp_path: Path) -> None:
    """DynUNet's published weights have both names of what its skips share: 180 for 62 tensors."""
    from minivess.models.dynunet import DynUNetAdapter

    adapter = DynUNetAdapter(ModelConfig(filters=(4, 4, 4)), (1.0, 1.0, 1.0))
    with torch_seeded(1, "test"):
        theirs = adapter.build()
    both, once = dict(theirs.state_dict()), weights_of(theirs)
    assert len(both) > len(once)
    for number, content in enumerate((both, once)):
        torch.save(content, tmp_path / f"{number}.pt")
        ours = adapter.build()
        load_pretrained(ours, str(tmp_path / f"{number}.pt"), SOURCE)
        assert equal(ours, theirs)


def test_probabilities_are_the_sigmoid_of_the_one_logit() -> None:
    logit = torch.linspace(-8, 8, 64).reshape(1, 1, 4, 4, 4)
    both = two_channels(logit)
    assert torch.allclose(both.softmax(1)[:, 1:], logit.sigmoid())
    assert torch.equal(both.argmax(1, keepdim=True), (logit > 0).long())


def test_vesselfm_is_the_published_network() -> None:
    """31,418,977 weights under 180 names, as those who loaded the published file report."""
    made = build_adapter(ModelConfig(architecture="vesselfm"), (1.0, 1.0, 5.0)).build()
    inner = made.get_submodule("network")
    assert sum(parameter.numel() for parameter in inner.parameters()) == 31_418_977
    assert len(inner.state_dict()) == 180


def test_axes_are_reversed_for_the_network_and_back() -> None:
    class Slices(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * torch.arange(image.shape[2])[:, None, None]

    image = torch.ones(1, 1, 2, 3, 4)
    vessel = ReversedAxes(Slices())(image)[:, 1]
    assert torch.equal(vessel[0, 0, 0], torch.arange(4.0)), "its first axis is our z"


@pytest.fixture(scope="module")
def vista() -> ClassPrompted:
    config = ModelConfig(architecture="vista3d", embed_dim=24)
    with torch_seeded(0, "test"):
        made = build_adapter(config, (1.0, 1.0, 5.0)).build().eval()
    assert isinstance(made, ClassPrompted)
    return made


def test_the_class_prompt_decides_what_is_segmented(vista: ClassPrompted) -> None:
    image = torch.randn(2, 1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    other = ClassPrompted(vista.network, 6)
    with torch.no_grad():
        one, two = vista(image), other(image)
    assert one.shape == (2, 2, 32, 16, 16)
    assert not torch.allclose(one, two)
    assert torch.equal(one[:, 0], torch.zeros_like(one[:, 0]))


def test_points_are_a_prompt_of_their_own(vista: ClassPrompted) -> None:
    image = torch.randn(1, 1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[4, 5, 6], [20, 8, 8]])
    with torch.no_grad():
        both = vista.points(image, points, torch.tensor([True, True]))
        one_out = vista.points(image, points, torch.tensor([True, False]))
        moved = vista.points(image, points + 3, torch.tensor([True, True]))
    assert both.shape == (1, 2, 32, 16, 16)
    assert not torch.allclose(both, one_out)
    assert not torch.allclose(both, moved)


def test_points_of_special_classes_have_labels_of_their_own(vista: ClassPrompted) -> None:
    """The same labels as VISTA-3D's own conversion gives."""
    seen: dict[str, torch.Tensor] = {}

    class Records(torch.nn.Module):
        def forward(self, image: torch.Tensor, **prompts: torch.Tensor) -> torch.Tensor:
            seen.update(prompts)
            return image

    convert = vista.network.convert_point_label
    for class_prompt in (6, 25, 133):
        made = ClassPrompted(Records(), class_prompt)
        made.points(torch.zeros(1, 1, 4, 4, 4), torch.zeros(2, 3), torch.tensor([True, False]))
        assert torch.equal(
            seen["point_labels"], convert(torch.tensor([[1, 0]]), label_set=[class_prompt])
        )
        assert (class_prompt in SPECIAL) == (int(seen["point_labels"].max()) == 3)


def test_the_branch_for_points_is_not_trained(vista: ClassPrompted) -> None:
    inner = vista.network
    trained = {name for name, parameter in inner.named_parameters() if parameter.requires_grad}
    assert not [name for name in trained if name.startswith("point_head")]
    assert not [name for name in trained if name.startswith("image_encoder.up_layers.")]
    assert [name for name in trained if name.startswith("image_encoder.up_layers_auto.")]


def test_vista_starts_from_its_file_alone(vista: ClassPrompted, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "bundle.safetensors"
    save_file(weights_of(vista.network), file)
    config = ModelConfig(architecture="vista3d", embed_dim=24, weights=str(file))
    adapter = build_adapter(config, (1.0, 1.0, 5.0))
    other = adapter.build()
    adapter.start(other)
    assert equal(other, vista)


@pytest.mark.parametrize(
    "spacing",
    [(1.0, 1.0, 5.0), (1.0, 1.0, 1.0), (1.0, 1.0, 2.0), (1.0, 2.0, 5.0), (0.99, 0.99, 5.0)],
)
def test_the_scales_of_segresnet_are_monais(spacing: Spacing) -> None:
    from monai.networks.nets.segresnet_ds import scales_for_resolution

    theirs = scales_for_resolution(spacing, n_stages=4)
    assert scales(spacing, 4) == [tuple(int(length) for length in scale) for scale in theirs]
