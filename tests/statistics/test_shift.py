"""Properties of cases and distances of data sets, against values computed otherwise."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.statistics import tables
from minivess.statistics.shift import PROPERTIES, case_properties, property_rows, shift_table


def test_properties_are_what_numpy_says() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4096, (12, 10, 6)).astype(np.uint16)
    label = rng.random(image.shape) > 0.8
    found = case_properties(image, label, (0.5, 0.6, 4.0))
    assert list(found) == list(PROPERTIES)
    assert [found[f"spacing_{axis}"] for axis in "xyz"] == [0.5, 0.6, 4.0]
    assert [found[f"size_{axis}"] for axis in "xyz"] == pytest.approx([6.0, 6.0, 24.0])
    inside, outside = image[label].astype(float), image[~label].astype(float)
    low, high = np.percentile(image.astype(float), [1, 99])
    assert found["intensity_mean"] == pytest.approx(image.mean())
    assert found["contrast"] == pytest.approx((inside.mean() - outside.mean()) / (high - low))
    assert found["snr"] == pytest.approx(inside.mean() / outside.std())
    assert found["vessel_fraction"] == pytest.approx(label.mean())


def test_contrast_does_not_change_with_gain_and_offset() -> None:
    rng = np.random.default_rng(1)
    image, label = rng.random((8, 8, 4)), rng.random((8, 8, 4)) > 0.7
    one = case_properties(image, label, (1, 1, 1))["contrast"]
    assert case_properties(3 * image - 7, label, (1, 1, 1))["contrast"] == pytest.approx(one)


@pytest.mark.parametrize("value", [0, 1])
def test_what_is_not_defined_is_none(value: int) -> None:
    label = np.full((4, 4, 2), value, dtype=bool)
    found = case_properties(np.arange(32.0).reshape(4, 4, 2), label, (1, 1, 1))
    assert (found["contrast"], found["snr"]) == (None, None)
    assert found["vessel_fraction"] == value
    half = np.zeros((4, 4, 2), dtype=bool)
    half[:2] = True
    constant = case_properties(half * 5.0, half, (1, 1, 1))
    assert constant["snr"] is None
    assert constant["contrast"] == 1


def table_of(own: list[float | None], other: list[float | None]) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    for name, values in (("own", own), ("x", other)):
        cases = {f"{name}{n}": dict.fromkeys(PROPERTIES, v) for n, v in enumerate(values)}
        rows += property_rows(name, cases)
    return shift_table("x", tables.from_rows("properties", rows))


finite = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8)


@settings(deadline=None, max_examples=40)
@given(finite, finite)
def test_distances_by_their_definitions(own: list[float], other: list[float]) -> None:
    row = table_of(own, other).row(0, named=True)
    grid = np.sort(np.array([*own, *other]))
    cdf = [
        np.searchsorted(np.sort(values), grid, side="right") / len(values)
        for values in (own, other)
    ]
    gap = np.abs(cdf[0] - cdf[1])
    assert row["ks_statistic"] == pytest.approx(gap.max())
    assert row["wasserstein"] == pytest.approx((gap[:-1] * np.diff(grid)).sum(), abs=1e-6)
    assert (row["n_own"], row["n_set"]) == (len(own), len(other))
    assert (row["median_own"], row["median_set"]) == (np.median(own), np.median(other))


def test_exact_p_of_two_separate_samples() -> None:
    """Of the 20 ways to deal six values to two sides two are as extreme."""
    assert table_of([1, 2, 3], [4, 5, 6])["ks_p"][0] == pytest.approx(2 / 20)


def test_a_value_that_is_missing_is_in_no_n_and_all_missing_is_null() -> None:
    row = table_of([1, None, 3], [None]).row(0, named=True)
    assert (row["n_own"], row["n_set"]) == (2, 0)
    assert (row["median_own"], row["median_set"], row["ks_p"]) == (2, None, None)
    tables.schema("shift").validate(table_of([1.0], [None]))


def test_every_property_has_its_row() -> None:
    table = table_of([1.0, 2.0], [1.0])
    assert set(table["property"]) == set(PROPERTIES)
    assert dict(table.select("property", "unit").iter_rows()) == PROPERTIES
