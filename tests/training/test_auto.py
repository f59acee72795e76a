"""What compute `auto` decides: within volumes and budget, divisible, the same on every machine."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import machine
from minivess.config.load import resolve_mapping
from minivess.config.models import ModelConfig
from minivess.config.profiles import PROFILES, read_profile
from minivess.config.schema import ComputeConfig, Experiment, PatchConfig, PatchKeys
from minivess.config.training import LossConfig
from minivess.data.patches import check_coarsest, check_patch_size
from minivess.errors import MinivessError
from minivess.models import ADAPTERS, build_adapter
from minivess.training import auto
from minivess.training.auto import choose_patches, choose_workers, decide, loss_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.data.preprocess import PreparedCase
    from minivess.models.adapter import ModelAdapter
    from minivess.types import Shape

AUTO = PatchKeys(patch_size="auto", batch_size="auto")
LOSS = LossConfig()


def cases(*shapes: Shape) -> list[PreparedCase]:
    made = [SimpleNamespace(shape=shape, case=f"case{n}") for n, shape in enumerate(shapes)]
    return cast("list[PreparedCase]", made)


def adapter(architecture: str = "dynunet", **changes: Any) -> ModelAdapter:
    profile = read_profile(architecture).model_copy(update=changes)
    config = ModelConfig(architecture=architecture, profile=profile)
    return build_adapter(config, (1.0, 1.0, 5.0))


def megabytes(made: ModelAdapter, patches: PatchConfig) -> float:
    voxels = patches.batch_size * math.prod(patches.patch_size)
    return (made.training_bytes(voxels) + loss_bytes(LOSS, voxels)) / 1e6


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(ADAPTERS)),
    st.lists(
        st.tuples(st.integers(20, 600), st.integers(20, 600), st.integers(3, 120)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([100.0, 1000.0, 4000.0, 40_000.0]),
)
def test_a_training_takes_what_was_chosen(
    architecture: str, shapes: list[Shape], budget: float
) -> None:
    made = adapter(architecture, budget_mb=budget)
    patches, decisions = choose_patches(AUTO, made, LOSS, cases(*shapes))
    divisor, largest = made.patch_divisor(), made.config.profile.largest_patch  # type: ignore[union-attr]
    check_patch_size(patches.patch_size, divisor, cases(*shapes), patches.pad_thin)
    check_coarsest(patches.patch_size, divisor)
    smallest = [min(shape[axis] for shape in shapes) for axis in range(3)]
    for axis, length in enumerate(patches.patch_size):
        # Longer than the smallest volume only where the network could not do with less.
        assert length <= max(smallest[axis], 2 * divisor[axis])
        assert length <= max(largest[axis], 2 * divisor[axis])
    assert patches.pad_thin == any(a > b for a, b in zip(patches.patch_size, smallest, strict=True))
    if megabytes(made, patches) > budget:  # nothing smaller is left
        assert patches.batch_size == 1
        assert sum(a > b for a, b in zip(patches.patch_size, divisor, strict=True)) <= 1
    assert [decision.name for decision in decisions] == ["data_patch_size", "data_batch_size"]
    assert all(decision.reason.startswith("auto: ") for decision in decisions)


def test_by_hand() -> None:
    made = adapter(budget_mb=4000, largest_patch=(128, 128, 32), batch_size=2)
    patches, decisions = choose_patches(AUTO, made, LOSS, cases((512, 512, 43), (512, 500, 12)))
    assert patches.patch_size == (128, 128, 12)
    assert patches.batch_size == 2
    assert not patches.pad_thin
    assert decisions[0].value == "128 128 12"
    assert "smallest volume 512 500 12" in decisions[0].reason
    assert "multiples of 8 8 2" in decisions[0].reason


def test_a_stack_thinner_than_the_network_needs_is_mirrored() -> None:
    patches, (size, _) = choose_patches(AUTO, adapter("vista3d"), LOSS, cases((512, 512, 5)))
    assert patches.patch_size[2] == 16
    assert patches.pad_thin
    assert "mirrored along z" in size.reason


def test_the_axis_that_is_longest_in_um_is_shortened_first() -> None:
    wide = adapter(budget_mb=1e9)
    free, _ = choose_patches(AUTO, wide, LOSS, cases((512, 512, 64)))
    tight = adapter(budget_mb=0.98 * megabytes(wide, free))
    patches, _ = choose_patches(AUTO, tight, LOSS, cases((512, 512, 64)))
    # 128 um along x and y, 160 um along z
    assert patches.patch_size == (128, 128, 30)


def test_what_is_set_by_hand_stays() -> None:
    keys = PatchKeys(patch_size=(64, 64, 8), batch_size="auto")
    patches, decisions = choose_patches(keys, adapter(batch_size=7), LOSS, cases((512, 512, 43)))
    assert patches.patch_size == (64, 64, 8)
    assert patches.batch_size == 7
    assert [decision.name for decision in decisions] == ["data_batch_size"]
    keys = PatchKeys(patch_size="auto", batch_size=5)
    patches, decisions = choose_patches(keys, adapter(), LOSS, cases((512, 512, 43)))
    assert patches.batch_size == 5
    assert [decision.name for decision in decisions] == ["data_patch_size"]
    plain = build_adapter(ModelConfig(), (1.0, 1.0, 5.0))
    patches, decisions = choose_patches(PatchKeys(), plain, LOSS, cases((8, 8, 8)))
    assert patches.model_dump() == PatchKeys().model_dump()
    assert decisions == ()


def test_devices_share_the_batch_equally() -> None:
    made = adapter(batch_size=2)
    patches, _ = choose_patches(AUTO, made, LOSS, cases((512, 512, 43)), devices=3)
    assert patches.batch_size % 3 == 0


def experiment(**values: Any) -> Experiment:
    patches = {"patch_size": "auto", "batch_size": "auto", **values.pop("patches", {})}
    return resolve_mapping({"name": "x", "patches": patches, **values}, {}, "test")


def test_the_machine_has_no_say_in_what_decides_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of half a GB and one of a TB, with a GPU and without: the same patches."""
    made = experiment(compute={"workers": "auto"})
    built = build_adapter(made.models["dynunet"], (1.0, 1.0, 5.0))
    seen = []
    for memory, cores in ((500.0, 1.0), (1e6, 64.0)):
        here = machine.Machine(cores, memory, memory, memory, (), frozenset())
        monkeypatch.setattr(auto, "look", lambda here=here: here)
        monkeypatch.setattr(auto, "free_bytes", lambda memory=memory: int(memory * 1e6))
        for on_gpu in (False, True):
            decided, decisions = decide(made, "dynunet", built, cases((512, 512, 43)), on_gpu)
            own = [(d.name, d.value) for d in decisions if not d.name.startswith("sys_")]
            seen.append((decided.patches, decided.models, own))
    assert seen == [seen[0]] * 4


