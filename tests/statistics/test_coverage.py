"""Conformal masks of a run's held-out cases, and the table of what they kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import ndimage

from minivess import seeding
from minivess.config.calibration import ConformalConfig
from minivess.config.schema import StatisticsConfig
from minivess.errors import MinivessError
from minivess.statistics import tables
from minivess.statistics.coverage import (
    INNER,
    METHODS,
    OUTER,
    THRESHOLD,
    HeldOutCase,
    calibrated_halves,
    chosen_level,
    conformal_rows,
    coverage_table,
    coverage_text,
    held_out_case,
)
from minivess.statistics.nested import inner_distances, outer_distances

SPACING = (1.0, 1.0, 3.0)
SHAPE = (12, 12, 5)
FAST = StatisticsConfig(bootstrap_resamples=99)
CONFIG = ConformalConfig(alphas=(0.1, 0.3, 0.5), covered_share=0.9)
RUN = {"experiment": "x", "model": "net", "loss": "dice", "seed": 0}


def volumes(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability, predicted mask and reference."""
    rng = seeding.generator(0, "coverage-tests", name)
    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.2)
    reference = smooth > np.quantile(smooth, 0.8)
    noisy = smooth / smooth.std() + 0.4 * rng.standard_normal(SHAPE)
    probability = (1 / (1 + np.exp(-2 * (noisy - 0.8)))).astype(np.float32)
    return probability, probability > 0.5, reference


NAMES = [f"case{n}" for n in range(7)]
CASES = [held_out_case((name, name), *volumes(name), SPACING) for name in NAMES]
PAIRS = calibrated_halves(CASES, 0, 0, ["other"])


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return conformal_rows(PAIRS, CONFIG)


def table_of(rows: list[dict[str, Any]], fold: int = 0) -> pl.DataFrame:
    return tables.from_rows("conformal", [{**RUN, "fold": fold, **row} for row in rows])


def test_every_case_is_tested_once_and_never_on_itself(rows: list[dict[str, Any]]) -> None:
    for alpha in CONFIG.alphas:
        for method in METHODS:
            own = [r for r in rows if r["alpha"] == alpha and r["method"] == method]
            assert sorted(r["case"] for r in own) == NAMES
            for row in own:
                calibrating = row["calibrated_on"].split()
                assert len(calibrating) == row["n_calibration"]
                assert row["case"] not in calibrating


def test_what_too_few_cases_cannot_reach_is_said(rows: list[dict[str, Any]]) -> None:
    """Halves of 4 and 3 cases reach 0.2 and 0.25."""
    for row in rows:
        reached = row["n_calibration"] >= {0.1: 9, 0.3: 3, 0.5: 1}[row["alpha"]]
        assert row["status"] == ("ok" if reached else "too_few_cases")
        assert (row["level"] is None) == (not reached)
    assert {r["status"] for r in rows if r["alpha"] == 0.1} == {"too_few_cases"}
    assert {r["status"] for r in rows if r["alpha"] == 0.3} == {"ok"}


def test_rows_say_what_the_masks_hold(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["status"] != "ok":
            continue
        probability, mask, reference = volumes(row["case"])
        chosen = {
            THRESHOLD: probability >= row["level"],
            OUTER: outer_distances(mask, SPACING) <= row["level"],
            INNER: inner_distances(mask, SPACING) > row["level"],
        }[row["method"]]
        if row["method"] == INNER:
            wrong = (chosen & ~reference).sum() / max(1, chosen.sum())
        else:
            wrong = (reference & ~chosen).sum() / reference.sum()
        assert row["wrong_part"] == pytest.approx(wrong, abs=1e-8)
        assert row["size"] == pytest.approx(chosen.mean(), abs=1e-8)
        assert row["covered"] == (None if row["method"] == THRESHOLD else wrong <= 0.1 + 1e-9)


def test_a_level_depends_on_the_calibration_cases_alone() -> None:
    calibrating = PAIRS[0][0]
    for method in METHODS:
        level = chosen_level(method, calibrating, 0.3, 0.9)
        assert level == chosen_level(method, calibrating[::-1], 0.3, 0.9)
        with pytest.raises(MinivessError, match="MV-CONFORMAL-001"):
            chosen_level(method, calibrating, 0.1, 0.9)
        with pytest.raises(MinivessError, match="MV-CONFORMAL-001"):
            chosen_level(method, [], 0.3, 0.9)


def test_one_case_alone_has_nothing_to_calibrate_it() -> None:
    rows = conformal_rows(calibrated_halves(CASES[:1], 0, 0, []), CONFIG)
    assert {row["status"] for row in rows} == {"too_few_cases"}
    assert {row["n_calibration"] for row in rows} == {0}
    assert {row["calibrated_on"] for row in rows} == {""}


def test_a_case_that_was_fitted_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="case3"):
        calibrated_halves(CASES, 0, 0, ["case3"])


def test_coverage_counts_cases(rows: list[dict[str, Any]]) -> None:
    conformal = pl.concat([table_of(rows), table_of(rows, fold=1)])
    coverage = tables.schema("coverage").validate(coverage_table(conformal, FAST))
    assert coverage.height == len(METHODS) * len(CONFIG.alphas)
    for row in coverage.iter_rows(named=True):
        own = [r for r in rows if (r["method"], r["alpha"]) == (row["method"], row["alpha"])]
        tested = [r for r in own if r["status"] == "ok"]
        assert row["n_cases"] == 2 * len(tested)
        assert row["n_untested"] == 2 * (len(own) - len(tested))
        assert row["n_folds"] == (2 if tested else 0)
        if not tested:
            assert row["observed"] is None
            continue
        column = "wrong_part" if row["method"] == THRESHOLD else "covered"
        assert row["observed"] == pytest.approx(np.mean([r[column] for r in tested]))
        expected = row["alpha"] if row["method"] == THRESHOLD else 1 - row["alpha"]
        assert row["promised"] == pytest.approx(expected)
        if row["ci_low"] is not None:
            assert row["ci_low"] <= row["observed"] <= row["ci_high"]


def test_the_interval_of_a_part_is_exact(rows: list[dict[str, Any]]) -> None:
    """Clopper and Pearson: 10 of 10 at 95% is 0.025 ** (1 / 10) to 1."""
    one = next(r for r in rows if r["method"] == OUTER and r["status"] == "ok")
    ten = [{**one, "case": f"c{n}", "covered": True} for n in range(10)]
    [row] = coverage_table(table_of(ten), FAST).to_dicts()
    assert row["ci_low"] == pytest.approx(0.025**0.1)
    assert row["ci_high"] == 1


def test_the_text_has_a_line_for_each_row(rows: list[dict[str, Any]]) -> None:
    lines = coverage_text(coverage_table(table_of(rows), FAST)).splitlines()
    assert len(lines) == 1 + 9
    assert sum("too few cases" in line for line in lines) == 3
    assert max(len(line) for line in lines) <= 110
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        coverage_text(tables.empty("coverage"))


def test_families_are_of_every_method() -> None:
    assert all(set(case.families) == set(METHODS) for case in CASES)
    assert isinstance(CASES[0], HeldOutCase)
