"""One model of all values of a metric: network and loss as fixed effects, fold and case as random.

The paired comparisons are what is tested (see `compare`); this model tells the effects of network
and loss apart, uses cases that some arms lack, and says how much cases and folds vary.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from minivess.config.plan import AnalysisPlan
from minivess.statistics import tables
from minivess.statistics.compare import Arm, CaseValues, planned_values
from minivess.statistics.resampling import Floats, Integers, design_of

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig

type Status = Literal["converged", "singular", "too_few_levels", "no_variation", "not_converged"]
type Column = tuple[str, str, Floats]

# A component whose loss costs less log-likelihood than this is zero.
NEGLIGIBLE = 1e-6
# Of the numbers in the table: the optimum is known to about nine.
DIGITS = 6
COMPONENTS = ("fold", "case")


@dataclass(frozen=True)
class Values:
    """Values (n,) of one metric with the arm of each, and its fold and case as numbers."""

    values: Floats
    arms: tuple[Arm, ...]
    folds: Integers
    cases: Integers


@dataclass(frozen=True)
class Fit:
    """A fitted model: coefficients (p,), their covariance (p, p), variances of the components."""

    coefficients: Floats
    covariance: Floats
    variances: Mapping[str, float]
    log_likelihood: float
    converged: bool


def mixed_model(cases: pl.DataFrame, statistics: StatisticsConfig) -> pl.DataFrame:
    """The table mixed_model: for each metric of the plan its effects and variance components.

    value ~ network * loss + (1 | fold) + (1 | fold:case) by restricted maximum likelihood, seeds
    averaged per case; a factor with one level is left out. Coefficients are differences from the
    reference arm: the plan's `against`, else the first. Intervals and tests take t and F with
    n_values - n_cases - (coefficients of arms) degrees of freedom, which is exact where every arm
    has every case.

    Args:
        cases: the table cases, without ensembles: these share the errors of their members.
        statistics: plan: metrics, alpha, reference arm.

    Raises:
        MinivessError: MV-STATE-002 a metric of the plan is missing.
        ValueError: a value that is not finite.

    Source: Laird and Ware 1982, doi 10.2307/2529876, as statsmodels fits it; degrees of freedom of
        the inner-outer rule, Pinheiro and Bates 2000, Mixed-Effects Models in S and S-PLUS, 2.4.2.
    """
    folds = design_of(cases, None, "cases").folds
    rows: list[dict[str, object]] = []
    for metric, by_arm in planned_values(cases, statistics.plan).items():
        found = _metric_rows(_values(by_arm, folds), statistics)
        rows += [{"metric": metric, **row} for row in found]
    return tables.from_rows("mixed_model", rows)


def _values(by_arm: Mapping[Arm, CaseValues], folds: Mapping[str, str]) -> Values:
    """All values, in an order of their own: neither names of cases nor the order of rows count."""
    rows = [
        (folds[case], [by_arm[arm].get(case, np.inf) for arm in by_arm], arm, value, case)
        for arm, own in by_arm.items()
        for case, value in own.items()
    ]
    rows.sort(key=lambda row: (row[0], row[1], row[2], row[4]))
    numbers: dict[str, int] = {}
    return Values(
        np.array([row[3] for row in rows], dtype=np.float64),
        tuple(row[2] for row in rows),
        np.unique([row[0] for row in rows], return_inverse=True)[1].astype(np.int64),
        np.array([numbers.setdefault(row[4], len(numbers)) for row in rows], dtype=np.int64),
    )


def columns_of(arms: Sequence[Arm], reference: Arm) -> list[Column]:
    """Term, level and indicator of each coefficient beside the intercept.

    Factors are network and loss where both vary and every pair of their levels is there; else the
    arm, or the one that varies.

    >>> arms = [("net", "a"), ("net", "b"), ("net", "c")]
    >>> [(term, level) for term, level, _ in columns_of(arms, ("net", "a"))]
    [('loss', 'b'), ('loss', 'c')]
    """
    levels = [sorted({arm[place] for arm in arms}) for place in (0, 1)]
    if len(levels[0]) > 1 and len(levels[1]) > 1:
        if len(set(arms)) < len(levels[0]) * len(levels[1]):
            others = sorted(set(arms) - {reference})
            return [("arm", "/".join(arm), _is([own == arm for own in arms])) for arm in others]
        mains = [_factor(arms, place, reference) for place in (0, 1)]
        crossed = [
            ("network:loss", f"{first}:{second}", one * other)
            for _, first, one in mains[0]
            for _, second, other in mains[1]
        ]
        return [*mains[0], *mains[1], *crossed]
    return [column for place in (0, 1) for column in _factor(arms, place, reference)]


def _is(flags: Sequence[bool]) -> Floats:
    return np.array(flags, dtype=np.float64)


def _factor(arms: Sequence[Arm], place: int, reference: Arm) -> list[Column]:
    levels = sorted({arm[place] for arm in arms} - {reference[place]})
    name = ("network", "loss")[place]
    return [(name, level, _is([arm[place] == level for arm in arms])) for level in levels]


def _reference(arms: Sequence[Arm], plan: AnalysisPlan) -> Arm:
    ordered = sorted(set(arms))
    return next((arm for arm in ordered if "/".join(arm) == plan.against), ordered[0])


def _metric_rows(data: Values, statistics: StatisticsConfig) -> list[dict[str, object]]:
    reference = _reference(data.arms, statistics.plan)
    columns = columns_of(data.arms, reference)
    n_cases, n_folds = len(set(data.cases)), len(set(data.folds))
    freedom = data.values.size - n_cases - len(columns)
    fit, status = _fitted(data, columns, freedom)
    shared: dict[str, object] = {
        "reference": "/".join(reference),
        "n_values": data.values.size,
        "n_cases": n_cases,
        "n_folds": n_folds,
        "status": status,
        "plan_sha256": statistics.plan.sha256,
    }
    for name in (*COMPONENTS, "residual"):
        variance = None if fit is None else fit.variances.get(name)
        shared[f"sd_{name}"] = None if variance is None else rounded(np.sqrt(variance))
    names = [("intercept", "/".join(reference)), *((term, level) for term, level, _ in columns)]
    rows = []
    for place, (term, level) in enumerate(names):
        chosen = (
            [place] if term == "intercept" else [i for i, n in enumerate(names) if n[0] == term]
        )
        numbers = _numbers(fit, place, chosen, freedom, statistics.plan.alpha)
        rows.append({"term": term, "level": level, **shared, **numbers})
    return rows


def _numbers(
    fit: Fit | None, place: int, term: list[int], freedom: int, alpha: float
) -> dict[str, float | int | None]:
    """Estimate, interval and tests of one coefficient; of the intercept the estimate alone."""
    from scipy import stats

    names = ("estimate", "se", "df", "ci_low", "ci_high", "p_value", "p_term")
    if fit is None:
        return dict.fromkeys(names)
    estimate, se = float(fit.coefficients[place]), float(np.sqrt(fit.covariance[place, place]))
    found = {**dict.fromkeys(names), "estimate": rounded(estimate), "se": rounded(se)}
    if place == 0:
        return found
    reach = float(stats.t.ppf(1 - alpha / 2, freedom)) * se
    of_term, block = fit.coefficients[term], fit.covariance[np.ix_(term, term)]
    f_value = float(of_term @ np.linalg.solve(block, of_term)) / len(term)
    return found | {
        "df": freedom,
        "ci_low": rounded(estimate - reach),
        "ci_high": rounded(estimate + reach),
        "p_value": rounded(2 * stats.t.sf(abs(estimate) / se, freedom)),
        "p_term": rounded(stats.f.sf(f_value, len(term), freedom)),
    }


def rounded(value: Any) -> float:
    """A number in `DIGITS` digits."""
    return float(f"{float(value):.{DIGITS - 1}e}")


def _fitted(data: Values, columns: Sequence[Column], freedom: int) -> tuple[Fit | None, Status]:
    """The fit without the components that are zero, in the metric's unit, and what became of it."""
    if not columns or freedom < 1:
        return None, "too_few_levels"
    design = np.column_stack([np.ones(data.values.size), *(column for *_, column in columns)])
    spread = float(np.std(data.values))
    if spread == 0 or _residual(data, design) < 1e-9 * spread:
        return None, "no_variation"
    # Of values around zero and one, the optimum is found to the same digits in every unit.
    centre = float(np.mean(data.values))
    scaled = Values((data.values - centre) / spread, data.arms, data.folds, data.cases)
    estimable = [name for name in COMPONENTS if name != "fold" or _has_folds(data)]
    # At a component of zero the full model has no smooth optimum, but the model without it has one.
    smaller = [kept for n in range(len(estimable) + 1) for kept in combinations(estimable, n)]
    fit, chosen = _ordinary(scaled, design), smaller[0]
    for kept in smaller[1:]:
        tried = _fit(scaled, design, kept)
        if tried.log_likelihood > fit.log_likelihood + NEGLIGIBLE:
            fit, chosen = tried, kept
    if not fit.converged:
        return None, "not_converged"
    coefficients = fit.coefficients * spread
    coefficients[0] += centre
    variances = {name: fit.variances.get(name, 0.0) for name in (*estimable, "residual")}
    in_unit = Fit(
        coefficients,
        fit.covariance * spread**2,
        {name: variance * spread**2 for name, variance in variances.items()},
        fit.log_likelihood,
        True,
    )
    return in_unit, "converged" if len(chosen) == len(estimable) else "singular"


