"""Runs are known by key and digest: resumed, repeated and superseded runs on a real database."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import threading
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.errors import MinivessError
from minivess.tracking import mlflow_log as log
from minivess.tracking.address import sqlite_path
from minivess.tracking.store import connection, prepare_store
from minivess.types import RunKey

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run

PARAMS: dict[str, log.Scalar] = {"arch_filters": 16, "loss_smooth": 1.0, "sys_device": "cpu"}
TAGS = {"minivess.git_commit": "abc", "minivess.run_folder": "results/demo/runs/x"}


def _runs(uri: str, experiment: str, run: RunKey | None = None) -> list[Run]:
    number = prepare_store(uri, experiment)
    with connection(uri) as client:
        return log.runs_of(client, number, run)


def _history(handle: log.OpenRun, name: str) -> list[tuple[int, float]]:
    with connection(handle.uri) as client:
        return [(item.step, item.value) for item in client.get_metric_history(handle.run_id, name)]


def test_a_new_run_has_name_identity_params_and_tags(
    uri: str, experiment: str, run: RunKey
) -> None:
    handle = log.open_run(uri, experiment, run, "digest-a", PARAMS, TAGS)
    assert not handle.resumed
    (found,) = _runs(uri, experiment, run)
    assert found.info.run_id == handle.run_id
    assert found.info.run_name == "dynunet dice_ce seed0 fold1"
    assert found.info.status == "RUNNING"
    assert found.data.params == {"arch_filters": "16", "loss_smooth": "1.0", "sys_device": "cpu"}
    assert found.data.tags["minivess.run"] == "dynunet/dice_ce/seed0/fold1"
    assert found.data.tags["minivess.run_digest"] == "digest-a"
    assert TAGS.items() <= found.data.tags.items()
    assert "minivess.superseded" not in found.data.tags


def test_the_handle_is_frozen(uri: str, experiment: str, run: RunKey) -> None:
    handle = log.open_run(uri, experiment, run, "digest-a", {}, {})
    with pytest.raises(FrozenInstanceError):
        handle.run_id = "other"  # type: ignore[misc]


def test_the_same_identity_goes_on_with_its_own_run(uri: str, experiment: str, run: RunKey) -> None:
    first = log.open_run(uri, experiment, run, "digest-a", PARAMS, TAGS)
    log.log_epoch(first, 1, {"train/loss": 0.5})
    log.close_run(first, "KILLED")
    assert _runs(uri, experiment, run)[0].info.status == "KILLED"
    tags = {**TAGS, "minivess.git_commit": "def"}
    again = log.open_run(uri, experiment, run, "digest-a", PARAMS, tags)
    assert again == replace(first, resumed=True)
    (found,) = _runs(uri, experiment)
    assert found.info.status == "RUNNING"
    assert found.data.tags["minivess.git_commit"] == "def"
    assert found.data.metrics == {"train/loss": 0.5}


def test_system_params_may_differ_when_a_run_goes_on(
    uri: str, experiment: str, run: RunKey
) -> None:
    log.open_run(uri, experiment, run, "digest-a", PARAMS, {})
    for device in ("cuda", "cpu", "cpu"):
        log.open_run(uri, experiment, run, "digest-a", {**PARAMS, "sys_device": device}, {})
        (found,) = _runs(uri, experiment, run)
        assert found.data.params["sys_device"] == "cpu"
        assert found.data.tags.get("minivess.param/sys_device", "cpu") == device


def test_other_params_must_not_differ_under_the_same_digest(
    uri: str, experiment: str, run: RunKey
) -> None:
    log.open_run(uri, experiment, run, "digest-a", PARAMS, {})
    with pytest.raises(MinivessError) as caught:
        log.open_run(uri, experiment, run, "digest-a", {**PARAMS, "arch_filters": 32}, {})
    assert caught.value.code == "MV-STATE-001"
    assert (caught.value.found, caught.value.expected) == ("32", "16")


def test_another_digest_supersedes_and_going_back_restores(
    uri: str, experiment: str, run: RunKey
) -> None:
    other = replace(run, fold=2)
    log.open_run(uri, experiment, other, "digest-a", {}, {})

    def superseded() -> dict[str, bool]:
        return {
            f"{found.data.tags['minivess.run_digest']} {found.data.tags['minivess.fold']}": (
                found.data.tags.get("minivess.superseded") == "true"
            )
            for found in _runs(uri, experiment)
        }

    first = log.open_run(uri, experiment, run, "digest-a", {}, {})
    second = log.open_run(uri, experiment, run, "digest-b", {}, {})
    assert first.run_id != second.run_id
    assert superseded() == {"digest-a 1": True, "digest-b 1": False, "digest-a 2": False}
    back = log.open_run(uri, experiment, run, "digest-a", {}, {})
    assert back.run_id == first.run_id
    assert superseded() == {"digest-a 1": False, "digest-b 1": True, "digest-a 2": False}


def test_a_superseded_run_that_was_running_is_killed(
    uri: str, experiment: str, run: RunKey
) -> None:
    def statuses() -> dict[str, str]:
        return {
            f"{found.data.tags['minivess.run_digest']} {found.data.tags['minivess.fold']}": (
                found.info.status
            )
            for found in _runs(uri, experiment)
        }

    log.open_run(uri, experiment, replace(run, fold=2), "digest-a", {}, {})
    first = log.open_run(uri, experiment, run, "digest-a", {}, {})
    second = log.open_run(uri, experiment, run, "digest-b", {}, {})
    assert statuses() == {"digest-a 1": "KILLED", "digest-b 1": "RUNNING", "digest-a 2": "RUNNING"}
    log.close_run(second, "FINISHED")
    assert log.open_run(uri, experiment, run, "digest-a", {}, {}).run_id == first.run_id
    # What ended in its own way keeps its status.
    assert statuses() == {
        "digest-a 1": "RUNNING",
        "digest-b 1": "FINISHED",
        "digest-a 2": "RUNNING",
    }


def test_a_run_deleted_in_mlflow_is_made_again(uri: str, experiment: str, run: RunKey) -> None:
    first = log.open_run(uri, experiment, run, "digest-a", PARAMS, {})
    with connection(uri) as client:
        client.delete_run(first.run_id)
    again = log.open_run(uri, experiment, run, "digest-a", PARAMS, {})
    assert again.run_id != first.run_id
    assert not again.resumed


def test_tags_reach_every_run_of_an_experiment_and_no_other(
    tmp_path: Path, uri: str, experiment: str, run: RunKey
) -> None:
    for key, name in ((run, experiment), (replace(run, fold=7), experiment), (run, "other")):
        log.close_run(log.open_run(uri, name, key, "digest", {}, {}), "FAILED")
    assert log.tag_runs(uri, experiment, {"minivess.sweep": "rates"}) == 2
    found = [one.data.tags.get("minivess.sweep") for one in _runs(uri, experiment)]
    assert found == ["rates", "rates"]
    assert "minivess.sweep" not in _runs(uri, "other")[0].data.tags
    assert log.tag_runs(uri, "no_such_experiment", {"a": "b"}) == 0
    assert log.tag_runs(f"sqlite:///{tmp_path / 'none.db'}", experiment, {"a": "b"}) == 0
    assert not (tmp_path / "none.db").exists()


def test_an_epoch_is_logged_once(uri: str, experiment: str, run: RunKey) -> None:
    handle = log.open_run(uri, experiment, run, "digest-a", {}, {})
    for epoch in (1, 2, 3):
        log.log_epoch(handle, epoch, {"train/loss": 1 / epoch})
    handle = log.open_run(uri, experiment, run, "digest-a", {}, {})
    for epoch in (2, 3, 4):
        log.log_epoch(handle, epoch, {"train/loss": 1 / epoch, "selection/dice": epoch / 10})
    assert _history(handle, "train/loss") == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]
    assert _history(handle, "selection/dice") == [(2, 0.2), (3, 0.3), (4, 0.4)]


def test_an_epoch_with_another_value_is_logged_again(
    uri: str, experiment: str, run: RunKey
) -> None:
    handle = log.open_run(uri, experiment, run, "digest-a", {}, {})
    # Falling and rising, so that the newest is neither the largest nor the smallest.
    for value in (0.5, 0.3, 0.3, 0.4):
        log.log_epoch(handle, 1, {"train/loss": value, "train/learning_rate": 0.1})
        with connection(uri) as client:
            newest = log.newest_by_step(client, handle.run_id, "train/loss")
        assert newest[1].value == value
    assert sorted(_history(handle, "train/loss")) == [(1, 0.3), (1, 0.4), (1, 0.5)]
    assert _history(handle, "train/learning_rate") == [(1, 0.1)]
    (found,) = _runs(uri, experiment, run)
    assert found.data.metrics["train/loss"] == 0.4


@settings(deadline=None, max_examples=10)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=5))
def test_the_last_value_of_an_epoch_is_the_newest(
    template: Path, tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    path = shutil.copyfile(template, tmp_path_factory.mktemp("epochs") / "mlflow.db")
    handle = log.open_run(f"sqlite:///{path}", "demo", RunKey("m", "l", 0, 0), "digest-a", {}, {})
    for value in values:
        log.log_epoch(handle, 1, {"train/loss": value})
    changes = sum(a != b for a, b in pairwise([None, *values]))
    assert len(_history(handle, "train/loss")) == changes
    (found,) = _runs(handle.uri, "demo")
    assert found.data.metrics == {"train/loss": values[-1]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_refused(
    uri: str, experiment: str, run: RunKey, value: float
) -> None:
    handle = log.open_run(uri, experiment, run, "digest-a", {}, {})
    with pytest.raises(ValueError, match="train/loss"):
        log.log_epoch(handle, 1, {"train/loss": value})
    assert _history(handle, "train/loss") == []


def test_texts_that_mlflow_would_cut_are_refused(uri: str, experiment: str, run: RunKey) -> None:
    with pytest.raises(ValueError, match="arch_x has 6001"):
        log.open_run(uri, experiment, run, "digest-a", {"arch_x": "x" * 6001}, {})
    with pytest.raises(ValueError, match="note has 8001"):
        log.open_run(uri, experiment, run, "digest-a", {}, {"note": "x" * 8001})


def test_more_values_than_a_batch_takes(uri: str, experiment: str, run: RunKey) -> None:
    params: dict[str, log.Scalar] = {f"arch_{index}": index for index in range(230)}
    tags = {f"tag{index}": str(index) for index in range(230)}
    handle = log.open_run(uri, experiment, run, "digest-a", params, tags)
    values = {f"train/{index}": index / 7 for index in range(1100)}
    log.log_epoch(handle, 1, values)
    (found,) = _runs(uri, experiment, run)
    assert found.data.params == {name: str(value) for name, value in params.items()}
    assert tags.items() <= found.data.tags.items()
    assert found.data.metrics == values


def test_a_database_locked_during_training(uri: str, experiment: str, run: RunKey) -> None:
    handle = log.open_run(uri, experiment, run, "digest-a", {}, {}, timeout_s=0.3)
    path = sqlite_path(uri)
    assert path is not None
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        for call in (
            lambda: log.log_epoch(handle, 1, {"train/loss": 1.0}),
            lambda: log.close_run(handle, "FINISHED"),
            lambda: log.open_run(uri, experiment, run, "digest-a", {}, {}, timeout_s=0.3),
        ):
            with pytest.raises(MinivessError) as caught:
                call()
            assert caught.value.code == "MV-TRACK-001"
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    log.log_epoch(handle, 1, {"train/loss": 1.0})
    assert _history(handle, "train/loss") == [(1, 1.0)]


def test_a_database_deleted_during_training(uri: str, experiment: str, run: RunKey) -> None:
    handle = log.open_run(uri, experiment, run, "digest-a", {}, {})
    path = sqlite_path(uri)
    assert path is not None
    path.unlink()
    with pytest.raises(MinivessError) as caught:
        log.log_epoch(handle, 1, {"train/loss": 1.0})
    assert caught.value.code == "MV-TRACK-001"
    assert not path.exists()


@settings(deadline=None)
@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.booleans(), st.none()))
def test_numbers_survive_as_text(value: log.Scalar) -> None:
    assert json.loads(log.as_text(value)) == value


def test_a_signal_does_not_cut_short_what_a_failed_training_writes(
    uri: str, experiment: str, run: RunKey
) -> None:
    from minivess.steps.train import _end_unfinished

    handle = log.open_run(uri, experiment, run, "digest-a", {}, {})
    path = sqlite_path(uri)
    assert path is not None
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    timers = [
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)),
        threading.Timer(1.0, holder.execute, ("ROLLBACK",)),
    ]
    try:
        for timer in timers:
            timer.start()
        _end_unfinished(handle, RuntimeError("the companion is gone"))
        for timer in timers:
            timer.join()
        assert not received
        assert _runs(uri, experiment, run)[0].info.status == "FAILED"
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM], "afterwards signals are answered again"
    finally:
        signal.signal(signal.SIGTERM, before)
        holder.close()
