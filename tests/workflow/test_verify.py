"""`minivess verify` on the real DAG: equal, changed since, not reproducible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from workbench import Workbench

from minivess import paths, provenance
from minivess.reproducibility.digests import as_text, read_digests

pytestmark = pytest.mark.dag


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """An experiment of one loss, verified without having run before."""
    bench = Workbench(tmp_path_factory.mktemp("small"))
    bench.write_config(losses=["dice_ce"])
    bench.look_like_the_project()
    bench.complete("digests")
    return bench


def test_a_second_run_gives_the_same_bytes(small: Workbench) -> None:
    done = small.minivess("verify", "tiny")
    assert done.returncode == 0, done.stderr[-3000:]
    count = len(read_digests(paths.digests(small.root)))
    assert f"{count} equal files: two runs on this machine gave the same bytes" in done.stderr
    assert not (small.folder / "results" / ".verify" / "tiny").exists()


def test_a_result_changed_by_hand_is_named(small: Workbench, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "work", symlinks=True)
    bench = Workbench(tmp_path / "work")
    (bench.root / "tables" / "cases.parquet").write_bytes(b"")
    done = bench.minivess("verify", "tiny")
    assert done.returncode == 5
    assert "MV-STATE-005" in done.stderr
    assert "tables/cases.parquet" in done.stderr


def test_results_that_do_not_follow_are_named_with_what_differs(
    small: Workbench, tmp_path: Path
) -> None:
    shutil.copytree(small.folder, tmp_path / "work", symlinks=True)
    bench = Workbench(tmp_path / "work")
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
    done = bench.minivess("verify", "tiny")
    assert done.returncode == 5
    assert "MV-STATE-006" in done.stderr
    assert "folds.json, the first file of the DAG that differs" in done.stderr
    assert "folds.0.selection.0: " in done.stderr
    assert list((bench.folder / "results" / ".verify" / "tiny").rglob("SHA256SUMS"))
