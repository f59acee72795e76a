from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minivess.config.schema import ModelConfig
from minivess.errors import MinivessError
from minivess.models import build_adapter
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded
from minivess.training.checkpoint import (
    CHECKPOINT,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

CANNOT_MOUNT = "needs root and the program mount for a small file system of its own"


def trained(seed: int = 0, steps: int = 2) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A network that has made some steps, and its optimizer."""
    import torch

    with torch_seeded(seed, "test"):
        network = build_adapter(ModelConfig(filters=(4, 8, 8)), (1.0, 1.0, 5.0)).build()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(steps):
            optimizer.zero_grad()
            network(torch.randn(1, 1, 8, 8, 4)).square().mean().backward()
            optimizer.step()
    return network, optimizer


def make_state(network: torch.nn.Module) -> TrainingState:
    history = [
        {"epoch": 1.0, "train/loss": 0.1 + 0.2, "train/learning_rate": 1e-3},
        {"epoch": 2.0, "train/loss": 1 / 3, "train/learning_rate": 0.0, "selection/dice": 2 / 3},
    ]
    best = {name: weights_of(network) for name in ("dice", "cldice")}
    return TrainingState(2, history, best, {}, weights_of(network))


def assert_equal_optimizers(one: torch.optim.Optimizer, two: torch.optim.Optimizer) -> None:
    import torch

    ours, theirs = one.state_dict()["state"], two.state_dict()["state"]
    assert set(ours) == set(theirs)
    for index, slots in ours.items():
        assert set(slots) == set(theirs[index])
        for name, tensor in slots.items():
            assert tensor.dtype == theirs[index][name].dtype
            assert torch.equal(tensor, theirs[index][name])


def test_everything_comes_back_bit_by_bit(tmp_path: Path) -> None:
    import torch

    network, optimizer = trained()
    best, _ = trained(steps=1)
    state = make_state(best)
    save_checkpoint(tmp_path, state, network, optimizer)
    other, other_optimizer = trained(seed=1, steps=0)
    found = load_checkpoint(tmp_path, other, other_optimizer)
    assert found is not None
    assert found.epoch == 2
    assert set(found.best) == {"dice", "cldice"}
    assert found.history == state.history
    assert_equal_optimizers(optimizer, other_optimizer)
    for ours, theirs in (
        (weights_of(network), weights_of(other)),
        (state.best["dice"], found.best["dice"]),
        (state.best["cldice"], found.best["cldice"]),
        (state.moving, found.moving),
    ):
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_next_step_is_the_same(tmp_path: Path) -> None:
    import torch

    network, optimizer = trained()
    save_checkpoint(tmp_path, make_state(network), network, optimizer)
    other, other_optimizer = trained(seed=1, steps=1)
    load_checkpoint(tmp_path, other, other_optimizer)
    image = torch.ones(1, 1, 8, 8, 4)
    for model, optim in ((network, optimizer), (other, other_optimizer)):
        optim.zero_grad()
        model(image).square().mean().backward()
        optim.step()
    ours, theirs = weights_of(network), weights_of(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_a_checkpoint_nothing_is_touched(tmp_path: Path) -> None:
    import torch

    network, optimizer = trained()
    before = weights_of(network)
    assert load_checkpoint(tmp_path / "none", network, optimizer) is None
    assert all(torch.equal(before[name], value) for name, value in weights_of(network).items())


def test_the_same_bytes_twice_and_nothing_left_over(tmp_path: Path) -> None:
    network, optimizer = trained()
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, make_state(network), network, optimizer)
    one, two = (tmp_path / name / CHECKPOINT for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [CHECKPOINT]


def test_a_state_without_best_weights_yet(tmp_path: Path) -> None:
    network, optimizer = trained()
    save_checkpoint(tmp_path, TrainingState(epoch=1), network, optimizer)
    found = load_checkpoint(tmp_path, *trained(seed=1, steps=0))
    assert found == TrainingState(epoch=1)


def damage(path: Path, kind: str) -> None:
    from safetensors.torch import save_file

    network, _ = trained(steps=0)
    content = path.read_bytes()
    contents = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "one byte short": content[:-1],
        "text": b"this is not a checkpoint, it is a sentence",
    }
    if kind in contents:
        path.write_bytes(contents[kind])
        return
    tensors = {f"network.{name}": tensor for name, tensor in weights_of(network).items()}
    metadata = {
        "no metadata": None,
        "other metadata": {"format": "pt"},
        "not JSON": {"state": "{"},
        "incomplete": {"state": '{"epoch": 1}'},
    }
    save_file(tensors, path, metadata=metadata[kind])


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "cut",
        "one byte short",
        "text",
        "no metadata",
        "other metadata",
        "not JSON",
        "incomplete",
    ],
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, kind: str) -> None:
    network, optimizer = trained()
    save_checkpoint(tmp_path, make_state(network), network, optimizer)
    damage(tmp_path / CHECKPOINT, kind)
    with pytest.raises(MinivessError) as caught:
        load_checkpoint(tmp_path, network, optimizer)
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == str(tmp_path / CHECKPOINT)
    assert "delete that file" in caught.value.fix


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    import torch

    network, optimizer = trained()
    save_checkpoint(tmp_path, make_state(network), network, optimizer)
    other = build_adapter(ModelConfig(filters=(4, 8, 16)), (1.0, 1.0, 5.0)).build()
    with pytest.raises(MinivessError) as caught:
        load_checkpoint(tmp_path, other, torch.optim.AdamW(other.parameters()))
    assert caught.value.code == "MV-STATE-003"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip(CANNOT_MOUNT)
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted: {made.stderr.strip()}")
    yield folder
    subprocess.run([umount, str(folder)], check=True)


def test_a_full_disk_leaves_the_earlier_checkpoint(small_disk: Path) -> None:
    network, optimizer = trained()
    save_checkpoint(small_disk, TrainingState(epoch=1), network, optimizer)
    before = (small_disk / CHECKPOINT).read_bytes()
    free = shutil.disk_usage(small_disk).free
    (small_disk / "other people's data").write_bytes(b"x" * (free - len(before) // 2))
    with pytest.raises(MinivessError) as caught:
        save_checkpoint(small_disk, make_state(network), network, optimizer)
    assert caught.value.code == "MV-SYSTEM-002"
    assert "free some space" in caught.value.fix
    assert (small_disk / CHECKPOINT).read_bytes() == before
    assert len(list(small_disk.iterdir())) == 2, "the half-written file is gone"
    found = load_checkpoint(small_disk, *trained(seed=1, steps=0))
    assert found is not None
    assert found.epoch == 1
    # With some space it goes on where it stopped.
    (small_disk / "other people's data").unlink()
    save_checkpoint(small_disk, make_state(network), network, optimizer)
    again = load_checkpoint(small_disk, *trained(seed=1, steps=0))
    assert again is not None
    assert again.epoch == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    network, optimizer = trained(steps=0)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        save_checkpoint(tmp_path / "file" / "state", make_state(network), network, optimizer)
    assert caught.value.code == "MV-SYSTEM-001"
