"""How large a paired difference is: standardised effects, ranks, and the Bayesian signed-rank test.

All of them take one difference per case.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from minivess import seeding
from minivess.statistics.resampling import ALTERNATIVES, Floats, Sample, interval

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig

# Differences and sums of them that are nearer than this are equal.
DECIMALS = 12
PRIOR_STRENGTH = 0.5


def cohen_dz(differences: Floats) -> float | None:
    """Mean of the differences in units of their standard deviation; None where that is zero.

    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, section 2.3.5.

    >>> cohen_dz(np.array([1.0, 2.0, 3.0]))
    2.0
    """
    if differences.size < 2 or np.ptp(np.round(differences, DECIMALS)) == 0:
        return None
    return float(np.mean(differences) / np.std(differences, ddof=1))


def hedges_g(dz: float, n: int) -> float | None:
    """Dz without the bias of a small sample; None for two cases, where it has no expectation.

    Args:
        dz: Cohen's dz.
        n: cases; there is one degree of freedom less.

    Source: Hedges 1981, doi 10.3102/10769986006002107, equation 6e.

    >>> round(hedges_g(1.0, 11), 4)
    0.9227
    """
    df = n - 1
    if df < 2:
        return None
    log = math.lgamma(df / 2) - math.lgamma((df - 1) / 2) - math.log(df / 2) / 2
    return dz * math.exp(log)


def dz_interval(dz: float, n: int, confidence: float) -> tuple[float | None, float | None]:
    """Exact interval of dz where differences are normal: by the noncentral t distribution.

    (None, None) where SciPy cannot compute the distribution: for values that are nearly constant.

    Args:
        dz: the observed effect.
        n: cases.
        confidence: level.

    Source: Cumming and Finch 2001, doi 10.1177/0013164401614002.
    """
    if dz < 0:  # SciPy's distribution is accurate for positive t only
        low, high = dz_interval(-dz, n, confidence)
        return (None, None) if low is None or high is None else (-high, -low)
    ends = [_noncentrality(dz, n, (1 + side * confidence) / 2) for side in (1, -1)]
    if ends[0] is None or ends[1] is None:
        return None, None
    return round(ends[0] / math.sqrt(n), 9), round(ends[1] / math.sqrt(n), 9)


def _noncentrality(dz: float, n: int, target: float) -> float | None:
    """The noncentrality under which a t below the observed one has that probability."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    t, df = dz * math.sqrt(n), n - 1

    def excess(noncentrality: float) -> float:
        return float(nct.cdf(t, df, noncentrality)) - target

    step = -1.0 if excess(t) < 0 else 1.0
    end = t + step
    while math.isfinite(excess(end)) and excess(end) * step > 0:
        step *= 2
        end = t + step
    try:
        return float(brentq(excess, t, end)) if math.isfinite(excess(end)) else None
    except ValueError as error:
        if "NaN" not in str(error):
            raise
        return None  # SciPy's distribution is NaN at a point within the bracket


def rank_biserial(differences: Floats, axis: int = -1) -> Floats:
    """Matched-pairs rank-biserial correlation: part of the ranks above zero minus that below.

    Zeros have no part; it is 0 where all are zero.

    Args:
        differences: cases along `axis`.
        axis: it is taken away.

    Source: Kerby 2014, doi 10.2466/11.IT.3.1.

    >>> float(rank_biserial(np.array([1.0, 2.0, 3.0, -4.0])))
    0.2
    """
    from scipy.stats import rankdata

    rounded = np.round(differences, DECIMALS)
    zeros = np.sum(rounded == 0, axis=axis, keepdims=True)
    ranks = rankdata(np.abs(rounded), axis=axis) - zeros
    signed = np.sum(np.sign(rounded) * ranks, axis=axis)
    counted = rounded.shape[axis] - np.sum(rounded == 0, axis=axis)
    total = counted * (counted + 1) / 2
    found: Floats = np.where(total > 0, signed / np.maximum(total, 1), 0.0)
    return found


