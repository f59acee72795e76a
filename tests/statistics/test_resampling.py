"""Resampling within folds and groups: what is drawn, and that order and names have no part."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import seeding
from minivess.config.plan import AnalysisPlan
from minivess.config.schema import StatisticsConfig
from minivess.statistics import resampling
from minivess.statistics.resampling import (
    mean_interval,
    resample_counts,
    sample,
    sign_flip_p,
    weighted_mean,
)


def config(kind: resampling.Resampling, **keys: int) -> StatisticsConfig:
    numbers = {"bootstrap_resamples": 199, "permutation_resamples": 199, **keys}
    return StatisticsConfig(plan=AnalysisPlan(resampling=kind), **numbers)


CASES = config("cases_within_folds")
GROUPS = config("groups_within_folds")


def test_within_folds_each_fold_keeps_its_size() -> None:
    drawn = sample(range(7), folds=[0, 0, 0, 0, 1, 1, 1])
    counts = resample_counts(drawn, "cases_within_folds", 500, seeding.generator(0, "t"))
    assert np.all(counts[:, drawn.folds == 0].sum(axis=1) == 4)
    assert np.all(counts[:, drawn.folds == 1].sum(axis=1) == 3)
    whole = resample_counts(drawn, "cases", 500, seeding.generator(0, "t"))
    assert np.all(whole.sum(axis=1) == 7)
    assert len(set(whole[:, drawn.folds == 0].sum(axis=1))) > 2
    for table in (counts, whole):
        assert np.abs(table.mean(axis=0) - 1).max() < 0.2


def test_groups_are_drawn_before_their_cases() -> None:
    """Two groups of 1 and 3 cases: 2, 4 or 6 cases, in the parts 1/4, 1/2, 1/4."""
    drawn = sample([1.0, 2, 3, 4], groups=["a", "b", "b", "b"])
    counts = resample_counts(drawn, "groups_within_folds", 4000, seeding.generator(0, "t"))
    sizes, times = np.unique(counts.sum(axis=1), return_counts=True)
    assert sizes.tolist() == [2, 4, 6]
    assert times / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    # Of the three cases of the larger group each is drawn as often.
    own = counts[:, drawn.groups == np.bincount(drawn.groups).argmax()].mean(axis=0)
    assert own == pytest.approx(np.ones(3), abs=0.06)


def test_groups_that_hold_one_case_each_are_a_bootstrap_of_cases() -> None:
    values = np.random.default_rng(3).normal(size=30)
    low, high, method = mean_interval(
        sample(values), config("groups_within_folds", bootstrap_resamples=9999), "t"
    )
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert method == "hierarchical"
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_equal_cases_of_a_group_count_as_one() -> None:
    """Copies of a case widen nothing where groups are drawn, and mislead where cases are."""
    values = np.repeat(np.random.default_rng(1).normal(size=12), 5)
    groups = np.repeat(np.arange(12), 5).tolist()
    alone = mean_interval(sample(values[::5]), GROUPS, "t")
    grouped = mean_interval(sample(values, groups=groups), GROUPS, "t")
    misled = mean_interval(sample(values), CASES, "t")
    assert grouped[0] == pytest.approx(alone[0])
    assert grouped[1] == pytest.approx(alone[1])
    assert misled[1] - misled[0] < 0.6 * (grouped[1] - grouped[0])  # type: ignore[operator]


def test_interval_within_folds_leaves_the_difference_between_folds_out() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 0.1, 20), rng.normal(5, 0.1, 20)])
    folds = [0] * 20 + [1] * 20
    within = mean_interval(sample(values, folds), CASES, "t")
    pooled = mean_interval(sample(values, folds), config("cases"), "t")
    assert within[2] == "BCa within folds"
    assert (within[1] - within[0]) < 0.1 * (pooled[1] - pooled[0])  # type: ignore[operator]


def test_a_fold_with_one_unit_has_no_interval() -> None:
    drawn = sample([1.0, 2.0, 3.0], folds=[0, 0, 1])
    assert mean_interval(drawn, CASES, "t") == (None, None, "none")
    assert mean_interval(drawn, config("cases"), "t")[0] is not None
    one_group = sample([1.0, 2.0, 3.0, 4.0], folds=[0, 0, 1, 1], groups=["a", "a", "b", "c"])
    assert mean_interval(one_group, GROUPS, "t") == (None, None, "none")


def test_all_cases_of_a_group_change_sign_together() -> None:
    """Of two groups there are four flips, whatever the number of cases."""
    drawn = sample([1.0, 2.0, 3.0, 4.0], groups=["a", "a", "b", "b"])
    assert sign_flip_p(drawn, GROUPS) == 0.5
    assert sign_flip_p(drawn, CASES) == 2 / 16


def test_one_sided() -> None:
    drawn = sample([1.0, 2.0, 3.0])
    assert sign_flip_p(drawn, CASES, better=1) == 1 / 8
    assert sign_flip_p(drawn, CASES, better=-1) == 1.0


def test_group_flips_keep_their_level_where_case_flips_do_not() -> None:
    """Five equal cases per group: without a difference p is uniform only for groups."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(9), 5).tolist()
    p_values: dict[str, list[float]] = {"group": [], "case": []}
    for _ in range(150):
        drawn = sample(np.repeat(rng.normal(size=9), 5), groups=groups)
        p_values["group"].append(sign_flip_p(drawn, config("groups_within_folds")))
        p_values["case"].append(sign_flip_p(drawn, CASES))
    assert scipy.stats.kstest(p_values["group"], "uniform").pvalue > 0.01
    assert scipy.stats.kstest(p_values["case"], "uniform").pvalue < 1e-6


VALUES = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(0, 1), st.integers(0, 2)), min_size=3, max_size=9
)


@settings(deadline=None, max_examples=40)
@given(VALUES, st.randoms(use_true_random=False), st.sampled_from(list(resampling.METHODS)))
def test_order_and_names_have_no_part(rows, random, kind) -> None:  # type: ignore[no-untyped-def]
    """Cases in another order, groups under other names: the same sample, so the same numbers."""
    names = ["x", "y", "z"]
    random.shuffle(names)
    first = sample([v for v, _, _ in rows], [f for _, f, _ in rows], [(f, g) for _, f, g in rows])
    random.shuffle(rows)
    second = sample(
        [v for v, _, _ in rows], [f for _, f, _ in rows], [f"{f}{names[g]}" for _, f, g in rows]
    )
    assert first.values.tolist() == second.values.tolist()
    quick = config(kind, bootstrap_resamples=19, permutation_resamples=19)
    assert mean_interval(first, quick, "t") == mean_interval(second, quick, "t")
    assert sign_flip_p(first, quick) == sign_flip_p(second, quick)


def test_weighted_mean_is_the_mean_of_repeated_values() -> None:
    values, weights = np.array([1.0, 5.0, 2.0]), np.array([[2.0, 0.0, 1.0]])
    assert weighted_mean(values, weights) == pytest.approx([4 / 3])


def test_unknown_groups_are_refused() -> None:
    import polars as pl

    cases = pl.DataFrame({"case": ["a", "b"], "fold": [0, 1]})
    with pytest.raises(ValueError, match="of b it is not known"):
        resampling.design_of(cases, {"a": "1"}, "groups_within_folds")