def test_a_run_is_known_by_what_was_decided_not_from_what() -> None:
    made = experiment()
    built = build_adapter(made.models["dynunet"], (1.0, 1.0, 5.0))
    decided, _ = decide(made, "dynunet", built, cases((512, 512, 43)), on_gpu=False)
    assert "profile" not in decided.models["dynunet"].model_dump()
    assert decided.patches.patch_size != "auto"


def test_workers_are_for_a_gpu_and_fit_into_shared_memory() -> None:
    compute, patches = ComputeConfig(workers="auto"), PatchConfig()
    free = 10**10

    def chosen(on_gpu: bool, cores: float, free: int) -> int:
        decided, (decision,) = choose_workers(compute, patches, on_gpu, cores, free)
        assert decision.name == "sys_workers"
        assert decision.value == str(decided.workers)
        return cast("int", decided.workers)

    assert chosen(False, 16, free) == 0
    assert chosen(True, 16, free) == compute.most_workers == 4
    assert chosen(True, 3, free) == 2
    assert chosen(True, 1, free) == 0
    small = chosen(True, 16, 8_000_000)
    assert 0 < small < 4
    assert auto.needed_bytes(patches, small) <= 4_000_000 < auto.needed_bytes(patches, small + 1)


@pytest.mark.parametrize("architecture", sorted(ADAPTERS))
def test_every_network_has_a_profile_whose_memory_is_about_what_is_estimated(
    architecture: str,
) -> None:
    profile = read_profile(architecture)
    assert profile.architecture == architecture
    made = build_adapter(ModelConfig(architecture=architecture), (1.0, 1.0, 5.0))
    per_voxel = (made.training_bytes(2e6) - made.training_bytes(1e6)) / 1e6
    assert per_voxel == pytest.approx(profile.bytes_per_voxel, rel=0.25)
    patches, _ = choose_patches(AUTO, adapter(architecture), LOSS, cases((512, 512, 64)))
    assert megabytes(adapter(architecture), patches) < profile.budget_mb


def test_every_profile_is_of_a_network() -> None:
    assert {file.stem for file in PROFILES.glob("*.yaml")} == set(ADAPTERS)


def test_a_profile_is_read_where_something_is_auto_and_named_where_one_likes(
    tmp_path: Path,
) -> None:
    plain = resolve_mapping({"name": "x"}, {}, "test")
    assert plain.models["dynunet"].profile is None
    assert experiment().models["dynunet"].profile == read_profile("dynunet")
    file = tmp_path / "mine.yaml"
    text = (PROFILES / "dynunet.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("budget_mb: 4000", "budget_mb: 123"), encoding="utf-8")
    named = experiment(models={"net": {"profile": str(file)}}).models["net"].profile
    assert named is not None
    assert named.budget_mb == 123
    again = experiment(models={"net": {"profile": named.model_dump(mode="json")}})
    assert again.models["net"].profile == named, "a resolved config resolves to itself"


def test_mistakes_in_profiles_are_told(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        resolve_mapping({"name": "x", "models": {"net": {"profile": "dynunet"}}}, {}, "test")
    assert caught.value.code == "MV-CONFIG-004"
    with pytest.raises(MinivessError) as caught:
        experiment(models={"net": {"profile": "dynunett"}})
    assert caught.value.code == "MV-CONFIG-003"
    assert "dynunet" in caught.value.fix
    file = tmp_path / "bad.yaml"
    text = (PROFILES / "dynunet.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("budget_mb: 4000", "budget: 4000"), encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        experiment(models={"net": {"profile": str(file)}})
    assert caught.value.code == "MV-CONFIG-002"
    assert "budget" in caught.value.found


def test_thin_volumes_are_an_error_unless_they_are_to_be_mirrored() -> None:
    thin = cases((64, 64, 8))
    with pytest.raises(MinivessError):
        check_patch_size((64, 64, 16), (8, 8, 2), thin)
    check_patch_size((64, 64, 16), (8, 8, 2), thin, pad_thin=True)
    with pytest.raises(MinivessError) as caught:
        check_patch_size((64, 64, 15), (8, 8, 2), thin, pad_thin=True)
    assert caught.value.code == "MV-PATCH-002"
