"""Champions: by hand, by the rules for ties and gaps, and what is said about them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.schema import StatisticsConfig
from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.statistics import champion as rules
from minivess.statistics import tables
from minivess.types import RunKey

FAST = StatisticsConfig(bootstrap_resamples=199)
A, B, C = ("net", "a"), ("net", "b"), ("net", "c")
NEEDED = sorted({metric for rule in rules.RULES.values() for metric in rule.metrics})


def table(values: dict[tuple[str, str], dict[str, list[float]]]) -> pl.DataFrame:
    """Arm -> metric -> value of each case; metrics that are not given are equal everywhere."""
    rows = []
    for (model, loss), given_values in values.items():
        n = len(next(iter(given_values.values())))
        for metric in NEEDED:
            for index, value in enumerate(given_values.get(metric, [0.5] * n)):
                rows.append(
                    {
                        "experiment": "test",
                        "model": model,
                        "loss": loss,
                        "seed": 0,
                        "fold": index % 2,
                        "case": f"c{index}",
                        "metric": metric,
                        "value": value,
                        "unit": METRICS[metric].unit,
                        "status": "ok",
                    }
                )
    return tables.from_rows("cases", rows)


def test_equal_means_are_decided_by_ranks() -> None:
    """Both have a mean Dice of 0.7; B is better in two of three cases."""
    cases = table({A: {"dice": [0.6, 0.8, 0.7]}, B: {"dice": [0.7, 0.9, 0.5]}})
    _, chosen = rules.choose_all(cases, FAST)
    one = chosen["overlap"]
    assert one.arm == B
    assert one.tie_broken_by == "mean rank"
    assert one.margin == pytest.approx(0.0)
    assert (one.cases_won, one.cases_lost) == (2, 1)


def test_the_margin_is_the_paired_difference() -> None:
    cases = table({A: {"dice": [0.5, 0.6, 0.7, 0.8]}, B: {"dice": [0.6, 0.8, 0.7, 0.9]}})
    _, chosen = rules.choose_all(cases, FAST)
    one = chosen["overlap"]
    assert one.arm == B
    assert one.margin == pytest.approx(0.1)
    assert one.ci_low is not None
    assert one.ci_high is not None
    assert one.ci_low <= 0.1 <= one.ci_high
    assert (one.cases_won, one.cases_lost, one.n_cases) == (3, 0, 4)
    assert [entry.score for entry in one.standings] == pytest.approx([0.75, 0.65])


def test_topology_ranks_by_case_and_metric() -> None:
    """By hand: ranks of A are 1, 2, 1 | 1, 1.5, 1 ..., with lower errors better."""
    cases = table(
        {
            A: {"cldice": [0.9, 0.9], "betti0_error": [5.0, 1.0], "betti1_error": [0.0, 2.0]},
            B: {"cldice": [0.8, 0.8], "betti0_error": [1.0, 1.0], "betti1_error": [3.0, 3.0]},
        }
    )
    _, chosen = rules.choose_all(cases, FAST)
    one = chosen["topology"]
    # A: case 0 (1 + 2 + 1) / 3, case 1 (1 + 1.5 + 1) / 3
    assert one.arm == A
    assert one.standings[0].score == pytest.approx((4 / 3 + 3.5 / 3) / 2)
    assert one.standings[1].score == pytest.approx((5 / 3 + 5.5 / 3) / 2)
    assert one.margin == pytest.approx(0.5)


def test_units_do_not_matter_to_ranks() -> None:
    base = {A: {"masd_um": [1.0, 9.0, 2.0]}, B: {"masd_um": [2.0, 3.0, 4.0]}}
    scaled = {arm: {"masd_um": [1000 * v for v in m["masd_um"]]} for arm, m in base.items()}
    first, second = (rules.choose_all(table(one), FAST)[1]["balanced"] for one in (base, scaled))
    assert first.arm == second.arm
    assert first.margin == second.margin


def test_an_arm_with_a_gap_is_no_candidate() -> None:
    cases = table({A: {"dice": [0.9, 0.9, 0.9]}, B: {"dice": [0.1, 0.1, 0.1]}})
    cases = cases.filter(~((pl.col("loss") == "a") & (pl.col("case") == "c1")))
    found, chosen = rules.choose_all(cases, FAST)
    assert {one.arm for one in chosen.values()} == {B}
    assert "c1" in found.refused[A]
    assert all(one.margin is None for one in chosen.values())


def test_nobody_is_complete() -> None:
    cases = table({A: {"dice": [0.9, 0.9]}, B: {"dice": [0.1, 0.1]}})
    cases = cases.filter(~((pl.col("loss") == "a") & (pl.col("case") == "c1")))
    cases = cases.filter(~((pl.col("loss") == "b") & (pl.col("case") == "c0")))
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        rules.choose_all(cases, FAST)


def test_equal_in_everything_goes_by_the_order_of_the_config() -> None:
    cases = table({A: {"dice": [0.5, 0.6]}, B: {"dice": [0.5, 0.6]}})
    for order in ((A, B), (B, A)):
        _, chosen = rules.choose_all(cases, FAST, order)
        assert {one.arm for one in chosen.values()} == {order[0]}
        assert {one.tie_broken_by for one in chosen.values()} == {"order"}


def test_last_bits_decide_nothing() -> None:
    cases = table({A: {"dice": [0.1 + 0.2, 0.5]}, B: {"dice": [0.3, 0.5]}})
    _, chosen = rules.choose_all(cases, FAST, (B, A))
    assert chosen["overlap"].tie_broken_by != ""


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.floats(0, 1, allow_nan=False)] * 3), min_size=2, max_size=6))
def test_the_winner_is_best_and_does_not_depend_on_the_order_of_rows(
    values: list[tuple[float, float, float]],
) -> None:
    columns = np.array(values).T
    cases = table({arm: {"dice": list(c)} for arm, c in zip((A, B, C), columns, strict=True)})
    _, chosen = rules.choose_all(cases, FAST)
    _, again = rules.choose_all(cases.sample(fraction=1, shuffle=True, seed=1), FAST)
    one = chosen["overlap"]
    assert one.standings[0].score == pytest.approx(columns.mean(axis=1).max(), abs=1e-9)
    assert one.margin is not None
    assert one.margin >= -1e-9
    assert [e.arm for e in one.standings] == [e.arm for e in again["overlap"].standings]


def explained(cases: pl.DataFrame, kind: str) -> str:
    one = rules.choose_all(cases, FAST)[1][kind]
    record = rules.as_record(one, RunKey(*one.arm, 0, 0), "0" * 64)
    return rules.explain(record, lambda arm: arm[1])


def test_what_is_said_is_what_was_found() -> None:
    clear = table({A: {"dice": [0.5, 0.6, 0.7, 0.8]}, B: {"dice": [0.6, 0.8, 0.8, 0.95]}})
    assert "better in 4, worse in 0 of 4 cases" in explained(clear, "overlap")
    assert "holds 0" not in explained(clear, "overlap")
    unclear = table({A: {"dice": [0.5, 0.6, 0.7, 0.8]}, B: {"dice": [0.6, 0.5, 0.8, 0.71]}})
    assert "the interval holds 0" in explained(unclear, "overlap")
    constant = table({A: {"dice": [0.25, 0.5]}, B: {"dice": [0.5, 0.75]}})
    text = explained(constant, "overlap")
    assert "0.2500 (no interval" in text
    assert "holds 0" not in text, "there is no interval that could"
    assert "won against nobody" in explained(table({A: {"dice": [0.5, 0.6]}}), "overlap")


def test_the_run_that_stands_for_an_arm() -> None:
    rows = [
        {"experiment": "t", "model": "net", "loss": loss, "seed": seed, "fold": fold}
        | {"status": "FINISHED", "run_digest": "x", "config_digest": "x", "epochs": 1}
        | {"best_epoch": 1, "best_selection_dice": dice}
        for loss, seed, fold, dice in (
            ("a", 0, 0, 0.7),
            ("a", 0, 1, 0.8),
            ("a", 1, 0, 0.8),
            ("b", 0, 0, 0.9),
        )
    ]
    runs = tables.from_rows("runs", rows)
    assert rules.representative(runs, A) == (0, 1)
    assert rules.representative(runs, B) == (0, 0)
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        rules.representative(runs, C)


def test_without_selection_cases_the_first_run_stands_for_an_arm() -> None:
    rows = [
        {"experiment": "t", "model": "net", "loss": "a", "seed": seed, "fold": fold}
        | {"status": "FINISHED", "run_digest": "x", "config_digest": "x", "epochs": 1}
        | {"best_epoch": 1, "best_selection_dice": None}
        for seed, fold in ((1, 0), (0, 1), (0, 0))
    ]
    assert rules.representative(tables.from_rows("runs", rows), A) == (0, 0)
