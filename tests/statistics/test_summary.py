"""The quoted numbers and the text of the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess import output
from minivess.config.schema import StatisticsConfig
from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.statistics import compare, summary, tables

FAST = StatisticsConfig(bootstrap_resamples=99, permutation_resamples=99)
DICE = {
    ("net", "dice_ce"): {"mv01": 0.80, "mv02": 0.60, "mv03": 0.0},
    ("net", "cldice"): {"mv01": 0.90, "mv02": 0.70, "mv03": 0.5},
}
BASELINE = {"mv01": 0.5, "mv02": 0.4, "mv03": 0.3, "not_evaluated": 1.0}


def make(
    dice: dict[tuple[str, str], dict[str, float]] = DICE,
) -> dict[str, pl.DataFrame]:
    """The four tables that the summary is made from."""
    rows: list[dict[str, object]] = [
        {
            "experiment": "demo",
            "model": model,
            "loss": loss,
            "seed": 0,
            "fold": index % 2,
            "case": case,
            "metric": metric,
            "value": value if METRICS[metric].unit == "1" else 200 * (1 - value),
            "unit": METRICS[metric].unit,
            "status": "ok" if value else "empty_prediction",
        }
        for (model, loss), by_case in dice.items()
        for index, (case, value) in enumerate(by_case.items())
        for metric in summary.MAIN_METRICS
    ]
    cases = tables.from_rows("cases", rows)
    baseline: list[dict[str, object]] = [
        {"case": case, "threshold": 0.5, "dice": value} for case, value in BASELINE.items()
    ]
    return {
        "cases": cases,
        "summary": compare.summarise(cases, FAST),
        "comparison": compare.compare(cases, FAST),
        "baseline": tables.from_rows("baseline", baseline),
    }


def numbers(**changed: Any) -> dict[str, Any]:
    return summary.summary_json(**{**make(), **changed}, statistics=FAST)


def test_numbers_by_hand() -> None:
    found = numbers()
    assert (found["experiment"], found["n_cases"], found["n_folds"]) == ("demo", 3, 2)
    assert (found["seeds"], found["primary_metric"]) == ([0], "dice")
    assert found["baseline"] == {"n_cases": 3, "dice": pytest.approx(0.4)}
    first, second = found["arms"]
    assert (first["loss"], second["loss"]) == ("cldice", "dice_ce")
    assert second["metrics"]["dice"]["mean"] == pytest.approx(1.4 / 3)
    assert second["dice_over_baseline"] == pytest.approx(1.4 / 3 - 0.4)
    assert (second["n_not_ok"], second["n_predictions"]) == (1, 3)
    assert second["metrics"]["masd_um"]["unit"] == "um"
    assert len(found["comparison"]) == len(summary.MAIN_METRICS)


def test_margin_is_over_the_cases_of_the_arm() -> None:
    dice = {("net", "a"): {"mv01": 0.8}, ("net", "b"): {"mv01": 0.8, "mv03": 0.8}}
    found = numbers(**make(dice))
    margins = [arm["dice_over_baseline"] for arm in found["arms"]]
    assert margins == pytest.approx([0.3, 0.4])


def test_order_of_the_arms_can_be_given() -> None:
    found = numbers(arms=(("net", "dice_ce"), ("net", "cldice")))
    assert [arm["loss"] for arm in found["arms"]] == ["dice_ce", "cldice"]


def test_numbers_are_written_and_read_back_exactly(tmp_path: Path) -> None:
    found = numbers()
    output.write_json(found, tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == found


def test_baseline_that_lacks_a_case() -> None:
    baseline = make()["baseline"].filter(pl.col("case") != "mv02")
    with pytest.raises(MinivessError, match="mv02") as caught:
        numbers(baseline=baseline)
    assert caught.value.code == "MV-STATE-002"


def test_no_cases() -> None:
    with pytest.raises(MinivessError) as caught:
        numbers(cases=tables.empty("cases"))
    assert caught.value.code == "MV-STATE-002"


def test_text_has_what_it_promises() -> None:
    text = summary.summary_text(numbers(), "results/demo/figures", "results/demo/report.html")
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "0.700" in rows["cldice"]
    assert "0.467" in rows["dice_ce"]
    assert "0.400" in rows["best single threshold"]
    assert "MASD (um)" in text
    assert "3 cases, 2 folds, seed 0" in text
    assert "Status not ok (empty masks; counted in the means): dice_ce 1 of 3" in text
    assert "cldice minus dice_ce" in text
    assert "+0.233" in text  # mean of 0.1, 0.1, 0.5
    assert "p 0.2500" in text
    assert "results/demo/figures" in text
    assert "results/demo/report.html" in text


def test_text_of_one_arm_all_ok() -> None:
    dice = {("net", "a"): {"mv01": 0.8}}
    found = numbers(**make(dice))
    text = summary.summary_text(found, "figures", "report.html")
    assert "[no interval]" in text
    assert "Status ok: all 1 prediction." in text
    assert "minus" not in text


def test_text_fits_the_terminal_with_long_names() -> None:
    dice = {
        (
            f"a_network_with_a_very_long_name_{model}",
            f"a_loss_with_a_long_name_{loss}" * 2,
        ): {
            "mv01": 0.8,
            "mv02": 0.3,
        }
        for model in range(2)
        for loss in range(3)
    }
    found = numbers(**make(dice))
    text = summary.summary_text(found, "results/demo/figures", "results/demo/report.html")
    assert max(len(line) for line in text.splitlines()) <= summary.WIDTH


@given(st.floats(0, 99999))
def test_numbers_are_short_and_near(value: float) -> None:
    text = summary.number(value)
    assert len(text) <= 5
    assert float(text) == pytest.approx(value, abs=0.0006, rel=0.0006)


def test_names_tell_arms_apart() -> None:
    assert summary.arm_names([("m", "a")]) == {("m", "a"): "a"}
    assert summary.arm_names([("m", "a"), ("n", "a")]) == {
        ("m", "a"): "m",
        ("n", "a"): "n",
    }
    mixed = [("m", "a"), ("n", "b"), ("m", "b")]
    assert len(set(summary.arm_names(mixed).values())) == 3


def test_what_is_to_be_said_of_the_runs_is_in_the_text() -> None:
    note = "Out of memory: net/a/seed0/fold0 was trained with batch_size=1 accumulate=2."
    assert note not in summary.summary_text(numbers(), "figures", "report.html")
    assert note in summary.summary_text(numbers(), "figures", "report.html", [note]).splitlines()
