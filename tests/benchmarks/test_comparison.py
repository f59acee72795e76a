"""The comparison with nnU-Net asks both sides for the same; nnU-Net itself is not needed here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
import yaml

from minivess.config.load import resolve
from minivess.metrics import METRICS
from minivess.metrics.evaluate import MetricValue, case_rows
from minivess.statistics import tables
from minivess.types import RunKey

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("comparison")
    for name in ("comparison", "nnunet", "page", "sides"):
        sys.modules.pop(name, None)


def test_the_budget_reaches_this_projects_side(comparison: ModuleType, tmp_path: Path) -> None:
    options = ["--patch", "32", "32", "8", "--batch", "3", "--epochs", "7", "--steps", "5"]
    given = comparison.parsed([*options, "--folds", "4", "data.source=csv", "--profile", "strict"])
    assert given.keys == ["data.source=csv"]
    file = tmp_path / "comparison_phantom.yaml"
    file.write_text(yaml.safe_dump(comparison.config(given)), encoding="utf-8")
    ours = resolve(str(file))
    assert ours.patches.patch_size == (32, 32, 8)
    assert (ours.patches.batch_size, ours.patches.patches_per_epoch) == (3, 15)
    assert (ours.training.epochs, ours.folds.n_folds, ours.compute.profile) == (7, 4, "strict")
    assert ours.losses == comparison.LOSSES


def test_keys_that_only_one_side_would_get_are_refused(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    file = tmp_path / "comparison_phantom.yaml"
    file.write_text(yaml.safe_dump(comparison.config(comparison.parsed([]))), encoding="utf-8")
    comparison._check_keys(file, ["phantom.n_cases=4", "folds.folds_seed=1"])
    for key in ("epochs=7", "seeds=[0,1]", "folds.n_folds=3", "models.dynunet.filters=[4,8,8]"):
        with pytest.raises(SystemExit, match="both sides"):
            comparison._check_keys(file, [key])


def test_another_budget_or_other_folds_make_new_masks(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = comparison.Place("comparison_x")
    folds = place.results / "folds.json"
    folds.parent.mkdir(parents=True)
    folds.write_text("{}", encoding="utf-8")
    first = comparison.fingerprint(comparison.parsed([]), place)
    assert comparison.fingerprint(comparison.parsed(["--write"]), place) == first
    assert comparison.fingerprint(comparison.parsed(["--steps", "3"]), place) != first
    assert comparison.fingerprint(comparison.parsed(["--mirroring"]), place) != first
    folds.write_text('{"n": 1}', encoding="utf-8")
    assert comparison.fingerprint(comparison.parsed([]), place) != first


def test_differences_are_paired_by_case(comparison: ModuleType) -> None:
    rows: list[dict[str, object]] = []
    for number, case in enumerate("abcdef"):
        for model, loss, more in (
            ("dynunet", "cbdice_cldice", 0.1 + 0.01 * number),
            ("dynunet", "dice_ce", 0.0),
            (*comparison.THEIRS, 0.0),
        ):
            values = [
                MetricValue(name, 0.1 * number + more, METRICS[name].unit, "ok")
                for name in comparison.METRICS
            ]
            rows += case_rows("x", RunKey(model, loss, 0, number % 2), case, values)
    cases = tables.from_rows("cases", rows)
    text = "\n".join(comparison._differences(cases))
    assert "| `cbdice_cldice` | 0.375 | 0.375 | 0.375 |" in text
    assert "| nnU-Net | 0.250 | 0.250 | 0.250 |" in text
    assert "| `cbdice_cldice`, Dice | +0.125 [+0.1" in text
    assert "| `dice_ce`, clDice | +0.000 " in text
    by_case = comparison._by_case(cases)
    assert by_case[0].endswith("nnU-Net: Dice / clDice / MASD, µm |")
    assert by_case[2].startswith("| 0 | a | 0.100 / 0.100 / 0.100 | 0.000 / 0.000 / 0.000 |")
    assert cases.select(pl.col("case").n_unique()).item() == len(by_case) - 2


def test_a_key_is_not_taken_for_the_page(comparison: ModuleType) -> None:
    with pytest.raises(SystemExit):
        comparison.parsed(["--write", "data.source=csv"])