def _has_folds(data: Values) -> bool:
    """Whether folds can be told from cases."""
    return 1 < len(set(data.folds)) < len(set(data.cases))


def _residual(data: Values, design: Floats) -> float:
    """Root mean square of what the arms and a constant of each case leave."""
    cases = _is_of(data.cases)
    everything = np.column_stack([design, cases])
    solution = np.linalg.lstsq(everything, data.values, rcond=None)[0]
    return float(np.sqrt(np.mean((data.values - everything @ solution) ** 2)))


def _is_of(numbers: Integers) -> Floats:
    indicators: Floats = (numbers[:, np.newaxis] == np.unique(numbers)).astype(np.float64)
    return indicators


def _fit(data: Values, design: Floats, components: Sequence[str]) -> Fit:
    """The model with one or both of the components."""
    from statsmodels.regression.mixed_linear_model import (  # type: ignore[import-untyped, unused-ignore]
        MixedLM,
        VCSpec,
    )

    # Folds are independent of each other, cases of each other: the smaller blocks are faster.
    groups = data.folds if "fold" in components else data.cases
    if len(components) < 2:
        model = MixedLM(data.values, design, groups, np.ones((data.values.size, 1)))
    else:
        own = [data.cases[groups == group] for group in np.unique(groups)]
        names = [[str(case) for case in np.unique(one)] for one in own]
        spec = VCSpec(["case"], [names], [[_is_of(one) for one in own]])
        model = MixedLM(data.values, design, groups, np.ones((data.values.size, 1)), exog_vc=spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of components near zero, which `_fitted` leaves out
        first = model.fit(reml=True, method=["bfgs"])
        start, found = _optimum(model, first)
        result = model.fit(reml=True, start_params=start, method=["bfgs"], gtol=1e-3)
    variances = {components[0]: float(result.cov_re[0, 0]), "residual": float(result.scale)}
    if len(components) == 2:
        variances["case"] = float(result.vcomp[0])
    p = design.shape[1]
    return Fit(
        np.asarray(result.fe_params, dtype=np.float64),
        np.asarray(result.cov_params(), dtype=np.float64)[:p, :p],
        variances,
        float(result.llf),
        found and bool(result.converged),
    )


def _optimum(model: Any, first: Any) -> tuple[Floats, bool]:
    """Square roots of the variances over the residual's where the likelihood is highest.

    statsmodels' own search gives up where a component is small, and ends a few digits short. From
    its end this one goes on on a logarithmic scale, to where the gradient is zero.
    """
    from scipy.optimize import minimize, root

    def cost(logarithms: Floats) -> float:
        return -float(model.loglike(np.exp(logarithms)))

    def gradient(logarithms: Floats) -> Floats:
        slopes: Floats = model.score(np.exp(np.clip(logarithms, -9.0, 9.0)))
        return slopes

    packed = first.params_object.get_packed(use_sqrt=True, has_fe=False)
    near = minimize(
        cost,
        np.clip(np.log(np.abs(packed) + 1e-9), -8.0, 8.0),
        method="Nelder-Mead",
        bounds=[(-9.0, 9.0)] * packed.size,
        options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000},
    )
    if np.any(np.abs(near.x) > 6):  # a component of nothing, or a residual of nothing
        return np.exp(near.x), bool(near.success)
    end = root(gradient, near.x, tol=1e-13)
    if np.max(np.abs(gradient(end.x))) < 1e-7 and np.all(np.abs(end.x - near.x) < 1e-2):
        return np.exp(end.x), True
    return np.exp(near.x), bool(near.success)


def _ordinary(data: Values, design: Floats) -> Fit:
    """Least squares, with the restricted likelihood as `MixedLM` counts it."""
    from statsmodels.regression.linear_model import OLS  # type: ignore[import-untyped, unused-ignore]

    result = OLS(data.values, design).fit()
    n, p = design.shape
    scale = float(result.scale)
    log_likelihood = -0.5 * ((n - p) * (np.log(2 * np.pi * scale) + 1))
    log_likelihood -= 0.5 * (np.linalg.slogdet(design.T @ design)[1])
    return Fit(
        np.asarray(result.params, dtype=np.float64),
        np.asarray(result.cov_params(), dtype=np.float64),
        {"residual": scale},
        float(log_likelihood),
        True,
    )
