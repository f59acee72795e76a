"""The store on real SQLite files and real ports: created once, bounded waits, clear errors."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from minivess.errors import MinivessError
from minivess.tracking import address, store

if TYPE_CHECKING:
    from pathlib import Path

# All of them start from a process that has imported MLflow: they collide more, and it is quicker.
RACE = """
import multiprocessing
import sys
from minivess.tracking.mlflow_log import close_run, log_epoch, open_run
from minivess.types import RunKey

def work(uri, fold):
    run = open_run(uri, "race", RunKey("dynunet", "dice_ce", 0, fold), "digest", {"arch_a": 1}, {})
    for epoch in range(1, 4):
        log_epoch(run, epoch, {"train/loss": 1 / epoch})
    close_run(run, "FINISHED")

if __name__ == "__main__":
    quick = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if quick else "spawn")
    if quick:
        context.set_forkserver_preload(["mlflow"])
    folds = [int(fold) for fold in sys.argv[2:]]
    workers = [context.Process(target=work, args=(sys.argv[1], fold)) for fold in folds]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode) for worker in workers))
"""


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_default_is_sqlite_even_beside_an_old_mlruns_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    old = tmp_path / "mlruns" / "0"
    old.mkdir(parents=True)
    (old / "meta.yaml").write_text("name: Default\n", encoding="utf-8")
    uri = address.tracking_uri()
    assert uri == "sqlite:///mlflow.db"
    store.prepare_store(uri, "demo")
    assert (tmp_path / "mlflow.db").stat().st_size > 0
    assert sorted(path.name for path in old.iterdir()) == ["meta.yaml"]


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///data/mlruns", "C:\\data\\mlruns"])
def test_file_stores_are_refused_with_the_way_out(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(MinivessError) as caught:
        address.tracking_uri()
    assert caught.value.code == "MV-TRACK-002"
    assert "mlflow migrate-filestore --source" in caught.value.fix
    with pytest.raises(MinivessError) as caught:
        store.prepare_store(uri, "demo")
    assert caught.value.code == "MV-TRACK-002"


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:"])
def test_databases_in_memory_are_refused(uri: str) -> None:
    with pytest.raises(MinivessError) as caught:
        store.prepare_store(uri, "demo")
    assert caught.value.code == "MV-TRACK-002"


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    assert address.tracking_uri() == address.DEFAULT_URI


def test_preparing_twice_gives_the_same_experiment(uri: str, experiment: str) -> None:
    first = store.prepare_store(uri, experiment)
    assert store.prepare_store(uri, experiment) == first
    assert store.prepare_store(uri, "other") != first


def test_artifacts_are_placed_in_the_results_folder(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.prepare_store(uri, "elsewhere")
    with store.connection(uri) as client:
        found = client.get_experiment_by_name("elsewhere")
    assert found is not None
    assert found.artifact_location.endswith("results/elsewhere")
    assert not (tmp_path / "mlruns").exists()


def test_a_deleted_experiment_is_restored(uri: str, experiment: str) -> None:
    number = store.prepare_store(uri, experiment)
    with store.connection(uri) as client:
        client.delete_experiment(number)
    assert store.prepare_store(uri, experiment) == number
    with store.connection(uri) as client:
        assert client.get_experiment(number).lifecycle_stage == "active"


def test_a_locked_database_ends_in_a_bounded_wait(uri: str, experiment: str) -> None:
    path = address.sqlite_path(uri)
    assert path is not None
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        start = time.monotonic()
        with pytest.raises(MinivessError) as caught:
            store.prepare_store(uri, experiment, timeout_s=0.5)
        assert 0.4 < time.monotonic() - start < 5
        with pytest.raises(MinivessError), store.connection(uri, 0.1, write=False):
            pass
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert caught.value.code == "MV-TRACK-001"
    assert "locked" in caught.value.found
    assert "another program holds the database" in caught.value.fix
    assert store.prepare_store(uri, experiment, timeout_s=0.5)


def test_a_database_that_lacks_a_table_is_an_error_of_the_same_kind(uri: str) -> None:
    with sqlite3.connect(address.sqlite_path(uri) or "") as database:
        database.execute("ALTER TABLE experiments RENAME TO gone")
    database.close()
    with (
        pytest.raises(MinivessError) as caught,
        store.connection(uri, 0.5) as client,
    ):
        client.get_experiment_by_name("demo")
    assert caught.value.code == "MV-TRACK-001"


@pytest.mark.parametrize("content", [b"this is not a database " * 100, b"SQLite format 3\0" * 99])
def test_a_corrupt_database_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(MinivessError) as caught:
        store.prepare_store(f"sqlite:///{path}", "demo", timeout_s=0.5)
    assert caught.value.code == "MV-TRACK-001"
    assert str(path) in caught.value.where
    assert "move mlflow.db away" in caught.value.fix
    assert time.monotonic() - start < 5
    assert path.read_bytes() == content


def test_a_server_that_is_not_there_is_an_error_within_seconds(free_port: int) -> None:
    start = time.monotonic()
    with pytest.raises(MinivessError) as caught:
        store.prepare_store(f"http://127.0.0.1:{free_port}", "demo")
    assert caught.value.code == "MV-TRACK-001"
    assert time.monotonic() - start < 20


def test_a_database_server_that_is_not_there_hides_the_password(free_port: int) -> None:
    uri = f"postgresql://ada:secret@127.0.0.1:{free_port}/mlflow"
    with pytest.raises(MinivessError) as caught:
        store.prepare_store(uri, "demo", timeout_s=1)
    assert caught.value.code == "MV-TRACK-001"
    assert "secret" not in str(caught.value)
    assert "ada:***@127.0.0.1" in caught.value.where


def test_a_value_that_mlflow_refuses_is_not_blamed_on_the_database(uri: str) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException), store.connection(uri) as client:
        client.get_run("not a run id!")


def test_a_deleted_database_is_created_again_in_the_same_process(uri: str, experiment: str) -> None:
    path = address.sqlite_path(uri)
    assert path is not None
    for name in ("one", "two"):
        store.prepare_store(uri, name)
        path.unlink()
    # Of an earlier database that was being written when its process was killed.
    path.with_name(path.name + "-journal").write_bytes(b"left behind")
    path.with_name(".creating.mlflow.db").write_bytes(b"left behind")
    store.prepare_store(uri, experiment)
    with store.connection(uri) as client:
        names = {found.name for found in client.search_experiments()}
    assert names == {"Default", experiment}
    assert sorted(found.name for found in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_processes_that_start_at_once_share_one_fresh_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    script = tmp_path / "race.py"
    script.write_text(RACE, encoding="utf-8")
    # Two of them open the very same run.
    done = subprocess.run(
        [sys.executable, str(script), uri, "0", "0", "1"],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with store.connection(uri) as client:
        assert {found.name for found in client.search_experiments()} == {"Default", "race"}
        found = client.get_experiment_by_name("race")
        assert found is not None
        runs = client.search_runs([found.experiment_id])
        assert sorted(run.data.tags["minivess.fold"] for run in runs) == ["0", "1"]
        for run in runs:
            assert run.data.metrics == {"train/loss": 1 / 3}
            assert run.info.status == "FINISHED"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "race.py"]
