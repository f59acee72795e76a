"""When memory runs out: smaller batches, recorded, with the bytes of that configuration."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from minivess import paths
from minivess.config.load import write_step_files
from minivess.config.schema import InferenceConfig
from minivess.data.volume import read_note
from minivess.errors import MinivessError
from minivess.inference import memory
from minivess.inference.memory import is_out_of_memory, smaller_windows
from minivess.models.dynunet import DynUNetAdapter
from minivess.steps import train as steps
from minivess.steps.notes import memory_notes
from minivess.training.memory import smaller_batches
from minivess.types import RunKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.config.schema import Experiment

RUN = RunKey("dynunet", "dice_ce", 0, 0)
FAST: dict[str, Any] = {
    "patches": {"batch_size": 4, "patches_per_epoch": 8},
    "training": {"epochs": 2},
    "compute": {"profile": "fast"},
}


@pytest.fixture
def folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the experiment's data that a training may write beside."""
    copy = tmp_path / "results" / "demo"
    shutil.copytree(root, copy)
    monkeypatch.chdir(tmp_path)
    # Its database takes seconds to make, and has no part in this.
    for name in ("open_run", "log_epoch", "close_run"):
        monkeypatch.setattr(f"minivess.tracking.mlflow_log.{name}", lambda *_: None)
    return copy


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What people and the log are told."""
    told: list[str] = []
    for module in (steps, memory):
        monkeypatch.setattr(module, "say", told.append)
    return told


def trained(folder: Path, experiment: Experiment) -> tuple[dict[str, Any], bytes]:
    """Record and weights of the run."""
    write_step_files(experiment, folder / "config")
    steps.train(folder, RUN, "none")
    run = paths.run_folder(folder, RUN)
    record = json.loads(paths.run_record(run).read_text(encoding="utf-8"))
    return record, paths.weights(run).read_bytes()


def on_gpu() -> None:
    """What torch raises where the memory of a GPU is too small."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def on_cpu() -> None:
    """More than any machine has: the system refuses, and torch says so."""
    torch.empty(2**50)


def in_numpy() -> None:
    np.empty(2**50)


def at_most(
    monkeypatch: pytest.MonkeyPatch, batch: int, failing: Callable[[], None] = on_gpu
) -> None:
    """Memory that has room for so many patches."""
    heads = DynUNetAdapter.heads

    def limited(self: DynUNetAdapter, output: torch.Tensor) -> list[torch.Tensor]:
        if len(output) > batch and output.requires_grad:
            failing()
        return heads(self, output)

    monkeypatch.setattr(DynUNetAdapter, "heads", limited)