def weighted_rank_biserial(differences: Floats, weights: Floats) -> Floats:
    """`rank_biserial` of samples in which each difference is as often as its weight says.

    Args:
        differences: shape (cases,).
        weights: whole numbers, shape (resamples, cases).

    Returns:
        (resamples,).
    """
    rounded = np.round(differences, DECIMALS)
    sizes, level = np.unique(np.abs(rounded), return_inverse=True)
    signed, before = np.zeros(len(weights)), np.zeros(len(weights))
    for number, size in enumerate(sizes):
        if size == 0:
            continue
        own = level == number
        above = np.sum(weights[:, own & (rounded > 0)], axis=1)
        below = np.sum(weights[:, own & (rounded < 0)], axis=1)
        signed += (above - below) * (before + (above + below + 1) / 2)
        before = before + above + below
    total = before * (before + 1) / 2
    return np.where(total > 0, signed / np.maximum(total, 1), 0.0)


def rank_biserial_interval(
    differences: Sample, settings: StatisticsConfig, *indices: str
) -> tuple[float | None, float | None]:
    """Bootstrap interval of `rank_biserial`; see `resampling.interval`."""
    low, high, _ = interval(
        differences,
        (rank_biserial, weighted_rank_biserial),
        settings,
        "bootstrap-rank-biserial",
        *indices,
    )
    return low, high


def wilcoxon_p(differences: Floats, better: int = 0) -> float:
    """P-value of Wilcoxon's signed-rank test; 1 where all differences are zero.

    Zeros have no part. Exact up to 50 cases without ties and zeros; else the normal approximation,
    or for few cases the permutation distribution, as SciPy decides.

    Args:
        differences: shape (cases,).
        better: 0: two-sided; 1 or -1: whether differences are above or below zero.

    Source: Wilcoxon 1945, doi 10.2307/3001968.

    >>> wilcoxon_p(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    from scipy.stats import wilcoxon

    rounded = np.round(differences, DECIMALS)
    if not np.any(rounded):
        return 1.0
    return float(wilcoxon(np.sort(rounded), alternative=ALTERNATIVES[better]).pvalue)


def signed_rank_posterior(
    differences: Floats, rope: float, samples: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Posterior probabilities that a difference is below, inside, above the ROPE.

    The Bayesian signed-rank test: a Dirichlet process with one pseudo-observation at zero of
    strength 0.5. Each posterior sample weighs the cases; the regions' shares are the weights of the
    pairs of cases (each with itself too) whose mean is below, inside and above. A region's
    probability is the part of the samples in which its share is the largest.

    Args:
        differences: shape (cases,).
        rope: half width of the region of practical equivalence, which holds its ends.
        samples: of the posterior.
        rng: generator.

    Source: Benavoli, Corani, Demsar and Zaffalon 2017, Time for a change, JMLR 18(77), section 4.2.
    """
    values = np.concatenate([[0.0], np.sort(differences)])
    order = np.argsort(values, kind="stable")
    sums = np.round(np.add.outer(values[order], values[order]), DECIMALS)
    strengths = np.ones(len(values))
    strengths[0] = PRIOR_STRENGTH
    weights = rng.dirichlet(strengths, size=samples)[:, order]
    below = np.zeros((samples, len(values) + 1))
    np.cumsum(weights, axis=1, out=below[:, 1:])
    # Values rise along each row of the sums: what is left of the ROPE comes first.
    n_left = np.sum(sums < -2 * rope, axis=1)
    n_not_right = np.sum(sums <= 2 * rope, axis=1)
    left = np.sum(weights * below[:, n_left], axis=1)
    not_right = np.sum(weights * below[:, n_not_right], axis=1)
    shares = np.stack([left, not_right - left, 1 - not_right])
    largest = np.round(shares, DECIMALS) == np.round(shares.max(axis=0), DECIMALS)
    found = np.mean(largest / largest.sum(axis=0), axis=1)
    return float(found[0]), float(found[1]), float(found[2])


def posterior(
    differences: Floats, rope: float | None, settings: StatisticsConfig, *indices: str
) -> tuple[float | None, float | None, float | None]:
    """`signed_rank_posterior` with the settings' samples and seed; None without a ROPE."""
    if rope is None:
        return None, None, None
    rng = seeding.generator(settings.statistics_seed, "signed-rank-posterior", *indices)
    return signed_rank_posterior(differences, rope, settings.posterior_samples, rng)
