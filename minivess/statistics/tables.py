"""The tables of an experiment: columns, types and meaning, checked by Pandera."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from minivess import output
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import pandera.polars as pa

CI_METHOD: tuple[type[pl.DataType], str] = (
    pl.String,
    "BCa within folds, BCa or hierarchical (groups); none: too few or only equal values",
)
PLAN: tuple[type[pl.DataType], str] = (pl.String, "SHA-256 of the analysis file")

RUN_COLUMNS: dict[str, tuple[type[pl.DataType], str]] = {
    "experiment": (pl.String, "name of the experiment"),
    "model": (pl.String, "name of the network in the experiment"),
    "loss": (pl.String, "name of the loss"),
    "seed": (pl.Int64, "seed of the training run"),
    "fold": (pl.Int64, "fold, from 0"),
}

EVALUATED_COLUMNS: dict[str, tuple[type[pl.DataType], str]] = {
    "experiment": (pl.String, "name of the experiment"),
    "set": (pl.String, "test, or name of the external set"),
    "model": (pl.String, "network of the balanced champion"),
    "loss": (pl.String, "its loss"),
    "ensemble": (pl.String, "how its networks predict together: mean or vote"),
    "n_networks": (pl.Int64, "networks of all its folds and seeds"),
    "case": (pl.String, "case"),
    "metric": (pl.String, "metric id"),
    "value": (pl.Float64, "value, by the documented rule where a mask is empty"),
    "unit": (pl.String, "um, or 1 for ratios and counts"),
    "status": (pl.String, "ok, empty_prediction, empty_reference or both_empty"),
}

COLUMNS: dict[str, dict[str, tuple[type[pl.DataType], str]]] = {
    "runs": {
        **RUN_COLUMNS,
        "status": (pl.String, "FINISHED, FAILED, KILLED or RUNNING, as MLflow has it"),
        "run_digest": (pl.String, "digest of all that determines the run"),
        "config_digest": (pl.String, "digest of its resolved config"),
        "epochs": (pl.Int64, "epochs trained"),
        "best_epoch": (pl.Int64, "epoch of the weights that predict, from 1"),
        "best_selection_dice": (
            pl.Float64,
            "mean Dice of the selection cases at that epoch; null where no case was kept for it",
        ),
    },
    "params": {
        **RUN_COLUMNS,
        "name": (pl.String, "parameter, with its prefix (arch_, sys_, data_, loss_, eval_)"),
        "value": (pl.String, "value as text"),
    },
    "metrics": {
        **RUN_COLUMNS,
        "metric": (pl.String, "metric id"),
        "mean": (pl.Float64, "mean over the validation cases of the fold, all of them"),
        "n_cases": (pl.Int64, "cases in that mean"),
        "n_not_ok": (pl.Int64, "cases among them whose status is not ok"),
    },
    "cases": {
        **RUN_COLUMNS,
        "case": (pl.String, "case"),
        "metric": (pl.String, "metric id"),
        "value": (pl.Float64, "value, by the documented rule where a mask is empty"),
        "unit": (pl.String, "um, um^3, or 1 for ratios and counts"),
        "status": (pl.String, "ok, empty_prediction, empty_reference or both_empty"),
    },
    "ensembles": {
        "experiment": (pl.String, "name of the experiment"),
        "model": (pl.String, "name of the network, a plus sign and the kind of ensemble"),
        "loss": (pl.String, "name of the loss"),
        "seed": (pl.Int64, "seed of the training run; the lowest one where several are members"),
        "fold": (pl.Int64, "fold, from 0"),
        "case": (pl.String, "case"),
        "metric": (pl.String, "metric id"),
        "value": (pl.Float64, "value, by the documented rule where a mask is empty"),
        "unit": (pl.String, "um, or 1 for ratios and counts"),
        "status": (pl.String, "ok, empty_prediction, empty_reference or both_empty"),
    },
    "history": {
        **RUN_COLUMNS,
        "epoch": (pl.Int64, "epoch, from 1"),
        "name": (pl.String, "train/loss, train/learning_rate, selection/METRIC"),
        "value": (pl.Float64, "value at the end of the epoch"),
    },
    "baseline": {
        "case": (pl.String, "case"),
        "threshold": (pl.Float64, "best threshold on the stored intensity: vessel is above"),
        "dice": (pl.Float64, "Dice at that threshold"),
    },
    "summary": {
        "model": (pl.String, "name of the network in the experiment"),
        "loss": (pl.String, "name of the loss"),
        "metric": (pl.String, "metric id"),
        "unit": (pl.String, "um, um^3, or 1"),
        "n_cases": (pl.Int64, "cases; values of several seeds are averaged per case first"),
        "n_not_ok": (pl.Int64, "values whose status is not ok"),
        "mean": (pl.Float64, "mean over cases"),
        "sd": (pl.Float64, "standard deviation over cases (n - 1)"),
        "ci_low": (pl.Float64, "lower end of the bootstrap interval of the mean"),
        "ci_high": (pl.Float64, "upper end"),
        "ci_method": CI_METHOD,
        "plan_sha256": PLAN,
    },
    "comparison": {
        "metric": (pl.String, "metric id"),
        "model_a": (pl.String, "first network"),
        "loss_a": (pl.String, "first loss"),
        "model_b": (pl.String, "second network"),
        "loss_b": (pl.String, "second loss"),
        "n_cases": (pl.Int64, "cases that both have"),
        "difference": (pl.Float64, "mean over cases of a minus b"),
        "ci_low": (pl.Float64, "lower end of the bootstrap interval of that mean"),
        "ci_high": (pl.Float64, "upper end"),
        "ci_method": CI_METHOD,
        "p_value": (pl.Float64, "paired permutation test (sign flips)"),
        "p_adjusted": (pl.Float64, "the same, corrected over all rows of this metric"),
        "p_wilcoxon": (pl.Float64, "Wilcoxon's signed-rank test, not corrected"),
        "dz": (pl.Float64, "Cohen's dz: mean over standard deviation of the differences"),
        "dz_low": (pl.Float64, "lower end of its interval (noncentral t)"),
        "dz_high": (pl.Float64, "upper end"),
        "hedges_g": (pl.Float64, "dz without the bias of small samples"),
        "rank_biserial": (pl.Float64, "matched-pairs rank-biserial correlation, -1 to 1"),
        "rank_biserial_low": (pl.Float64, "lower end of its bootstrap interval"),
        "rank_biserial_high": (pl.Float64, "upper end"),
        "rope": (pl.Float64, "half width of the region of practical equivalence (ROPE)"),
        "p_left": (pl.Float64, "posterior probability that a minus b is below the ROPE"),
        "p_rope": (pl.Float64, "that it is inside"),
        "p_right": (pl.Float64, "that it is above"),
        "plan_sha256": PLAN,
    },
    "calibration": {
        **RUN_COLUMNS,
        "case": (pl.String, "held-out case"),
        "calibrator": (pl.String, "none, temperature, local_temperature or isotonic"),
        "nll": (pl.Float64, "negative log-likelihood per voxel"),
        "brier": (pl.Float64, "Brier score: mean squared error of the probability"),
        "ece": (pl.Float64, "expected calibration error, as the metric ece"),
        "fitted_on": (pl.String, "selection cases that calibrators were fitted on; none: empty"),
    },
    "reliability": {
        **RUN_COLUMNS,
        "case": (pl.String, "held-out case"),
        "calibrator": (pl.String, "none, temperature, local_temperature or isotonic"),
        "bin": (pl.Int64, "bin of the probability, from 0; all are equally wide"),
        "n_voxels": (pl.Int64, "voxels in it"),
        "probability": (pl.Float64, "their mean probability; 0 where there are none"),
        "observed": (pl.Float64, "part of them that is vessel; 0 where there are none"),
    },
    "conformal": {
        **RUN_COLUMNS,
        "case": (pl.String, "held-out case that is tested"),
        "method": (pl.String, "threshold, outer_margin or inner_margin"),
        "alpha": (pl.Float64, "risk"),
        "status": (pl.String, "ok or too_few_cases"),
        "n_calibration": (pl.Int64, "cases that calibrated"),
        "n_needed": (pl.Int64, "fewest cases that reach this alpha"),
        "calibrated_on": (pl.String, "those cases: the other half of the fold's held-out cases"),
        "level": (pl.Float64, "the threshold, or the margin in um"),
        "wrong_part": (
            pl.Float64,
            "part of the reference outside the mask; of the inner mask: part that is no vessel",
        ),
        "covered": (pl.Boolean, "whether that is at most 1 - covered_share; none for thresholds"),
        "size": (pl.Float64, "part of the volume in the mask"),
    },
    "coverage": {
        "model": (pl.String, "name of the network in the experiment"),
        "loss": (pl.String, "name of the loss"),
        "seed": (pl.Int64, "seed of the training runs"),
        "method": (pl.String, "threshold, outer_margin or inner_margin"),
        "alpha": (pl.Float64, "risk"),
        "n_cases": (pl.Int64, "cases tested"),
        "n_untested": (pl.Int64, "cases for which too few others could calibrate"),
        "n_folds": (pl.Int64, "folds that the tested cases are of; each calibrates for itself"),
        "promised": (
            pl.Float64,
            "threshold: alpha, at most so much is missed; margins: 1 - alpha, the part covered",
        ),
        "observed": (pl.Float64, "threshold: mean part missed; margins: part of cases covered"),
        "ci_low": (pl.Float64, "lower end: BCa bootstrap of the mean, exact binomial of the part"),
        "ci_high": (pl.Float64, "upper end"),
        "mean_level": (pl.Float64, "mean over cases of the threshold, or of the margin in um"),
        "mean_size": (pl.Float64, "mean over cases of the part of the volume in the mask"),
    },
    "ranks": {
        "metric": (pl.String, "metric id"),
        "model": (pl.String, "network"),
        "loss": (pl.String, "loss"),
        "n_cases": (pl.Int64, "cases that all arms have"),
        "rank": (pl.Int64, "place by the mean over cases; 1 is best, equal ones share"),
        "rank_low": (pl.Int64, "lower end of the bootstrap interval of that place"),
        "rank_high": (pl.Int64, "upper end"),
        "first": (pl.Float64, "part of the resamples in which it is first"),
        "mean_rank": (pl.Float64, "mean over cases of its rank in each case"),
        "tau": (pl.Float64, "Kendall's tau of the order of all arms and that of a resample, mean"),
        "tau_low": (pl.Float64, "lower end of its bootstrap interval"),
        "friedman_p": (pl.Float64, "Friedman's test of the ranks of three arms or more"),
        "critical_difference": (pl.Float64, "Nemenyi's, of mean ranks, at the plan's alpha"),
        "plan_sha256": PLAN,
    },
    "mixed_model": {
        "metric": (pl.String, "metric id"),
        "term": (pl.String, "intercept, network, loss, network:loss, or arm in a partial design"),
        "level": (pl.String, "level that is compared with that of the reference arm"),
        "reference": (pl.String, "reference arm: the plan's `against`, else the first"),
        "estimate": (pl.Float64, "difference from the reference; of the intercept: its mean"),
        "se": (pl.Float64, "standard error"),
        "df": (pl.Int64, "degrees of freedom of t and F"),
        "ci_low": (pl.Float64, "lower end of the interval (t)"),
        "ci_high": (pl.Float64, "upper end"),
        "p_value": (pl.Float64, "t test of this coefficient, not corrected"),
        "p_term": (pl.Float64, "F test of all coefficients of the term, not corrected"),
        "sd_fold": (pl.Float64, "standard deviation between folds; null where there is one"),
        "sd_case": (pl.Float64, "standard deviation between cases of a fold"),
        "sd_residual": (pl.Float64, "standard deviation of what is left"),
        "n_values": (pl.Int64, "values; those of several seeds are averaged per case first"),
        "n_cases": (pl.Int64, "cases"),
        "n_folds": (pl.Int64, "folds"),
        "status": (
            pl.String,
            "converged; singular: a component is zero; too_few_levels, no_variation, not_converged",
        ),
        "plan_sha256": PLAN,
    },
    "seeds": {
        "model": (pl.String, "name of the network in the experiment"),
        "loss": (pl.String, "name of the loss"),
        "metric": (pl.String, "metric id"),
        "unit": (pl.String, "um, um^3, or 1"),
        "seeds": (pl.String, "seeds of the training runs"),
        "n_seeds": (pl.Int64, "how many"),
        "n_cases": (pl.Int64, "held-out cases, all of which every seed has"),
        "n_folds": (pl.Int64, "folds that they are of"),
        "mean": (pl.Float64, "mean over seeds of the mean over held-out cases"),
        "sd_mean": (pl.Float64, "standard deviation (n - 1) of that mean between seeds"),
        "sd_low": (pl.Float64, "lower end of its interval (chi-squared)"),
        "sd_high": (pl.Float64, "upper end"),
        "lowest": (pl.Float64, "lowest mean of a seed"),
        "highest": (pl.Float64, "highest"),
        "sd_case": (pl.Float64, "standard deviation between cases of a fold"),
        "sd_network": (pl.Float64, "between networks of a fold, of all its cases together"),
        "sd_rest": (pl.Float64, "of what is left: cases that other seeds find easier or harder"),
        "seed_part": (
            pl.Float64,
            "part of the variance of a case's value that the seed decides (network and rest)",
        ),
        "status": (
            pl.String,
            "ok; one_seed: no spread is known; one_case_per_fold: no parts; no_variation",
        ),
    },
    "power": {
        "metric": (pl.String, "metric id"),
        "model_a": (pl.String, "first network"),
        "loss_a": (pl.String, "first loss"),
        "model_b": (pl.String, "second network"),
        "loss_b": (pl.String, "second loss"),
        "n_cases": (pl.Int64, "cases that both have"),
        "alpha": (pl.Float64, "level of the test: alpha over the comparisons in the metric"),
        "power": (pl.Float64, "probability of finding the difference"),
        "sd_difference": (pl.Float64, "observed standard deviation of the differences"),
        "least_dz": (pl.Float64, "least dz that a paired t test finds with that power"),
        "least_difference": (pl.Float64, "the same in the metric's unit"),
        "plan_sha256": PLAN,
    },
    "champions": {
        "kind": (pl.String, "rule: overlap, topology or balanced"),
        "score_name": (pl.String, "what was compared"),
        "model": (pl.String, "network of the champion"),
        "loss": (pl.String, "its loss"),
        "score": (pl.Float64, "its score"),
        "runner_up_model": (pl.String, "network of the next; empty where there is none"),
        "runner_up_loss": (pl.String, "its loss"),
        "margin": (pl.Float64, "mean over cases by which the champion is better than the next"),
        "ci_low": (pl.Float64, "lower end of the bootstrap interval of the margin"),
        "ci_high": (pl.Float64, "upper end"),
        "cases_won": (pl.Int64, "cases in which it is better than the next"),
        "cases_lost": (pl.Int64, "cases in which it is worse"),
        "n_cases": (pl.Int64, "cases"),
        "tie_broken_by": (pl.String, "mean rank, mean Dice or order where scores are equal"),
        "run": (pl.String, "run whose network stands for the champion"),
        "weights_sha256": (pl.String, "SHA-256 of its weights"),
    },
    "test": EVALUATED_COLUMNS,
    "external": EVALUATED_COLUMNS,
    "properties": {
        "set": (pl.String, "own, or name of the external set"),
        "case": (pl.String, "case; of the experiment's own those that are not locked"),
        "property": (pl.String, "see the table shift"),
        "unit": (pl.String, "um, raw for stored intensities, or 1"),
        "value": (pl.Float64, "its value; null where it is not defined (a constant background)"),
    },
    "shift": {
        "set": (pl.String, "name of the external set"),
        "property": (pl.String, "what is compared; shift.py documents each"),
        "unit": (pl.String, "um, raw for stored intensities, or 1"),
        "n_own": (pl.Int64, "own cases with a value"),
        "n_set": (pl.Int64, "external cases with a value"),
        "median_own": (pl.Float64, "median over own cases"),
        "median_set": (pl.Float64, "median over external cases"),
        "wasserstein": (pl.Float64, "1-Wasserstein distance of the two samples, in the unit"),
        "ks_statistic": (pl.Float64, "two-sample Kolmogorov-Smirnov statistic"),
        "ks_p": (pl.Float64, "its p-value as SciPy gives it (exact where it can), not corrected"),
    },
}

NULLABLE = {
    ("runs", "best_selection_dice"),
    ("summary", "ci_low"),
    ("summary", "ci_high"),
    ("summary", "sd"),
    ("comparison", "ci_low"),
    ("comparison", "ci_high"),
    *(("comparison", name) for name in ("dz", "dz_low", "dz_high", "hedges_g")),
    ("comparison", "rank_biserial_low"),
    ("comparison", "rank_biserial_high"),
    *(("comparison", name) for name in ("rope", "p_left", "p_rope", "p_right")),
    *(("ranks", name) for name in ("friedman_p", "tau", "tau_low")),
    *(("mixed_model", name) for name in ("estimate", "se", "df", "ci_low", "ci_high")),
    *(("mixed_model", name) for name in ("p_value", "p_term")),
    *(("mixed_model", name) for name in ("sd_fold", "sd_case", "sd_residual")),
    *(("seeds", name) for name in ("sd_mean", "sd_low", "sd_high", "lowest", "highest")),
    *(("seeds", name) for name in ("sd_case", "sd_network", "sd_rest", "seed_part")),
    *(("power", name) for name in ("sd_difference", "least_dz", "least_difference")),
    ("champions", "margin"),
    *(("conformal", name) for name in ("level", "wrong_part", "covered", "size")),
    *(("coverage", name) for name in ("observed", "ci_low", "ci_high", "mean_level", "mean_size")),
    ("champions", "ci_low"),
    ("champions", "ci_high"),
    ("properties", "value"),
    *(("shift", name) for name in ("median_own", "median_set", "wasserstein")),
    *(("shift", name) for name in ("ks_statistic", "ks_p")),
}


def schema(name: str) -> pa.DataFrameSchema:
    """The Pandera schema of a table: exactly these columns in this order, no nulls unless named.

    Raises:
        KeyError: no such table.
    """
    import pandera.polars as pa

    columns = {
        column: pa.Column(dtype, nullable=(name, column) in NULLABLE, description=text)
        for column, (dtype, text) in COLUMNS[name].items()
    }
    return pa.DataFrameSchema(columns, strict=True, ordered=True)


def empty(name: str) -> pl.DataFrame:
    """A table without rows.

    >>> empty("baseline").columns
    ['case', 'threshold', 'dice']
    """
    return pl.DataFrame(schema={column: dtype for column, (dtype, _) in COLUMNS[name].items()})


def from_rows(name: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows as a table of the right types, sorted by its columns from the left."""
    if not rows:
        return empty(name)
    dtypes = {column: dtype for column, (dtype, _) in COLUMNS[name].items()}
    keys = [column for column, dtype in dtypes.items() if dtype != pl.Float64]
    return pl.DataFrame(rows, schema=dtypes, orient="row").sort(keys)


def read(name: str, path: Path) -> pl.DataFrame:
    """Read and check a table.

    Raises:
        MinivessError: MV-STATE-002 where the file is missing, MV-STATE-003 where it is damaged or
            not that table.
    """
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what=f"the table {name} is missing",
            where=str(path),
            fix="run the experiment up to that table: snakemake --cores all " + str(path),
        )
    return output.read_parquet(path, schema(name))
