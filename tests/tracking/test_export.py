"""The tables come from MLflow alone, and are the same bytes from any database."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from minivess.errors import MinivessError
from minivess.statistics import tables
from minivess.tracking.export import TABLES, export_tables, write_tables
from minivess.tracking.mlflow_log import close_run, log_epoch, open_run
from minivess.tracking.store import connection, prepare_store
from minivess.tracking.sync import sync_experiment
from minivess.types import RunKey

if TYPE_CHECKING:
    from pathlib import Path

type Folder = Any


def _digests(exported: dict[str, pl.DataFrame], root: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in write_tables(exported, root)
    }


def test_the_tables_have_what_the_files_have(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    runs = [run, replace(run, fold=0), replace(run, model="unetr")]
    sources = {key: run_folder(key, statuses={("mv01", "dice"): "both_empty"}) for key in runs}
    for source in sources.values():
        source.write(root)
    sync_experiment(uri, experiment, root, runs)
    shutil.rmtree(root)
    exported = export_tables(uri, experiment, runs)
    assert tuple(exported) == TABLES
    for name, table in exported.items():
        tables.schema(name).validate(table)
    cases = [
        row
        for source in sources.values()
        for case in source.cases
        for row in source.case_rows(case)
    ]
    assert exported["cases"].equals(tables.from_rows("cases", cases))
    assert exported["runs"]["status"].to_list() == ["FINISHED"] * 3
    assert exported["runs"]["run_digest"].unique().to_list() == ["digest-a"]
    assert exported["runs"]["best_selection_dice"].to_list() == [1 / 7] * 3
    history = [
        {**source.columns(), "epoch": epoch, "name": name, "value": value}
        for source in sources.values()
        for name, curve in source.history().items()
        for epoch, value in curve.items()
    ]
    assert exported["history"].equals(tables.from_rows("history", history))
    one = exported["params"].filter(pl.col("model") == "unetr")
    assert dict(one.select("name", "value").iter_rows()) == {
        "arch_filters": "16",
        "loss_smooth": "1.0",
        "eval_tolerance": "2.0",
    }
    means = (
        exported["cases"]
        .group_by("model", "fold", "metric")
        .agg(pl.col("value").mean(), n=pl.len(), bad=(pl.col("status") != "ok").sum())
    )
    joined = exported["metrics"].join(means, on=["model", "fold", "metric"])
    assert joined.height == 6
    for row in joined.iter_rows(named=True):
        assert row["mean"] == pytest.approx(row["value"], rel=1e-14)
        assert (row["n_cases"], row["n_not_ok"]) == (row["n"], row["bad"])
    assert exported["metrics"]["n_not_ok"].sum() == 3


def test_two_databases_with_different_pasts_give_the_same_bytes(
    uri: str,
    template: Path,
    tmp_path: Path,
    experiment: str,
    root: Path,
    run: RunKey,
    run_folder: type[Folder],
) -> None:
    runs = [run, replace(run, fold=0)]
    other = f"sqlite:///{shutil.copyfile(template, tmp_path / 'other.db')}"
    # One database saw an older configuration, a crash, a resumed run, another machine, an earlier
    # evaluation and the runs in the other order.
    old = run_folder(run, digest="old", cases=("mv07",))
    old.write(root)
    sync_experiment(uri, experiment, root, [run])
    source = run_folder(run, statuses={("mv01", "dice"): "empty_prediction"})
    for device, epochs in (("cuda", (1, 2)), ("cpu", (2, 3))):
        params = {**source.params, "sys_device": device}
        handle = open_run(uri, experiment, run, source.digest, params, {"minivess.git_dirty": "1"})
        for epoch in epochs:
            loss = source.history()["train/loss"][epoch]
            log_epoch(handle, epoch, {"train/loss": loss if epoch == 3 else -loss})
        close_run(handle, "FAILED")
    earlier = replace(source, offset=5.0, cases=("mv01", "mv02", "mv09"), statuses={})
    for version in (earlier, source):
        version.write(root)
        sync_experiment(uri, experiment, root, [run])
    run_folder(runs[1]).write(root)
    sync_experiment(uri, experiment, root, [runs[1]])
    # The other was filled from the files in one go.
    sync_experiment(other, experiment, root, runs)

    first = _digests(export_tables(uri, experiment, runs), tmp_path / "a")
    second = _digests(export_tables(other, experiment, list(reversed(runs))), tmp_path / "b")
    assert first == second
    assert len(first) == 5
    assert _digests(export_tables(uri, experiment, None), tmp_path / "c") == first


def test_no_trace_of_ids_times_and_machine(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    source = run_folder(run)
    source.write(root)
    params = {**source.params, "sys_hostname": "ada-laptop"}
    handle = open_run(uri, experiment, run, source.digest, params, {"minivess.host": "ada-laptop"})
    sync_experiment(uri, experiment, root, [run])
    text = str([table.rows() for table in export_tables(uri, experiment, [run]).values()])
    assert handle.run_id not in text
    assert "ada-laptop" not in text
    assert "sys_" not in text


def test_a_parameter_that_changed_is_exported_as_it_is_now(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    for tolerance in (2.0, 3.0):
        run_folder(run, params={"eval_tolerance": tolerance}).write(root)
        sync_experiment(uri, experiment, root, [run])
    params = export_tables(uri, experiment, [run])["params"]
    assert params.select("name", "value").rows() == [("eval_tolerance", "3.0")]


def test_missing_and_unfinished_runs_are_all_named(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    run_folder(run).write(root)
    sync_experiment(uri, experiment, root, [run])
    running, finished, absent = (replace(run, fold=fold) for fold in (5, 6, 7))
    open_run(uri, experiment, running, "digest-a", {}, {})
    close_run(open_run(uri, experiment, finished, "digest-a", {}, {}), "FINISHED")
    with pytest.raises(MinivessError) as caught:
        export_tables(uri, experiment, [run, running, finished, absent])
    assert caught.value.code == "MV-TRACK-003"
    assert caught.value.found == (
        "dynunet/dice_ce/seed0/fold5 (RUNNING), dynunet/dice_ce/seed0/fold6 (no metrics), "
        "dynunet/dice_ce/seed0/fold7 (not there)"
    )
    assert "results/demo/tracked.json" in caught.value.fix


def test_without_a_list_unfinished_runs_are_counted_too(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    run_folder(run).write(root)
    sync_experiment(uri, experiment, root, [run])
    failed = replace(run, fold=2)
    handle = open_run(uri, experiment, failed, "digest-a", {}, {})
    log_epoch(handle, 1, {"train/loss": 0.5, "system/memory": 3.0})
    close_run(handle, "FAILED")
    exported = export_tables(uri, experiment, None)
    assert exported["runs"].select("fold", "status", "epochs", "best_selection_dice").rows() == [
        (1, "FINISHED", 3, 1 / 7),
        (2, "FAILED", 0, None),
    ]
    assert exported["history"].filter(pl.col("fold") == 2).select("name", "value").rows() == [
        ("train/loss", 0.5)
    ]


def test_runs_of_other_programs_are_left_out(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    run_folder(run).write(root)
    sync_experiment(uri, experiment, root, [run])
    with connection(uri) as client:
        client.create_run(prepare_store(uri, experiment))
    assert export_tables(uri, experiment, None)["runs"].height == 1


@pytest.mark.parametrize("runs", [None, [RunKey("dynunet", "dice_ce", 0, 1)]])
def test_no_database_and_no_experiment_are_errors(
    uri: str, tmp_path: Path, runs: list[RunKey] | None
) -> None:
    absent = tmp_path / "absent.db"
    for address, experiment in ((uri, "other"), (f"sqlite:///{absent}", "demo")):
        with pytest.raises(MinivessError) as caught:
            export_tables(address, experiment, runs)
        assert caught.value.code == "MV-TRACK-003"
    assert not absent.exists()
