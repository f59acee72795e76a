"""Calibration and conformal masks of the finished tiny experiment."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from workbench import TINY, Workbench

from minivess import calibration, paths
from minivess.data.folds import read_folds
from minivess.statistics import tables
from minivess.types import RunKey

pytestmark = pytest.mark.dag

RUNS = [RunKey("tiny", loss, 0, fold) for loss in TINY["losses"] for fold in (0, 1)]


def table(bench: Workbench, name: str) -> pl.DataFrame:
    return tables.read(name, paths.table(bench.root, name))


def test_calibrators_are_fitted_on_selection_and_tested_on_held_out_cases(
    finished: Workbench,
) -> None:
    folds = read_folds(paths.folds(finished.root)).folds
    scores = table(finished, "calibration")
    names = {calibration.UNCALIBRATED, *calibration.CALIBRATORS}
    for run in RUNS:
        path = paths.calibrators(paths.run_folder(finished.root, run))
        record = json.loads(path.read_text(encoding="utf-8"))
        fold = folds[run.fold]
        assert record["fitted_on"] == list(fold.selection)
        own = scores.filter(loss=run.loss, fold=run.fold)
        assert set(own["case"]) == set(fold.validation)
        assert not set(own["case"]) & set(record["fitted_on"])
        assert set(own["calibrator"]) == names
    assert scores.height == len(names) * 2 * 4  # two losses, four cases


def test_scores_without_calibrator_are_the_metrics_of_that_name(finished: Workbench) -> None:
    keys = ["model", "loss", "seed", "fold", "case"]
    scores = table(finished, "calibration").filter(calibrator=calibration.UNCALIBRATED).sort(keys)
    for name in ("ece", "brier", "nll"):
        metric = table(finished, "cases").filter(metric=name).sort(keys)
        assert metric.height == scores.height == 2 * 4
        assert scores[name].to_list() == pytest.approx(metric["value"].to_list(), abs=1e-8)


def test_the_bins_hold_every_voxel_of_every_case(finished: Workbench) -> None:
    counts = table(finished, "reliability").group_by("loss", "case", "calibrator")
    sums = counts.agg(pl.col("n_voxels").sum())
    assert set(sums["n_voxels"]) == {32 * 32 * 8}


def test_one_case_calibrates_for_one_other(finished: Workbench) -> None:
    conformal = table(finished, "conformal")
    for status, alpha in (("too_few_cases", 0.1), ("ok", 0.5)):
        own = conformal.filter(alpha=alpha)
        assert set(own["status"]) == {status}
        assert own.height == 2 * 4 * 3
        assert (own["calibrated_on"] != own["case"]).all()
    coverage = table(finished, "coverage")
    assert set(coverage.filter(alpha=0.5)["n_cases"]) == {4}
    assert set(coverage.filter(alpha=0.1)["n_untested"]) == {4}


def test_masks_of_the_verb_lie_inside_each_other(finished: Workbench, tmp_path: Path) -> None:
    target = tmp_path / "masks"
    done = finished.minivess("conformal", "--alpha", "0.5", "-e", "tiny", "--output", str(target))
    assert done.returncode == 0, done.stderr
    assert "outer_margin" in done.stdout
    written = pl.read_parquet(target / "conformal.parquet")
    assert written.equals(table(finished, "conformal").filter(alpha=0.5))
    run = RUNS[0]
    for case in read_folds(paths.folds(finished.root)).folds[run.fold].validation:
        inner, outer, by_threshold = (
            np.asarray(nib.load(target / str(run) / f"{case}_{name}.nii.gz").dataobj) > 0
            for name in ("inner", "outer", "threshold")
        )
        source = paths.prediction(paths.run_folder(finished.root, run), case)
        prediction = np.asarray(nib.load(source).dataobj) > 0
        assert not (inner & ~prediction).any()
        assert not (prediction & ~outer).any()
        rows = written.filter(loss=run.loss, fold=run.fold, case=case)
        sizes = dict(rows.select("method", "size").iter_rows())
        assert by_threshold.mean() == pytest.approx(sizes["threshold"])
        assert outer.mean() == pytest.approx(sizes["outer_margin"])
        assert inner.mean() == pytest.approx(sizes["inner_margin"])


def test_an_alpha_out_of_reach_says_how_many_cases_it_needs(finished: Workbench) -> None:
    done = finished.minivess("conformal", "--alpha", "0.1", "-e", "tiny")
    assert done.returncode == 10
    assert "MV-CONFORMAL-001" in done.stderr
    assert "at least 9 calibration cases" in done.stderr
    assert not (finished.root / "conformal").exists()
