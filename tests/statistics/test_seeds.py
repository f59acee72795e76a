"""What the seed decides: by hand, against statsmodels' analysis of variance, and on made values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import seeding
from minivess.config.schema import StatisticsConfig
from minivess.errors import MinivessError
from minivess.statistics import seeds, summary, tables

CONFIG = StatisticsConfig()


def table(values: dict[tuple[int, int, str], float], metric: str = "dice") -> pl.DataFrame:
    """The table cases of one arm: (seed, fold, case) -> value."""
    rows: list[dict[str, object]] = [
        {
            "experiment": "x",
            "model": "net",
            "loss": "dice_ce",
            "seed": seed,
            "fold": fold,
            "case": case,
            "metric": metric,
            "value": value,
            "unit": "1",
            "status": "ok",
        }
        for (seed, fold, case), value in values.items()
    ]
    return tables.from_rows("cases", rows)


def row_of(values: dict[tuple[int, int, str], float]) -> dict[str, Any]:
    found = seeds.seed_spread(table(values), CONFIG)
    return tables.schema("seeds").validate(found).row(0, named=True)


BY_HAND = {(0, 0, "a"): 0.5, (0, 0, "b"): 0.7, (1, 0, "a"): 0.6, (1, 0, "b"): 0.8}


def test_two_seeds_by_hand() -> None:
    row = row_of(BY_HAND)
    assert (row["seeds"], row["n_seeds"], row["n_cases"], row["n_folds"]) == ("0, 1", 2, 2, 1)
    assert (row["mean"], row["lowest"], row["highest"]) == pytest.approx((0.65, 0.6, 0.7))
    # Each seed shifts both cases by 0.1: the SD of two means that are 0.1 apart.
    assert row["sd_mean"] == pytest.approx(0.1 / math.sqrt(2), abs=1e-6)
    assert row["sd_network"] == pytest.approx(0.1 / math.sqrt(2), abs=1e-6)
    assert row["sd_case"] == pytest.approx(0.2 / math.sqrt(2), abs=1e-6)
    assert row["sd_rest"] == 0
    assert (row["seed_part"], row["status"]) == (pytest.approx(0.2), "ok")
    assert row["sd_low"] < row["sd_mean"] < row["sd_high"]


def test_one_seed_says_nothing_of_a_spread() -> None:
    row = row_of({key: value for key, value in BY_HAND.items() if key[0] == 0})
    assert (row["status"], row["n_seeds"], row["mean"]) == ("one_seed", 1, pytest.approx(0.6))
    spread = ("sd_mean", "sd_low", "sd_high", "lowest", "highest", "seed_part")
    assert all(row[name] is None for name in (*spread, "sd_case", "sd_network", "sd_rest"))


def test_one_case_per_fold_has_no_parts_but_a_spread() -> None:
    row = row_of({(s, f, f"c{f}"): 0.1 * s + 0.2 * f for s in (0, 1) for f in (0, 1)})
    assert (row["status"], row["seed_part"], row["sd_case"]) == ("one_case_per_fold", None, None)
    assert row["sd_mean"] == pytest.approx(0.1 / math.sqrt(2), abs=1e-6)


def test_equal_values_have_no_parts() -> None:
    row = row_of({(s, 0, case): 0.3 for s in (0, 1, 2) for case in "ab"})
    assert (row["status"], row["seed_part"], row["sd_mean"]) == ("no_variation", None, 0)


def test_seeds_with_different_cases_are_refused() -> None:
    lacking = {key: value for key, value in BY_HAND.items() if key != (1, 0, "b")}
    with pytest.raises(MinivessError, match="net/dice_ce/dice, fold 0") as caught:
        row_of(lacking)
    assert caught.value.code == "MV-STATE-002"


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
@pytest.mark.parametrize("sizes", [(4,), (3, 3), (2, 5, 3)])
def test_components_are_those_of_statsmodels_mean_squares(sizes: tuple[int, ...]) -> None:
    import pandas as pd

    random, n_seeds = seeding.generator(0, "test-seeds", str(sizes)), 3
    folds = {
        fold: random.normal(0, 0.3, (size, 1))
        + random.normal(0, 0.2, (1, n_seeds))
        + random.normal(0, 0.1, (size, n_seeds))
        for fold, size in enumerate(sizes)
    }
    frame = pd.DataFrame(
        [
            {"fold": f, "case": f"{f}-{c}", "run": f"{f}-{s}", "value": value}
            for f, values in folds.items()
            for (c, s), value in np.ndenumerate(values)
        ]
    )
    # What a factor explains beyond the other one; both of them hold the folds.
    left = {text: _squares_left(text, frame) for text in ("C(case)", "C(run)", "C(case) + C(run)")}
    both, n, many = left["C(case) + C(run)"], len(sizes), sum(sizes)
    mean_case = (left["C(run)"] - both) / (many - n)
    mean_run = (left["C(case)"] - both) / (n * (n_seeds - 1))
    rest = both / ((many - n) * (n_seeds - 1))
    found = seeds.components(folds)
    assert found is not None
    assert found.rest == pytest.approx(rest)
    assert found.case == pytest.approx(max(0, (mean_case - rest) / n_seeds))
    assert found.network == pytest.approx(max(0, (mean_run - rest) * n / many))


def _squares_left(factors: str, frame: Any) -> float:
    import statsmodels.formula.api as smf  # type: ignore[import-untyped, unused-ignore]

    return float(smf.ols(f"value ~ {factors}", frame).fit().ssr)


def test_components_are_found_again_in_many_made_values() -> None:
    random, shape = seeding.generator(1, "test-seeds"), (12, 4)
    made = [
        seeds.components(
            {
                fold: random.normal(0, 3, (shape[0], 1))
                + random.normal(0, 2, (1, shape[1]))
                + random.normal(0, 1, shape)
                for fold in range(3)
            }
        )
        for _ in range(300)
    ]
    mean = [np.mean([getattr(one, name) for one in made]) for name in ("case", "network", "rest")]
    assert mean == pytest.approx([9, 4, 1], rel=0.1)


@settings(max_examples=20, deadline=None)
@given(st.permutations(list(BY_HAND)), st.floats(-5, 5), st.floats(0.1, 10))
def test_order_and_shift_change_nothing_and_a_factor_scales(
    order: list[tuple[int, int, str]], shift: float, factor: float
) -> None:
    first = row_of(BY_HAND)
    row = row_of({key: factor * BY_HAND[key] + shift for key in order})
    assert row["sd_mean"] == pytest.approx(factor * first["sd_mean"], rel=1e-4)
    assert row["seed_part"] == pytest.approx(first["seed_part"], rel=1e-4)


def test_the_interval_holds_as_often_as_it_says() -> None:
    random, n = seeding.generator(2, "test-seeds"), 4
    sds = random.normal(0, 1, (2000, n)).std(axis=1, ddof=1)
    ends = [seeds.sd_interval(float(sd), n, 0.9) for sd in sds]
    assert np.mean([low <= 1 <= high for low, high in ends]) == pytest.approx(0.9, abs=0.02)


def lines_of(values: dict[tuple[int, int, str], float]) -> list[str]:
    cases = pl.concat([table(values, metric) for metric in summary.MAIN_METRICS])
    rows = seeds.seed_spread(cases, CONFIG).to_dicts()
    return summary.seed_lines(rows, {("net", "dice_ce"): "dice_ce"})


def test_the_summary_has_a_block_for_several_seeds_alone() -> None:
    assert lines_of({key: value for key, value in BY_HAND.items() if key[0] == 0}) == []
    lines = lines_of(BY_HAND)
    assert "Between 2 seeds" in lines[1]
    assert max(len(line) for line in lines) <= summary.WIDTH
    assert lines[-2].split() == ["dice_ce", *["0.071"] * len(summary.MAIN_METRICS)]
    assert lines[-1].split() == ["20%"] * len(summary.MAIN_METRICS)
