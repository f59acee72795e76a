"""A test set under the real DAG: garbage in place of its label, and nobody notices before it is
unlocked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
from workbench import TINY, Workbench

from minivess.config.schema import PhantomConfig
from minivess.data.phantom import write_phantom

pytestmark = pytest.mark.dag

LOCKED = "phantom_005"
SHAPE = (24, 24, 8)


def digests(root: Path) -> dict[str, str]:
    """The results of the cross-validation."""
    parts = ("data", "runs", "tables", "folds.json", "champions.json", "tracked.json")
    files = [file for part in parts for file in (root / part, *(root / part).rglob("*"))]
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def check_ensembles(root: Path) -> None:
    """Ensembles of both folds are arms of their own; their volumes are what was recorded."""
    table = pl.read_parquet(root / "tables" / "ensembles.parquet").filter(metric="dice")
    assert set(table["model"]) == {"tiny+mc_dropout"}
    assert table["case"].n_unique() == table.height == 4
    summary = json.loads((root / "tables" / "summary.json").read_text(encoding="utf-8"))
    assert [arm["model"] for arm in summary["arms"]] == ["tiny", "tiny+mc_dropout"]
    for fold in (0, 1):
        folder = root / "ensembles" / "tiny" / "dice_ce" / f"fold{fold}"
        record = json.loads((folder / "ensembles.json").read_text(encoding="utf-8"))
        [made] = record["ensembles"]
        assert (made["kind"], made["passes"]) == ("mc_dropout", 2)
        assert len(record["files"]) == 2 * 5  # mask, probability and three maps of two cases
        for name, digest in record["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    # Two passes with other units off are two opinions.
    entropies = list(root.glob("ensembles/*/*/*/*/*/*/*_mutual_information.nii.gz"))
    assert len(entropies) == 4


def test_a_set_that_was_renamed_is_no_input_of_the_paper(bench: Workbench) -> None:
    left = bench.root / "external" / "old" / "result.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}", encoding="utf-8")
    assert "paper" in bench.planned("paper")
    wanted = bench.run("results/tiny/external/older/result.json", dry=True)
    assert "MissingRuleException" in wanted.stdout + wanted.stderr


def test_a_locked_label_is_noticed_by_nobody_before_the_unlock(bench: Workbench) -> None:
    write_phantom(PhantomConfig(n_cases=5, phantom_shape=SHAPE), bench.folder / "scans")
    other = PhantomConfig(n_cases=2, phantom_shape=SHAPE, phantom_seed=1)
    write_phantom(other, bench.folder / "other")
    label = bench.folder / "scans" / "labels" / f"{LOCKED}.nii.gz"
    good = label.read_bytes()
    label.write_bytes(b"not yet")
    bench.write_config(
        losses=["dice_ce"],
        data={"source": "csv", "path": "scans/cases.csv"},
        folds={"n_folds": 2, "test_cases": [LOCKED]},
        external={"other": {"source": "csv", "path": "other/cases.csv"}},
        training={**TINY["training"], "epochs": 1},
        models={"tiny": {**TINY["models"]["tiny"], "dropout": 0.2}},
        ensembles={"kinds": ["mc_dropout"], "mc_passes": 2},
    )
    target = "results/tiny/champions.json"
    bench.complete(target, "results/tiny/tables/ensembles.parquet")
    check_ensembles(bench.root)
    before = digests(bench.root)
    assert not [name for name in before if LOCKED in name]
    cases = pl.read_parquet(bench.root / "tables" / "cases.parquet")
    assert cases["case"].n_unique() == 4
    # A missing file: nothing to be done.
    label.unlink()
    assert "Nothing to be done" in bench.complete(target)
    bench.complete("external")
    external = bench.root / "external" / "other"
    result = json.loads((external / "result.json").read_text(encoding="utf-8"))
    assert result["n_cases"] == 2
    assert "MV-DATA-019" in result["warnings"][0]
    assert pl.read_parquet(external / "tables" / "shift.parquet").height == 10
    refused = bench.minivess("test-evaluate", "-e", "tiny")
    assert refused.returncode == 9
    assert "MV-LOCK-002" in refused.stderr
    words = ("--who", "A. Person", "--reason", "the final result")
    assert bench.minivess("unlock-test", "-e", "tiny", *words).returncode == 0
    broken = bench.minivess("test-evaluate", "-e", "tiny")
    assert broken.returncode == 3
    assert f"labels/{LOCKED}.nii.gz" in broken.stderr
    label.write_bytes(good)
    done = bench.minivess("test-evaluate", "-e", "tiny")
    assert done.returncode == 0, done.stderr
    assert "mean of 2 networks, 1 cases" in done.stdout
    assert bench.minivess("audit", "verify", "-e", "tiny").stdout.startswith("2 lines, none")
    assert digests(bench.root) == before
    assert "Nothing to be done" in bench.complete(target, "external")
