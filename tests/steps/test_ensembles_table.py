"""The table of all ensembles, from the files of the folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivess import output, paths
from minivess.config.load import resolve_mapping
from minivess.config.schema import Experiment
from minivess.errors import MinivessError
from minivess.metrics.evaluate import MetricValue, case_rows
from minivess.statistics import tables
from minivess.steps.analyze import ensembles_table
from minivess.types import RunKey


def experiment(*kinds: str) -> Experiment:
    values = {"name": "x", "losses": ["dice_ce", "cbdice"], "seeds": [0, 1]}
    return resolve_mapping({**values, "ensembles": {"kinds": list(kinds)}}, {}, "test")


def write_fold(root: Path, loss: str, fold: int) -> None:
    run = RunKey("dynunet+mean", loss, 0, fold)
    rows = case_rows("x", run, f"case{fold}", [MetricValue("dice", 0.5, "1", "ok")])
    folder = paths.ensembles(root, "dynunet", loss, fold)
    output.write_parquet(tables.from_rows("ensembles", rows), paths.ensembles_metrics(folder))


def test_every_arm_and_fold_is_there_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    for loss in ("dice_ce", "cbdice"):
        for fold in (0, 1):
            write_fold(tmp_path, loss, fold)
    table = ensembles_table(tmp_path, experiment("mean"), [0, 1])
    assert table.select("model", "loss", "fold", "case").rows() == [
        ("dynunet+mean", loss, fold, f"case{fold}")
        for loss in ("cbdice", "dice_ce")
        for fold in (0, 1)
    ]
    assert set(table.select("model", "loss").rows()) == set(experiment("mean").ensemble_arms())
    with pytest.raises(MinivessError) as caught:
        ensembles_table(tmp_path, experiment("mean"), [0, 1, 2])
    assert caught.value.code == "MV-STATE-002"


def test_without_ensembles_it_is_empty_whatever_lies_there(tmp_path: Path) -> None:
    write_fold(tmp_path, "dice_ce", 0)
    table = ensembles_table(tmp_path, experiment(), [0])
    assert table.equals(tables.empty("ensembles"))
