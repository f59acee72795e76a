"""Resampling of cases: bootstrap intervals and sign-flip tests that respect folds and groups.

Nothing here depends on the order of the rows or on the names of cases and groups: samples are put
into an order of their own, by fold and value.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from minivess import seeding

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]
type Resampling = Literal["cases_within_folds", "groups_within_folds", "cases"]
# Along the last axis: values, and how often each is in a resample.
type Weighted = Callable[[Floats, Floats], Floats]

METHODS: dict[Resampling, str] = {
    "cases_within_folds": "BCa within folds",
    "groups_within_folds": "hierarchical",
    "cases": "BCa",
}

# Which sign of a mean difference a test looks for.
ALTERNATIVES: dict[int, Literal["two-sided", "greater", "less"]] = {
    0: "two-sided",
    1: "greater",
    -1: "less",
}


@dataclass(frozen=True)
class Sample:
    """Values (cases,) or (cases, arms), with the fold and the group of each case as numbers."""

    values: Floats
    folds: Integers
    groups: Integers

    @property
    def by_group(self) -> Floats:
        """Sum of the values of each group, in the order of the groups."""
        return np.array([self.values[self.groups == g].sum(0) for g in np.unique(self.groups)])


def sample(
    values: npt.ArrayLike, folds: Sequence[object] = (), groups: Sequence[object] = ()
) -> Sample:
    """A sample in its own order: by fold, group (by its values) and value.

    Args:
        values: shape (cases,) or (cases, arms).
        folds: fold of each case; all in one where it is empty.
        groups: group of each case; each alone where it is empty.
    """
    rows = np.asarray(values, dtype=np.float64)
    keys = [tuple(np.atleast_1d(row).tolist()) for row in rows]
    fold_of = [str(fold) for fold in folds] or ["0"] * len(rows)
    group_of = list(groups) or list(range(len(rows)))
    members: dict[object, list[int]] = {}
    for index, group in enumerate(group_of):
        members.setdefault(group, []).append(index)
    ordered = [sorted(own, key=lambda i: keys[i]) for own in members.values()]
    ordered.sort(key=lambda own: (fold_of[own[0]], [keys[i] for i in own]))
    order = [index for own in ordered for index in own]
    numbers = {fold: number for number, fold in enumerate(sorted(set(fold_of)))}
    return Sample(
        rows[order],
        np.array([numbers[fold_of[i]] for i in order], dtype=np.int64),
        np.array([g for g, own in enumerate(ordered) for _ in own], dtype=np.int64),
    )


@dataclass(frozen=True)
class Design:
    """The fold that held each case out, and the group that it belongs to."""

    folds: Mapping[str, str]
    groups: Mapping[str, str]

    def sample(self, by_case: Mapping[str, float] | Mapping[str, Sequence[float]]) -> Sample:
        """Values by case as a sample."""
        cases = list(by_case)
        return sample(
            [by_case[case] for case in cases],
            [self.folds[case] for case in cases],
            [self.groups[case] for case in cases],
        )


def design_of(
    cases: pl.DataFrame, groups: Mapping[str, str] | None, resampling: Resampling
) -> Design:
    """Folds from the table cases, groups from the manifest.

    Args:
        cases: the table cases.
        groups: group of each case; None: each case alone.
        resampling: of the analysis file.

    Raises:
        ValueError: groups are to be resampled, and that of a case is not known.
    """
    folds: dict[str, set[int]] = {}
    for case, fold in cases.select("case", "fold").unique().iter_rows():
        folds.setdefault(case, set()).add(fold)
    lacking = sorted(case for case in folds if case not in (groups or {}))
    if resampling == "groups_within_folds" and lacking:
        raise ValueError(f"groups are to be resampled, but of {lacking[0]} it is not known")
    return Design(
        # Cases that several folds predict are a stratum of their own.
        {case: "+".join(f"{fold:06d}" for fold in sorted(own)) for case, own in folds.items()},
        {case: (groups or {}).get(case, f"\x1f{case}") for case in folds},
    )


def resample_counts(
    drawn_from: Sample, resampling: Resampling, resamples: int, rng: np.random.Generator
) -> Integers:
    """How often each case is in each resample, shape (resamples, cases).

    Groups are drawn with replacement, then cases within each drawn group; without groups each case
    is a group. Within folds as many groups are drawn from each fold as it has.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    n = len(drawn_from.values)
    # Cases lie side by side by group, and groups by fold.
    groups = drawn_from.groups if resampling == "groups_within_folds" else np.arange(n)
    folds = np.zeros(n, dtype=np.int64) if resampling == "cases" else drawn_from.folds
    starts, sizes = np.unique(groups, return_index=True, return_counts=True)[1:]
    fold_of_group = folds[starts]
    flat: list[Integers] = []
    for fold in np.unique(fold_of_group):
        own = np.flatnonzero(fold_of_group == fold)
        chosen = own[rng.integers(len(own), size=(resamples, len(own)))]
        widest = int(sizes[own].max())
        places = rng.random((resamples, len(own), widest)) * sizes[chosen][..., np.newaxis]
        index = starts[chosen][..., np.newaxis] + places.astype(np.int64)
        index += n * np.arange(resamples)[:, np.newaxis, np.newaxis]
        flat.append(index[np.arange(widest) < sizes[chosen][..., np.newaxis]])
    counts = np.bincount(np.concatenate(flat), minlength=resamples * n)
    return counts.reshape(resamples, n).astype(np.int64)


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Mean along the last axis, each value counted as often as its weight says."""
    mean: Floats = np.sum(values * weights, axis=-1) / np.sum(weights, axis=-1)
    return mean


def interval(
    drawn_from: Sample,
    statistic: tuple[Callable[..., Any], Weighted],
    settings: StatisticsConfig,
    purpose: str,
    *indices: str,
) -> tuple[float | None, float | None, str]:
    """Bootstrap interval of a statistic of cases, and its method; (None, None, "none") without one.

    Cases, or cases within each fold: the BCa bootstrap. Groups within each fold: the percentile
    interval of the hierarchical bootstrap. There is none for fewer than two or only equal values,
    for a single case (or group) in a fold, and where BCa itself degenerates.

    Args:
        drawn_from: values of shape (cases,).
        statistic: it as a function of values and `axis`, and of values and weights.
        settings: plan, number of resamples, seed.
        purpose: with `indices`, what tells this interval's random numbers from the others'.

    Source: Efron 1987, Better bootstrap confidence intervals, as SciPy implements it; for groups
        see `resample_counts`.
    """
    resampling, values = settings.plan.resampling, drawn_from.values
    none = (None, None, "none")
    if values.size < 2 or np.ptp(values) == 0:
        return none
    rng = seeding.generator(settings.statistics_seed, purpose, *indices)
    if resampling == "groups_within_folds":
        if len(np.unique(drawn_from.groups)) < 2 or _alone(drawn_from, by_group=True):
            return none
        low, high = _percentile(drawn_from, statistic[1], settings, rng)
    elif resampling == "cases_within_folds" and _alone(drawn_from, by_group=False):
        return none
    else:
        strata = drawn_from.folds if resampling == "cases_within_folds" else np.zeros(len(values))
        parts = tuple(values[strata == stratum] for stratum in np.unique(strata))
        low, high = _bca(parts, statistic[0], settings, rng)
    found = math.isfinite(low) and math.isfinite(high)
    return (low, high, METHODS[resampling]) if found else none


def _alone(drawn_from: Sample, by_group: bool) -> bool:
    """Whether a fold has only one unit, so that it would never vary."""
    units = drawn_from.groups if by_group else np.arange(len(drawn_from.values))
    return any(len(np.unique(units[drawn_from.folds == f])) < 2 for f in set(drawn_from.folds))


def _bca(
    parts: tuple[Floats, ...],
    statistic: Callable[..., Any],
    settings: StatisticsConfig,
    rng: np.random.Generator,
) -> tuple[float, float]:
    from scipy.stats import DegenerateDataWarning, bootstrap

    def over_parts(*drawn: Floats, axis: int = -1) -> Any:
        return statistic(np.concatenate(drawn, axis=axis), axis=axis)

    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # NaN tells the same
        found = bootstrap(
            parts,
            over_parts,
            confidence_level=settings.confidence,
            n_resamples=settings.bootstrap_resamples,
            method="BCa",
            vectorized=True,
            rng=rng,
        ).confidence_interval
    return float(found.low), float(found.high)


def _percentile(
    drawn_from: Sample,
    statistic: Weighted,
    settings: StatisticsConfig,
    rng: np.random.Generator,
) -> tuple[float, float]:
    resamples = settings.bootstrap_resamples
    counts = resample_counts(drawn_from, "groups_within_folds", resamples, rng)
    tail = (1 - settings.confidence) / 2
    drawn = statistic(drawn_from.values, counts.astype(np.float64))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(
    drawn_from: Sample, settings: StatisticsConfig, purpose: str, *indices: str
) -> tuple[float | None, float | None, str]:
    """Interval of the mean over cases; see `interval`."""
    return interval(drawn_from, (np.mean, weighted_mean), settings, purpose, *indices)


def sign_flip_p(
    differences: Sample, settings: StatisticsConfig, *indices: str, better: int = 0
) -> float:
    """P-value of the paired permutation test on the mean difference.

    Signs are flipped case by case, so that no value leaves its case and its fold; where groups are
    resampled, all cases of a group change sign together. All sign flips are enumerated where they
    are at most `permutation_resamples` + 1; else so many random ones are drawn and the observed one
    is counted among them, so p is never 0.

    Args:
        differences: one difference per case, shape (cases,).
        settings: plan, number of random flips, seed.
        indices: what tells this test's random numbers from the others'.
        better: 0: two-sided; 1 or -1: whether the mean is above or below zero.

    Source: Fisher 1935, The design of experiments; Phipson and Smyth 2010 for the random case.

    >>> from minivess.config.schema import StatisticsConfig
    >>> sign_flip_p(sample([1.0, 2.0, 3.0]), StatisticsConfig())
    0.25
    """
    from scipy.stats import permutation_test

    grouped = settings.plan.resampling == "groups_within_folds"
    units = differences.by_group if grouped else differences.values
    if units.size < 2:
        return 1.0  # a flip of the only difference is as extreme as the difference
    flips = 2**units.size
    exact = flips <= settings.permutation_resamples + 1
    result = permutation_test(
        (units,),
        np.mean,
        permutation_type="samples",
        alternative=ALTERNATIVES[better],
        n_resamples=flips if exact else settings.permutation_resamples,
        rng=seeding.generator(settings.statistics_seed, "sign-flips", *indices),
    )
    return float(result.pvalue)
