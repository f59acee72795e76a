"""Ranks and their stability by hand, and against published values."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import scipy.stats

from minivess.config.plan import AnalysisPlan
from minivess.config.schema import StatisticsConfig
from minivess.statistics import ranks, tables


def cases_of(values: dict[str, list[float]], metric: str = "dice") -> pl.DataFrame:
    """Loss -> value of each case."""
    rows: list[dict[str, object]] = [
        {
            "experiment": "test",
            "model": "net",
            "loss": loss,
            "seed": 0,
            "fold": index % 2,
            "case": f"c{index:02d}",
            "metric": metric,
            "value": value,
            "unit": "1",
            "status": "ok",
        }
        for loss, own in values.items()
        for index, value in enumerate(own)
    ]
    return tables.from_rows("cases", rows)


def config(metric: str = "dice") -> StatisticsConfig:
    plan = AnalysisPlan(primary_metric=metric, secondary_metrics=(), rope={})
    return StatisticsConfig(plan=plan, bootstrap_resamples=999)


def test_a_clear_order_is_stable() -> None:
    values = {"a": [0.5, 0.6, 0.7, 0.8], "b": [0.6, 0.7, 0.8, 0.9], "c": [0.1, 0.2, 0.3, 0.4]}
    table = tables.schema("ranks").validate(ranks.rank_arms(cases_of(values), config()))
    places = table.select("loss", "rank", "rank_low", "rank_high", "first", "mean_rank").rows()
    assert places == [("a", 2, 2, 2, 0.0, 2.0), ("b", 1, 1, 1, 1.0, 1.0), ("c", 3, 3, 3, 0.0, 3.0)]
    assert set(table["tau"]) == set(table["tau_low"]) == {1.0}
    assert table["friedman_p"][0] == pytest.approx(0.0183, abs=1e-4)  # chi square of 8


def test_lower_is_better_where_the_metric_says_so() -> None:
    values = {"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 3.0, 4.0, 5.0]}
    table = ranks.rank_arms(cases_of(values, "masd_um"), config("masd_um"))
    assert table["rank"].to_list() == [1, 2]
    assert table["friedman_p"].to_list() == [None, None]


def test_a_chance_order_is_not_stable() -> None:
    random = np.random.default_rng(0)
    values = {loss: random.normal(0.5, 0.1, 12).tolist() for loss in "ab"}
    table = ranks.rank_arms(cases_of(values), config())
    assert sum(table["first"]) == pytest.approx(1)
    assert table["first"].min() > 0.01  # type: ignore[operator]
    assert table["rank_high"].to_list() == [2, 2]


def test_tau_is_the_mean_over_resamples_of_scipys() -> None:
    random = np.random.default_rng(2)
    values = {loss: random.normal(0.5, 0.1, 10).tolist() for loss in "abcd"}
    table = ranks.rank_arms(cases_of(values), config())
    costs = -np.array([values[loss] for loss in "abcd"])
    observed = scipy.stats.rankdata(costs.mean(axis=1))
    drawn = random.integers(5, size=(4000, 2, 5))  # five cases of each of two folds
    folds = np.stack([costs[:, 0::2], costs[:, 1::2]])
    means = np.stack([folds[f][:, drawn[:, f]].mean(axis=-1) for f in (0, 1)]).mean(axis=0)
    taus = [scipy.stats.kendalltau(observed, column).statistic for column in means.T]
    assert set(table["tau"]) == {table["tau"][0]}
    assert table["tau"][0] == pytest.approx(np.mean(taus), abs=0.05)
    assert table["tau_low"][0] == pytest.approx(np.quantile(taus, 0.025), abs=0.4)


def test_tau_by_hand() -> None:
    assert ranks.kendall_tau(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == -1
    assert ranks.kendall_tau(np.array([1.0, 2, 3]), np.array([1.0, 1, 1])) == 0
    assert ranks.kendall_tau(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None
    # One pair of three tied: 2 / sqrt(3 * 2).
    assert ranks.kendall_tau(np.array([1.0, 2, 3]), np.array([1.0, 1, 3])) == 0.816497


def test_equal_arms_share_the_first_place() -> None:
    table = ranks.rank_arms(cases_of({"a": [0.5, 0.6, 0.7], "b": [0.5, 0.6, 0.7]}), config())
    assert table["rank"].to_list() == [1, 1]
    assert table["first"].to_list() == [1.0, 1.0]
    assert table["mean_rank"].to_list() == [1.5, 1.5]
    assert table["tau"].to_list() == table["tau_low"].to_list() == [None, None]


def test_one_arm_has_no_rank() -> None:
    table = ranks.rank_arms(cases_of({"a": [0.5, 0.6]}), config())
    assert table.equals(tables.empty("ranks"))


@pytest.mark.parametrize(("arms", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_values_of_demsars_table_5(arms: int, q: float) -> None:
    found = ranks.critical_difference(arms, 30, 0.05)
    assert found == pytest.approx(q * np.sqrt(arms * (arms + 1) / 180), abs=2e-3)


def test_row_order_and_names_of_cases_have_no_part() -> None:
    random = np.random.default_rng(1)
    cases = cases_of({loss: random.normal(0.5, 0.1, 8).tolist() for loss in "abc"})
    names = {f"c{index:02d}": f"n{(5 * index) % 8}" for index in range(8)}
    renamed = cases.with_columns(pl.col("case").replace(names)).reverse()
    assert ranks.rank_arms(renamed, config()).equals(ranks.rank_arms(cases, config()))
