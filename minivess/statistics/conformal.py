"""Conformal thresholds and margins: guarantees for new cases from a few that were kept apart.

The unit is the case. What is chosen on n calibration cases holds for another case that is
exchangeable with them: on average over calibration and test cases, not for every single one. No
case may both calibrate and test, nor have had a part in fitting the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from minivess import seeding
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from minivess.statistics.nested import NestedMasks

type Floats = npt.NDArray[np.float64]

# Sums of a few fractions: what is equal on paper may differ in the last bits.
TOLERANCE = 1e-9


def needed_cases(alpha: float) -> int:
    """The fewest calibration cases with which a risk of `alpha` can be guaranteed.

    With fewer, even cases without any error allow no more than 1 / (n + 1).

    >>> needed_cases(0.1), needed_cases(0.3), needed_cases(0.5)
    (9, 3, 1)
    """
    return math.ceil(1 / alpha - 1 - TOLERANCE)


def check_reachable(alpha: float, n_cases: int, where: str) -> None:
    """Raise where so few cases cannot guarantee a risk of `alpha`.

    Raises:
        MinivessError: MV-CONFORMAL-001.
    """
    if n_cases >= needed_cases(alpha):
        return
    smallest = 1 / (n_cases + 1)
    raise MinivessError(
        "MV-CONFORMAL-001",
        what=f"alpha {alpha:g} cannot be guaranteed with so few calibration cases",
        where=where,
        found=f"{n_cases} calibration case(s), which reach alpha {smallest:.3g} at best",
        expected=f"at least {needed_cases(alpha)} calibration cases for alpha {alpha:g}",
        fix="choose a larger alpha, or add cases"
        if n_cases
        else "add cases: at least two independent groups in each fold",
    )


def check_disjoint(calibration: Iterable[str], test: Iterable[str], fitted: Iterable[str]) -> None:
    """Raise where a case that calibrates also tests, or had a part in fitting.

    Raises:
        ValueError: it names the cases.
    """
    calibrating = set(calibration)
    for name, others in (("tests", set(test)), ("was fitted on", set(fitted))):
        both = sorted(calibrating & others)
        if both:
            raise ValueError(f"a case calibrates and {name}: {', '.join(both)}")


def risk_threshold(losses: Floats, thresholds: Floats, alpha: float) -> float:
    """The largest threshold whose risk on a new case is at most `alpha`, by conformal risk control.

    The loss of a case lies between 0 and 1 and never falls with the threshold, as the part of the
    reference below it. Chosen is the largest threshold with n / (n + 1) R + 1 / (n + 1) <= alpha,
    where R is the mean loss of the n calibration cases.

    Args:
        losses: shape (n, k), a row for each calibration case.
        thresholds: rising, shape (k,).
        alpha: the risk that is allowed on average.

    Raises:
        MinivessError: MV-CONFORMAL-001 too few cases for that alpha.
        ValueError: losses that fall with the threshold, lie outside 0..1, or are above alpha's
            bound even at the first threshold.

    Source: Angelopoulos et al. 2022, Conformal risk control, arXiv:2208.02814.

    >>> losses = np.array([[0.0, 0.0, 1.0]] * 4)
    >>> risk_threshold(losses, np.array([0.0, 0.5, 1.0]), alpha=0.25)
    0.5
    """
    n = losses.shape[0]
    check_reachable(alpha, n, "conformal risk control")
    if (np.diff(losses, axis=1) < -TOLERANCE).any():
        raise ValueError("a loss falls with the threshold, so its risk cannot be controlled")
    if losses.min() < 0 or losses.max() > 1:
        raise ValueError("losses must lie between 0 and 1")
    bound = n / (n + 1) * losses.mean(axis=0) + 1 / (n + 1)
    allowed = np.flatnonzero(bound <= alpha + TOLERANCE)
    if allowed.size == 0:
        raise ValueError("the loss at the first threshold must be 0")
    return float(thresholds[allowed[-1]])


def split_quantile(scores: Floats, alpha: float) -> float:
    """The ceil((n + 1) (1 - alpha))-th smallest of n scores.

    The score of a new, exchangeable case is at most that with a probability of at least 1 - alpha
    (and, without ties, at most 1 - alpha + 1 / (n + 1)).

    Args:
        scores: one score per calibration case, shape (n,).
        alpha: the part of cases that may be above.

    Raises:
        MinivessError: MV-CONFORMAL-001 too few cases for that alpha.

    Source: split conformal prediction, Papadopoulos et al. 2002; Lei et al. 2018.

    >>> split_quantile(np.array([3.0, 1.0, 2.0, 4.0]), alpha=0.4)
    3.0
    """
    check_reachable(alpha, scores.size, "split conformal prediction")
    rank = max(1, math.ceil((scores.size + 1) * (1 - alpha) - TOLERANCE))
    return float(np.sort(scores)[rank - 1])


def outer_score(family: NestedMasks, share: float) -> float:
    """The smallest outer margin in um with at least `share` of the reference inside.

    Args:
        family: of `minivess.statistics.nested.outer_masks`.
        share: part of the reference, 0 to 1.

    Source: the score of Mossina and Friedrich 2025, arXiv:2503.05618, with balls in um instead of
    repeated dilations by a structuring element of voxels.
    """
    enough = family.missed() <= 1 - share + TOLERANCE
    return float(family.levels[int(np.argmax(enough))])


def inner_score(family: NestedMasks, share: float) -> float:
    """The smallest inner margin in um from which on at least `share` of the mask is vessel.

    That is, for that margin and every larger one; an empty mask counts as right.

    Args:
        family: of `minivess.statistics.nested.inner_masks`.
        share: part of the eroded mask, 0 to 1.

    Source: the mirror image of `outer_score`; inner and outer sets as in Davenport 2024,
    arXiv:2410.03406, who asks for all of the reference and all of the inner set.
    """
    too_wrong = np.flatnonzero(family.wrong() > 1 - share + TOLERANCE)
    return float(family.levels[0 if too_wrong.size == 0 else int(too_wrong[-1]) + 1])


def halves(
    group_of: Mapping[str, str], seed: int, *indices: int | str
) -> tuple[tuple[str, ...], ...]:
    """Cases in two disjoint halves, sorted; the cases of a group stay together.

    Args:
        group_of: group of each case.
        seed: seed of the split.
        indices: what tells this split from others, for example the fold.

    >>> first, second = halves({"a": "a", "b": "b", "c": "c", "d": "d"}, 0)
    >>> len(first), sorted(first + second)
    (2, ['a', 'b', 'c', 'd'])
    """
    groups = sorted(set(group_of.values()))
    order = seeding.generator(seed, "conformal-halves", *indices).permutation(len(groups))
    parts: tuple[list[str], list[str]] = ([], [])
    for position in order:
        members = [case for case, group in group_of.items() if group == groups[position]]
        min(parts, key=len).extend(members)
    return tuple(sorted(parts[0])), tuple(sorted(parts[1]))
