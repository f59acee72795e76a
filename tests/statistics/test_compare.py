"""Intervals and paired tests against hand-computed values, SciPy, statsmodels and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import seeding
from minivess.config.plan import AnalysisPlan
from minivess.config.schema import StatisticsConfig
from minivess.errors import MinivessError
from minivess.statistics import compare, tables
from minivess.statistics.resampling import mean_interval, sample, sign_flip_p

DICE = AnalysisPlan(secondary_metrics=(), rope={}, resampling="cases")
FAST = StatisticsConfig(
    plan=DICE, bootstrap_resamples=199, permutation_resamples=199, posterior_samples=99
)
A, B, C = ("net", "a"), ("net", "b"), ("other", "a")


def cases_table(
    values: dict[tuple[str, str], dict[str, list[float]]],
    metric: str = "dice",
    status: str = "ok",
) -> pl.DataFrame:
    """Arm -> case -> value of each seed, as the table cases."""
    rows: list[dict[str, object]] = [
        {
            "experiment": "test",
            "model": model,
            "loss": loss,
            "seed": seed,
            "fold": index % 2,
            "case": case,
            "metric": metric,
            "value": value,
            "unit": "1",
            "status": status,
        }
        for (model, loss), by_case in values.items()
        for index, (case, by_seed) in enumerate(by_case.items())
        for seed, value in enumerate(by_seed)
    ]
    return tables.from_rows("cases", rows)


def one_arm(values: list[float], arm: tuple[str, str] = A) -> dict:  # type: ignore[type-arg]
    return {arm: {f"c{index:02d}": [value] for index, value in enumerate(values)}}


def test_summarise_by_hand() -> None:
    cases = cases_table({A: {"x": [0.2, 0.4], "y": [0.5, 0.7], "z": [0.9, 0.9]}})
    row = compare.summarise(cases, FAST).row(0, named=True)
    assert row["n_cases"] == 3
    assert row["n_not_ok"] == 0
    assert row["mean"] == pytest.approx(0.6)  # of 0.3, 0.6, 0.9: seeds first
    assert row["sd"] == pytest.approx(0.3)
    assert row["ci_method"] == "BCa"
    assert row["ci_low"] <= row["mean"] <= row["ci_high"]


def test_summarise_counts_failed_values_and_keeps_them() -> None:
    good = cases_table(one_arm([0.8, 0.9]))
    bad = cases_table({A: {"failed": [0.0]}}, status="empty_prediction")
    row = compare.summarise(pl.concat([good, bad]), FAST).row(0, named=True)
    assert (row["n_cases"], row["n_not_ok"]) == (3, 1)
    assert row["mean"] == pytest.approx(1.7 / 3)


@pytest.mark.parametrize(("values", "sd"), [([0.7], None), ([0.7, 0.7, 0.7], 0.0)])
def test_no_interval_of_one_or_equal_values(values: list[float], sd: float | None) -> None:
    table = compare.summarise(cases_table(one_arm(values)), FAST)
    row = table.row(0, named=True)
    assert (row["ci_low"], row["ci_high"], row["ci_method"]) == (None, None, "none")
    assert row["sd"] == sd
    tables.schema("summary").validate(table)


def test_degenerate_bca_is_said_to_be_none() -> None:
    values = np.array([1.0, 1.0, np.nextafter(1.0, 2.0)])
    assert mean_interval(sample(values), FAST, "test") == (None, None, "none")


def test_interval_is_scipys() -> None:
    values = np.array([0.2, 0.5, 0.55, 0.7, 0.71, 0.9])
    config = StatisticsConfig(
        plan=AnalysisPlan(alpha=0.1), bootstrap_resamples=499, statistics_seed=3
    )
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=0.9,
        n_resamples=499,
        method="BCa",
        rng=seeding.generator(3, "p", "i"),
    ).confidence_interval
    assert mean_interval(sample(values[::-1]), config, "p", "i") == (
        expected.low,
        expected.high,
        "BCa within folds",
    )


def test_interval_covers_the_true_mean() -> None:
    """Of 200 normal samples of 20, 0.95 intervals hold the mean in about 185 to 197."""
    rng = np.random.default_rng(1)
    hits = 0
    for index in range(200):
        values = sample(rng.normal(3.0, 1.0, 20))
        low, high, _ = mean_interval(values, FAST, "cover", str(index))
        assert low is not None
        assert high is not None
        hits += low <= 3.0 <= high
    assert 175 <= hits <= 198


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 2 / 256),
        ([1.0, -1.0], 1.0),
        ([3.0, -1.0], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([5.0], 1.0),
        ([4.0, 3.0, -1.0], 4 / 8),
    ],
)
def test_exact_p_values(differences: list[float], p: float) -> None:
    assert sign_flip_p(sample(differences), StatisticsConfig()) == pytest.approx(p)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=7))
def test_p_value_against_own_enumeration(differences: list[int]) -> None:
    observed = abs(sum(differences))
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    extreme = sum(
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True))) >= observed
        for signs in flips
    )
    p = sign_flip_p(sample(differences), StatisticsConfig())
    assert p == pytest.approx(float(Fraction(extreme, len(flips))))


def test_random_flips_are_scipys_and_never_zero() -> None:
    differences = np.linspace(0.1, 1.0, 30)
    expected = scipy.stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=199,
        rng=seeding.generator(0, "sign-flips", "x"),
    )
    p = sign_flip_p(sample(differences), FAST, "x")
    assert p == expected.pvalue == pytest.approx(2 / 200)


def test_exact_where_resamples_and_the_observed_one_enumerate_all() -> None:
    differences = np.arange(1.0, 9.0)
    exact = StatisticsConfig(permutation_resamples=255)
    random = StatisticsConfig(permutation_resamples=254)
    assert sign_flip_p(sample(differences), exact) == pytest.approx(2 / 256)
    assert sign_flip_p(sample(differences), random) != pytest.approx(2 / 256)


def test_p_values_are_uniform_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    p_values = [
        sign_flip_p(sample(rng.normal(size=9)), StatisticsConfig(permutation_resamples=999))
        for _ in range(300)
    ]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_against_its_definition(p_values: list[float]) -> None:
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    expected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        expected[index] = running
    assert compare.adjusted(p_values, "holm") == pytest.approx(expected)


def test_holm_of_nothing() -> None:
    assert compare.adjusted([], "holm") == []


def test_compare_by_hand() -> None:
    cases = cases_table(
        {
            B: {"x": [0.9, 0.7], "y": [0.6], "only_b": [0.1]},
            A: {"x": [0.5], "y": [0.4], "only_a": [1.0]},
        }
    )
    table = tables.schema("comparison").validate(compare.compare(cases, FAST))
    row = table.row(0, named=True)
    assert table.height == 1
    assert (row["loss_a"], row["loss_b"], row["n_cases"]) == ("a", "b", 2)
    assert row["difference"] == pytest.approx(((0.5 - 0.8) + (0.4 - 0.6)) / 2)
    assert row["p_value"] == pytest.approx(0.5)
    assert row["p_adjusted"] == row["p_value"]


def test_compare_corrects_within_each_metric() -> None:
    rng = np.random.default_rng(5)
    arms = {
        arm: {f"c{index}": [float(rng.normal(shift, 0.1))] for index in range(6)}
        for arm, shift in ((A, 0.0), (B, 0.05), (C, 0.4))
    }
    two = {arm: arms[arm] for arm in (A, B)}
    both = pl.concat([cases_table(arms), cases_table(two, metric="nsd")])
    plan = AnalysisPlan(secondary_metrics=("nsd",), rope={})
    config = FAST.model_copy(update={"plan": plan})
    table = compare.compare(both, config)
    dice = table.filter(pl.col("metric") == "dice")
    pairs = dice.select("model_a", "loss_a", "model_b", "loss_b").rows()
    assert pairs == [(*A, *B), (*A, *C), (*B, *C)]
    assert dice["p_adjusted"].to_list() == pytest.approx(
        compare.adjusted(dice["p_value"].to_list(), "holm")
    )
    nsd = table.filter(pl.col("metric") == "nsd")
    assert nsd["p_adjusted"].to_list() == nsd["p_value"].to_list()


def test_equal_arms() -> None:
    values = [0.3, 0.6, 0.8]
    row = compare.compare(cases_table(one_arm(values) | one_arm(values, B)), FAST).row(
        0, named=True
    )
    assert (row["difference"], row["p_value"], row["p_adjusted"]) == (0.0, 1.0, 1.0)
    assert (row["ci_low"], row["ci_high"]) == (None, None)


def test_one_arm_has_no_comparison() -> None:
    table = compare.compare(cases_table(one_arm([0.3, 0.6])), FAST)
    assert table.height == 0
    tables.schema("comparison").validate(table)


def test_arms_without_a_common_case() -> None:
    cases = cases_table({A: {"x": [0.5]}, B: {"y": [0.5]}})
    with pytest.raises(MinivessError) as caught:
        compare.compare(cases, FAST)
    assert caught.value.code == "MV-STATE-002"
    assert "net/a and net/b" in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        compare.summarise(cases_table(one_arm([0.5, value])), FAST)


@settings(deadline=None, max_examples=5)
@given(st.randoms(use_true_random=False), st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_row_order_does_not_matter(random, values: list[float]) -> None:  # type: ignore[no-untyped-def]
    arms = {
        arm: {f"c{i}": [values[i], values[(i + k) % 6] / 3] for i in range(6)}
        for k, arm in enumerate((A, B, C))
    }
    cases = cases_table(arms)
    order = list(range(cases.height))
    random.shuffle(order)
    quick = FAST.model_copy(update={"bootstrap_resamples": 29, "permutation_resamples": 29})
    for function in (compare.summarise, compare.compare):
        assert function(cases, quick).equals(function(cases[order], quick))


def test_seed_decides() -> None:
    cases = cases_table(one_arm([0.1, 0.4, 0.5, 0.9, 0.95]))
    again, other = FAST.model_copy(), FAST.model_copy(update={"statistics_seed": 1})
    assert compare.summarise(cases, FAST).equals(compare.summarise(cases, again))
    assert not compare.summarise(cases, FAST).equals(compare.summarise(cases, other))


def test_results_of_an_arm_do_not_depend_on_other_arms() -> None:
    alone = compare.summarise(cases_table(one_arm([0.1, 0.4, 0.9])), FAST)
    both = compare.summarise(
        cases_table(one_arm([0.1, 0.4, 0.9]) | one_arm([0.2, 0.5, 0.6], B)), FAST
    )
    assert both.filter(pl.col("loss") == "a").equals(alone)
