"""Only the files that belong to a run are read, and what is wrong with them is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from minivess import output, paths
from minivess.errors import MinivessError
from minivess.tracking.mlflow_log import runs_of
from minivess.tracking.store import connection, prepare_store
from minivess.tracking.sync import sync_experiment

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import RunKey

type Folder = Any


def test_all_missing_files_are_named_before_anything_is_written(
    tmp_path: Path, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    other = replace(run, fold=0)
    paths.run_record(run_folder(run).write(root)).unlink()
    uri = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(MinivessError) as caught:
        sync_experiment(uri, experiment, root, [run, other])
    assert caught.value.code == "MV-STATE-002"
    assert "fold1/run.json" in caught.value.where
    assert "fold0/weights.safetensors" in caught.value.where
    assert caught.value.what.startswith("4 files")
    assert not (tmp_path / "none.db").exists()


def test_files_of_an_earlier_fold_never_enter(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    source = run_folder(run, cases=("mv01", "mv07"))
    source.write(root)
    folder = replace(source, cases=("mv01", "mv02")).write(root)
    (folder / "stray.txt").write_text("not of the run", encoding="utf-8")
    paths.case_metrics(folder, "mv07").write_bytes(b"not even readable")
    sync_experiment(uri, experiment, root, [run])
    number = prepare_store(uri, experiment)
    with connection(uri) as client:
        (found,) = runs_of(client, number)
    assert not [name for name in (*found.data.metrics, *found.data.tags) if "mv07" in name]
    assert {name for name in found.data.tags if name.startswith("artifact/")} == {
        f"artifact/{name}"
        for name in (
            "history.parquet",
            "metrics/mv01.parquet",
            "metrics/mv02.parquet",
            "predictions/mv01.nii.gz",
            "predictions/mv01_probability.nii.gz",
            "predictions/mv02.nii.gz",
            "predictions/mv02_probability.nii.gz",
            "run.json",
            "weights.safetensors",
        )
    }


def test_a_validation_case_without_metrics_is_missing(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    path = paths.case_metrics(run_folder(run).write(root), "mv02")
    path.unlink()
    with pytest.raises(MinivessError) as caught:
        sync_experiment(uri, experiment, root, [run])
    assert caught.value.code == "MV-STATE-002"
    assert caught.value.where == path.as_posix()


@pytest.mark.parametrize("cases", [None, {}, {"train": ["mv01"]}, {"validation": []}])
def test_a_record_without_validation_cases_is_refused(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder], cases: object
) -> None:
    path = paths.run_record(run_folder(run).write(root))
    record = json.loads(path.read_text(encoding="utf-8"))
    output.write_json({**record, "cases": cases}, path)
    with pytest.raises(MinivessError) as caught:
        sync_experiment(uri, experiment, root, [run])
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == path.as_posix()


@pytest.mark.parametrize("text", ["{", "[]", '{"params": {}}', '{"params": 1, "tags": {}}'])
def test_a_broken_provenance_is_named(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder], text: str
) -> None:
    run_folder(run).write(root)
    path = paths.run_provenance(root, run)
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        sync_experiment(uri, experiment, root, [run])
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == path.as_posix()


@pytest.mark.parametrize("name", ["run.json", "history.parquet", "metrics/mv01.parquet"])
def test_a_broken_file_is_named(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder], name: str
) -> None:
    broken = run_folder(run).write(root) / name
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(MinivessError) as caught:
        sync_experiment(uri, experiment, root, [run])
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == broken.as_posix()


def test_the_record_of_another_run_is_refused(
    uri: str, experiment: str, root: Path, run: RunKey, run_folder: type[Folder]
) -> None:
    folder = run_folder(run).write(root)
    folder.rename(folder.with_name("fold7"))
    with pytest.raises(MinivessError) as caught:
        sync_experiment(uri, experiment, root, [replace(run, fold=7)])
    assert caught.value.code == "MV-STATE-001"
