"""The least detectable difference: against simulation, and what it follows."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import scipy.stats

from minivess.config.plan import AnalysisPlan
from minivess.config.schema import StatisticsConfig
from minivess.statistics import power, tables


def test_a_t_test_finds_it_as_often_as_said() -> None:
    n, alpha, wanted = 10, 0.05, 0.8
    dz = power.least_detectable_dz(n, alpha, wanted, one_sided=False)
    assert dz is not None
    samples = np.random.default_rng(0).normal(dz, 1, (4000, n))
    found = scipy.stats.ttest_1samp(samples, 0, axis=1).pvalue < alpha
    assert np.mean(found) == pytest.approx(wanted, abs=0.02)


def test_more_cases_and_one_side_find_less() -> None:
    two = [power.least_detectable_dz(n, 0.05, 0.8, one_sided=False) for n in (3, 8, 70)]
    one = [power.least_detectable_dz(n, 0.05, 0.8, one_sided=True) for n in (3, 8, 70)]
    assert two == sorted(two, reverse=True)  # type: ignore[type-var]
    assert all(a < b for a, b in zip(one, two, strict=True))  # type: ignore[operator]
    assert power.least_detectable_dz(1, 0.05, 0.8, one_sided=False) is None


def test_table_by_hand() -> None:
    rows: list[dict[str, object]] = [
        {
            "experiment": "test",
            "model": "net",
            "loss": loss,
            "seed": 0,
            "fold": 0,
            "case": f"c{index}",
            "metric": "dice",
            "value": value,
            "unit": "1",
            "status": "ok",
        }
        for loss, own in {"a": [0.5, 0.7, 0.6], "b": [0.4, 0.4, 0.4], "c": [0.1, 0.2, 0.3]}.items()
        for index, value in enumerate(own)
    ]
    plan = AnalysisPlan(secondary_metrics=(), rope={})
    table = power.detectable(tables.from_rows("cases", rows), StatisticsConfig(plan=plan))
    first = tables.schema("power").validate(table).row(0, named=True)
    assert table.height == 3
    assert first["alpha"] == pytest.approx(0.05 / 3)
    assert first["sd_difference"] == pytest.approx(0.1)
    dz = power.least_detectable_dz(3, 0.05 / 3, 0.8, one_sided=False)
    assert first["least_dz"] == dz
    assert first["least_difference"] == pytest.approx(dz * 0.1)
    assert math.isfinite(first["least_difference"])
    assert set(table.filter(pl.col("loss_a") == "a")["loss_b"]) == {"b", "c"}