@pytest.mark.parametrize("failing", [on_gpu, on_cpu])
def test_smaller_batches_give_the_bytes_of_that_configuration_and_are_recorded(
    failing: Callable[[], None],
    folder: Path,
    make_experiment: Callable[..., Experiment],
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    with monkeypatch.context() as small:
        at_most(small, 1, failing)
        record, weights = trained(folder, make_experiment(**FAST))
    assert "out of memory with 4 patches" in " ".join(said)
    assert record["params"]["out_of_memory"] == "batch_size=1 accumulate=4"
    assert record["params"]["data_batch_size"] == 1
    assert record["params"]["accumulate"] == 4
    assert "out_of_memory" in {decision["name"] for decision in record["decisions"]}
    assert memory_notes(folder) == [
        f"Out of memory: {RUN} was trained with batch_size=1 accumulate=4."
    ]
    by_hand = {**FAST, "patches": {**FAST["patches"], "batch_size": 1}}
    by_hand["training"] = {**FAST["training"], "accumulate": 4}
    expected, same = trained(folder, make_experiment(**by_hand))
    assert weights == same
    assert record["run_digest"] == expected["run_digest"]
    assert memory_notes(folder) == []


def test_what_auto_decided_stays_in_the_record(
    folder: Path,
    make_experiment: Callable[..., Experiment],
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    profile = {
        "architecture": "dynunet",
        "budget_mb": 4000,
        "largest_patch": (16, 16, 8),
        "batch_size": 4,
        "bytes_per_voxel": 1740,
    }
    auto = {"patches": {"patch_size": "auto", "batch_size": "auto"}, "training": {"epochs": 1}}
    at_most(monkeypatch, 1)
    record, _ = trained(
        folder, make_experiment(**{**FAST, **auto}, models={"dynunet": {"profile": profile}})
    )
    facts = json.loads(paths.run_provenance(folder, RUN).read_text(encoding="utf-8"))
    for decisions in (record["decisions"], facts["decisions"]):
        names = [one["name"] for one in decisions if not one["name"].startswith(("arch_", "sys_"))]
        assert names == ["data_patch_size", "data_batch_size", "out_of_memory"]
        patch, batch, lowered = decisions[-3:]
        assert "smallest volume 24 24 8" in patch["reason"]
        assert batch["value"] == "4"
        assert "the profile's budget" in batch["reason"]
        assert lowered["value"] == "batch_size=1 accumulate=4"
    taken = [record["params"][name] for name in ("data_patch_size", "data_batch_size")]
    assert taken == ["16 16 8", 1]
    assert "data_batch_size" not in facts["params"]


def test_the_profile_strict_says_which_keys_to_set(
    folder: Path, make_experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_most(monkeypatch, 1)
    strict = {**FAST, "compute": {"profile": "strict"}}
    with pytest.raises(MinivessError) as caught:
        trained(folder, make_experiment(**strict))
    assert caught.value.code == "MV-SYSTEM-006"
    assert "patches.batch_size=2 and training.accumulate=2" in caught.value.fix
    assert "With compute.profile=fast it is lowered by itself" in caught.value.fix
    assert "4 patches of 16 x 16 x 8" in caught.value.found


def test_a_single_patch_that_is_too_large_is_an_error(
    folder: Path, make_experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_most(monkeypatch, 0)
    with pytest.raises(MinivessError) as caught:
        trained(folder, make_experiment(**FAST))
    assert caught.value.code == "MV-SYSTEM-006"
    assert "patches.patch_size" in caught.value.fix


def test_another_error_is_none_of_memory(
    folder: Path, make_experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DynUNetAdapter, output: torch.Tensor) -> list[torch.Tensor]:
        raise RuntimeError("expected scalar type Float")

    monkeypatch.setattr(DynUNetAdapter, "heads", broken)
    with pytest.raises(RuntimeError, match="scalar type"):
        trained(folder, make_experiment(**FAST))


def test_devices_share_a_batch_so_none_of_them_lowers_it_alone(
    make_experiment: Callable[..., Experiment],
) -> None:
    shared = {"profile": "fast", "devices": 2}
    for batch, fix in (
        (4, "set patches.batch_size=2 and training.accumulate=2"),
        (6, "set patches.batch_size=2 and training.accumulate=3"),
        (2, "set a smaller patches.patch_size"),
    ):
        made = make_experiment(**{**FAST, "patches": {"batch_size": batch}, "compute": shared})
        with pytest.raises(MinivessError) as caught:
            smaller_batches(made, made.patches, MemoryError())
        assert caught.value.code == "MV-SYSTEM-006"
        assert caught.value.fix.startswith(fix)
        assert "by itself" not in caught.value.fix, "it is not, with several devices"


@pytest.mark.parametrize(("batch", "less", "more"), [(4, 2, 2), (9, 3, 3), (7, 1, 7)])
def test_a_step_has_as_many_patches_as_before(
    make_experiment: Callable[..., Experiment], batch: int, less: int, more: int
) -> None:
    made = make_experiment(**{**FAST, "patches": {"batch_size": batch}})
    lowered, decision = smaller_batches(made, made.patches, MemoryError())
    assert (lowered.patches.batch_size, lowered.training.accumulate) == (less, more)
    assert decision.value == f"batch_size={less} accumulate={more}"


def test_errors_of_memory_are_known() -> None:
    caused = ValueError("wrapped")
    caused.__cause__ = MemoryError()
    for error in (MemoryError(), torch.OutOfMemoryError("x"), caused):
        assert is_out_of_memory(error)
    for failing in (on_gpu, on_cpu, in_numpy):
        with pytest.raises((MemoryError, RuntimeError)) as met:
            failing()
        assert is_out_of_memory(met.value)
    for other in (RuntimeError("no"), ValueError("can't allocate memory"), KeyError("memory")):
        assert not is_out_of_memory(other)


def test_a_prediction_lowers_windows_then_overlap() -> None:
    inference, seen = InferenceConfig(), []
    for _ in range(5):
        inference, decision = smaller_windows(inference, "fast", MemoryError())
        seen.append(decision.value)
    with pytest.raises(MinivessError) as caught:
        smaller_windows(inference, "fast", MemoryError())
    assert seen == [
        "window_batch=2",
        "window_batch=1",
        "overlap=0.25",
        "overlap=0.125",
        "overlap=0",
    ]
    assert "window_size" in caught.value.fix
    assert "by itself" not in caught.value.fix
    with pytest.raises(MinivessError) as caught:
        smaller_windows(InferenceConfig(), "strict", MemoryError())
    assert "inference.window_batch=2" in caught.value.fix


def test_a_prediction_goes_on_with_less_where_it_may(
    folder: Path,
    make_experiment: Callable[..., Experiment],
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    from minivess.inference import predict

    record, _ = trained(folder, make_experiment(**FAST))
    (case, *_) = record["cases"]["validation"]
    real, tried = predict.predict_case, []
    files = [
        kind(paths.run_folder(folder, RUN), case) for kind in (paths.prediction, paths.probability)
    ]
    steps.predict(folder, RUN, case)
    before = [path.read_bytes() for path in files]
    assert [read_note(path) for path in files] == ["", ""]
    assert memory_notes(folder) == []

    def limited(trained: Any, prepared: Any, inference: InferenceConfig, compute: Any) -> Any:
        tried.append((inference.window_batch, inference.overlap))
        if inference.window_batch > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(trained, prepared, inference, compute)

    monkeypatch.setattr(predict, "predict_case", limited)
    steps.predict(folder, RUN, case)
    assert tried == [(4, 0.5), (2, 0.5), (1, 0.5)]
    assert paths.prediction(paths.run_folder(folder, RUN), case).is_file()
    assert "window_batch=1" in " ".join(said)
    # Both files say so, the summary too; the next prediction that needs no less is as the first.
    note = "window_batch=1 after out of memory"
    assert [read_note(path) for path in files] == [note, note]
    assert memory_notes(folder) == [f"Prediction of {case} by {RUN}: {note}."]
    monkeypatch.setattr(predict, "predict_case", real)
    steps.predict(folder, RUN, case)
    assert [path.read_bytes() for path in files] == before
    monkeypatch.setattr(predict, "predict_case", limited)
    write_step_files(make_experiment(compute={"profile": "strict"}), folder / "config")
    with pytest.raises(MinivessError, match="MV-SYSTEM-006"):
        steps.predict(folder, RUN, case)
