"""`minivess verify` on the real DAG: equal, changed since, not reproducible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from chaos.stage import Reference
from workbench import PROJECT, Workbench

from minivess import paths, provenance
from minivess.reproducibility.digests import as_text, read_digests

pytestmark = pytest.mark.dag


def copied(undisturbed: Reference, folder: Path) -> Workbench:
    """The small experiment of the stress tests, finished, in a folder of its own."""
    shutil.copytree(undisturbed.bench.folder, folder, symlinks=True)
    bench = Workbench(folder, PROJECT, {}, undisturbed.bench.name)
    bench.look_like_the_project()
    return bench


def test_a_second_run_on_one_core_gives_the_same_bytes(
    undisturbed: Reference, tmp_path: Path
) -> None:
    bench = copied(undisturbed, tmp_path / "work")
    done = bench.minivess("verify", bench.name, "--cores", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    count = len(read_digests(paths.digests(bench.root)))
    assert f"{count} equal files: two runs on this machine gave the same bytes" in done.stderr
    assert not (bench.folder / "results" / ".verify" / bench.name).exists()


def test_a_result_changed_by_hand_is_named(undisturbed: Reference, tmp_path: Path) -> None:
    bench = copied(undisturbed, tmp_path / "work")
    (bench.root / "tables" / "cases.parquet").write_bytes(b"")
    done = bench.minivess("verify", bench.name)
    assert done.returncode == 5
    assert "MV-STATE-005" in done.stderr
    assert "tables/cases.parquet" in done.stderr


def interrupted_verification(bench: Workbench) -> None:
    """The second run as it was just before its last job, so that it need not be made here."""
    second = bench.folder / "results" / ".verify" / bench.name
    second.mkdir(parents=True)
    for name in (".snakemake", "mlflow.db"):
        source = bench.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, second / name)
    shutil.copytree(bench.root, second / "results" / bench.name)
    paths.digests(second / "results" / bench.name).unlink()


def test_results_that_do_not_follow_are_named_with_what_differs(
    undisturbed: Reference, tmp_path: Path
) -> None:
    bench = copied(undisturbed, tmp_path / "work")
    interrupted_verification(bench)
    path = paths.folds(bench.root)
    folds = json.loads(path.read_text(encoding="utf-8"))
    folds["folds"][0]["train"], folds["folds"][0]["selection"] = (
        folds["folds"][0]["selection"],
        folds["folds"][0]["train"],
    )
    path.write_text(json.dumps(folds), encoding="utf-8")
    digests = read_digests(paths.digests(bench.root))
    digests["folds.json"] = provenance.file_sha256(path)
    paths.digests(bench.root).write_text(as_text(digests), encoding="utf-8")
    done = bench.minivess("verify", bench.name)
    assert done.returncode == 5
    assert "MV-STATE-006" in done.stderr
    assert "folds.json, the first file of the DAG that differs" in done.stderr
    assert "folds.0.selection.0: " in done.stderr
    assert list((bench.folder / "results" / ".verify" / bench.name).rglob("SHA256SUMS"))
