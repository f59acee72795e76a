"""The mixed model against the analysis of variance by hand, paired tests and statsmodels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import polars as pl
import pytest
import scipy.stats
from statsmodels.regression.mixed_linear_model import (  # type: ignore[import-untyped, unused-ignore]
    MixedLM,
)
from statsmodels.stats.anova import AnovaRM  # type: ignore[import-untyped, unused-ignore]

from minivess.config.plan import AnalysisPlan
from minivess.config.schema import StatisticsConfig
from minivess.statistics import mixed_model, tables

type Floats = npt.NDArray[np.float64]


def config(**changes: object) -> StatisticsConfig:
    plan = AnalysisPlan(primary_metric="dice", secondary_metrics=(), rope={})
    return StatisticsConfig(plan=plan.model_copy(update=changes))


def cases_of(values: Floats, arms: list[tuple[str, str]], folds: int) -> pl.DataFrame:
    """Values (cases, arms), NaN where an arm lacks a case, as the table cases."""
    rows: list[dict[str, object]] = [
        {
            "experiment": "test",
            "model": model,
            "loss": loss,
            "seed": 0,
            "fold": index % folds,
            "case": f"c{index:02d}",
            "metric": "dice",
            "value": float(value),
            "unit": "1",
            "status": "ok",
        }
        for index, own in enumerate(values)
        for (model, loss), value in zip(arms, own, strict=True)
        if np.isfinite(value)
    ]
    return tables.from_rows("cases", rows)


def drawn(n_cases: int, n_arms: int, seed: int, sd_case: float = 0.1, folds: int = 2) -> Floats:
    random = np.random.default_rng(seed)
    by_fold = random.normal(0, 0.05, folds)[np.arange(n_cases) % folds]
    by_case = random.normal(0.7, sd_case, n_cases) + by_fold
    values: Floats = by_case[:, np.newaxis] + random.normal(0, 0.03, (n_cases, n_arms))
    return values + 0.02 * np.arange(n_arms)


def losses(n: int) -> list[tuple[str, str]]:
    return [("net", f"l{number}") for number in range(n)]


def test_two_arms_are_a_paired_t_test() -> None:
    values = drawn(10, 2, 0)
    table = mixed_model.mixed_model(cases_of(values, losses(2), 2), config())
    row = tables.schema("mixed_model").validate(table).filter(term="loss").row(0, named=True)
    paired = scipy.stats.ttest_rel(values[:, 1], values[:, 0])
    interval = paired.confidence_interval(0.95)
    assert (row["level"], row["reference"], row["df"]) == ("l1", "net/l0", 9)
    assert row["estimate"] == pytest.approx(np.mean(values[:, 1] - values[:, 0]), rel=1e-5)
    assert row["p_value"] == pytest.approx(paired.pvalue, rel=1e-5)
    assert row["p_term"] == pytest.approx(paired.pvalue, rel=1e-5)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(interval, rel=1e-5)
    assert row["status"] in ("converged", "singular")


def test_components_are_those_of_the_analysis_of_variance() -> None:
    """Balanced and nested: mean squares by hand, and the F test of repeated measures."""
    values = drawn(12, 4, 1, folds=3)
    by_fold = np.stack([values[fold::3] for fold in range(3)])
    mean_case, mean_fold = by_fold.mean(axis=2), by_fold.mean(axis=(1, 2))
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    rest = np.sum(left**2) / (11 * 3)
    case = 4 * np.sum((mean_case - mean_fold[:, np.newaxis]) ** 2) / 9
    fold = 16 * np.sum((mean_fold - values.mean()) ** 2) / 2
    assert fold > case > rest  # no component is zero
    table = mixed_model.mixed_model(cases_of(values, losses(4), 3), config())
    row = table.row(0, named=True)
    assert row["status"] == "converged"
    assert row["sd_fold"] == pytest.approx(np.sqrt((fold - case) / 16), rel=1e-5)
    assert row["sd_case"] == pytest.approx(np.sqrt((case - rest) / 4), rel=1e-5)
    assert row["sd_residual"] == pytest.approx(np.sqrt(rest), rel=1e-5)
    long = pd.DataFrame(values).reset_index().melt(id_vars="index")
    anova = AnovaRM(long, "value", "index", within=["variable"]).fit().anova_table
    [p_term] = set(table["p_term"].drop_nulls())
    assert p_term == pytest.approx(anova["Pr > F"].item(), rel=1e-5)


def test_network_and_loss_with_their_interaction() -> None:
    """Contrasts of cell means, and their error, by hand."""
    arms = [(model, loss) for model in ("a", "b") for loss in ("x", "y", "z")]
    values = drawn(8, 6, 2)
    table = mixed_model.mixed_model(cases_of(values, arms, 2), config())
    found = {(row["term"], row["level"]): row for row in table.to_dicts()}
    assert set(found) == {
        ("intercept", "a/x"),
        ("network", "b"),
        ("loss", "y"),
        ("loss", "z"),
        ("network:loss", "b:y"),
        ("network:loss", "b:z"),
    }
    mean = values.mean(axis=0)
    left = values - values.mean(axis=1, keepdims=True) - mean + values.mean()
    rest = np.sum(left**2) / (7 * 5)
    crossed = found["network:loss", "b:z"]
    assert crossed["estimate"] == pytest.approx(mean[5] - mean[3] - mean[2] + mean[0], rel=1e-5)
    assert crossed["se"] == pytest.approx(np.sqrt(4 * rest / 8), rel=1e-5)
    assert crossed["df"] == 35
    contrasts = np.array([[1, -1, 0, -1, 1, 0], [1, 0, -1, -1, 0, 1]])
    effect = contrasts @ mean
    f = effect @ np.linalg.solve(contrasts @ contrasts.T * rest / 8, effect) / 2
    assert crossed["p_term"] == pytest.approx(scipy.stats.f.sf(f, 2, 35), rel=1e-5)


def test_missing_cases_as_statsmodels_formula_has_them() -> None:
    values = drawn(20, 3, 3)
    values[[0, 7], [1, 2]] = np.nan
    cases = cases_of(values, losses(3), 2)
    table = mixed_model.mixed_model(cases, config())
    frame = pd.DataFrame(cases.select("value", "loss", "fold", "case").to_dict(as_series=False))
    other = MixedLM.from_formula(
        "value ~ loss", frame, groups="fold", re_formula="1", vc_formula={"case": "0 + case"}
    ).fit(method=["lbfgs", "powell"])
    ours = table.filter(term="loss")
    assert ours["n_values"].to_list() == [58, 58]
    assert ours["df"].to_list() == [36, 36]
    names = ["loss[T.l1]", "loss[T.l2]"]
    assert ours["estimate"].to_list() == pytest.approx(other.fe_params[names].tolist(), rel=1e-3)
    assert ours["se"].to_list() == pytest.approx(other.bse_fe[names].tolist(), rel=1e-3)


def test_a_component_of_nothing_is_left_out_and_said() -> None:
    values = drawn(12, 3, 4, sd_case=0.0)
    values -= values.mean(axis=1, keepdims=True) - 0.7
    table = mixed_model.mixed_model(cases_of(values, losses(3), 2), config())
    assert set(table["status"]) == {"singular"}
    assert set(table["sd_fold"]) == set(table["sd_case"]) == {0.0}
    assert table["estimate"].null_count() == 0


@pytest.mark.parametrize(
    ("values", "status"),
    [
        (np.array([[0.5], [0.6], [0.7]]), "too_few_levels"),
        (np.array([[0.5, np.nan], [np.nan, 0.6], [0.7, np.nan]]), "too_few_levels"),
        (np.array([[0.5, 0.6], [0.6, 0.7], [0.2, 0.3]]), "no_variation"),
        (np.full((4, 2), 0.5), "no_variation"),
    ],
)
def test_no_estimate_is_said(values: Floats, status: str) -> None:
    arms = losses(values.shape[1])
    table = mixed_model.mixed_model(cases_of(values, arms, 2), config())
    tables.schema("mixed_model").validate(table)
    assert set(table["status"]) == {status}
    assert table["estimate"].null_count() == table.height > 0


def test_one_fold_has_no_spread_of_folds() -> None:
    table = mixed_model.mixed_model(cases_of(drawn(9, 2, 5), losses(2), 1), config())
    assert table["sd_fold"].null_count() == table.height
    assert set(table["status"]) == {"converged"}


def test_the_plans_arm_is_the_reference_and_a_partial_design_has_arms() -> None:
    arms = [("a", "x"), ("a", "y"), ("b", "x")]
    table = mixed_model.mixed_model(cases_of(drawn(8, 3, 6), arms, 2), config(against="a/y"))
    assert set(table["reference"]) == {"a/y"}
    assert table.filter(term="arm")["level"].to_list() == ["a/x", "b/x"]


def test_row_order_names_and_unit_have_no_part() -> None:
    cases = cases_of(drawn(8, 3, 7), losses(3), 2)
    names = {f"c{index:02d}": f"n{(5 * index) % 8}" for index in range(8)}
    renamed = cases.with_columns(pl.col("case").replace(names)).reverse()
    first = mixed_model.mixed_model(cases, config())
    assert mixed_model.mixed_model(renamed, config()).equals(first)
    scaled = mixed_model.mixed_model(cases.with_columns(pl.col("value") * 1024), config())
    assert scaled["se"].to_list() == pytest.approx((first["se"] * 1024).to_list(), rel=1e-5)
    assert scaled["p_term"].equals(first["p_term"])
