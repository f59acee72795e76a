"""Empirical coverage of the conformal methods over random splits of phantom cases.

    just bench coverage [--splits 200] [--cases 60] [--calibration 19] [--alpha 0.1] [--seed 0]

Each split draws calibration cases and one other case at random. Given the cases, whether the drawn
one is covered is then one trial of a binomial distribution, independent of the other splits, so
that its interval is exact. The predictions are the phantoms' labels, blurred, with smooth errors
whose size differs from case to case: no network is trained. Ends with status 1 where a count lies
outside its interval.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import page
from scipy import ndimage, stats
from scipy.special import expit

from minivess import seeding
from minivess.config.schema import PhantomConfig
from minivess.data.phantom import make_phantom
from minivess.statistics import conformal, nested

PACKAGES = ["numpy", "scipy"]
SHARE = 0.95
SPACING_UM = (1.0, 1.0, 5.0)
LEVEL = 0.99

type Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Losses and scores of all cases: what the splits draw from."""

    missed: Floats  # (cases, thresholds)
    outer_um: Floats  # (cases,)
    inner_um: Floats  # (cases,)


@dataclass(frozen=True)
class Outcome:
    """What a method did over all splits."""

    method: str
    observed: float
    expected: str
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the observation lies in its interval."""
        return self.low <= self.observed <= self.high


def make_pool(n_cases: int, seed: int) -> Pool:
    """Phantoms with predictions of differing quality, reduced to losses and scores."""
    config = PhantomConfig(
        phantom_shape=(48, 48, 12), phantom_spacing_um=SPACING_UM, n_trees=2, phantom_seed=seed
    )
    missed, outer, inner = [], [], []
    for index in range(n_cases):
        label = np.asarray(make_phantom(config, index).label) > 0
        rng = seeding.generator(seed, "coverage-errors", index)
        blurred = ndimage.gaussian_filter(label.astype(float), (1.0, 1.0, 0.4))
        noise = ndimage.gaussian_filter(rng.standard_normal(label.shape), (2.0, 2.0, 1.0))
        quality = rng.uniform(0.5, 2.5)
        probability = expit(10 * (blurred - 0.4) + quality * noise / noise.std())
        mask = probability > 0.5
        missed.append(nested.threshold_masks(probability, label).missed())
        outer.append(conformal.outer_score(nested.outer_masks(mask, label, SPACING_UM), SHARE))
        inner.append(conformal.inner_score(nested.inner_masks(mask, label, SPACING_UM), SHARE))
    # Ties would make coverage larger than the theory without ties says: broken at random.
    ties = seeding.generator(seed, "coverage-ties").uniform(0, 1e-6, (2, n_cases))
    return Pool(np.array(missed), np.array(outer) + ties[0], np.array(inner) + ties[1])


def simulate(
    pool: Pool, n_splits: int, n_calibration: int, alpha: float, seed: int
) -> list[Outcome]:
    """Outcomes of risk control by threshold and of both margins.

    Raises:
        MinivessError: MV-CONFORMAL-001 too few calibration cases for that alpha.
    """
    losses, outer, inner = [], 0, 0
    for split in range(n_splits):
        order = seeding.generator(seed, "coverage-splits", split).permutation(len(pool.outer_um))
        calibration, test = order[:n_calibration], order[n_calibration]
        threshold = conformal.risk_threshold(pool.missed[calibration], nested.THRESHOLDS, alpha)
        losses.append(pool.missed[test, int(np.searchsorted(nested.THRESHOLDS, threshold))])
        outer += pool.outer_um[test] <= conformal.split_quantile(pool.outer_um[calibration], alpha)
        inner += pool.inner_um[test] <= conformal.split_quantile(pool.inner_um[calibration], alpha)
    rank = int(np.ceil((n_calibration + 1) * (1 - alpha) - conformal.TOLERANCE))
    expected = rank / (n_calibration + 1)
    low, high = (bound / n_splits for bound in stats.binom.interval(LEVEL, n_splits, expected))
    # The mean of a loss in 0..1 that is at most alpha on average: one-sided, from its own spread.
    error = float(np.std(losses, ddof=1)) / np.sqrt(n_splits)
    limit = alpha + float(stats.norm.ppf(LEVEL)) * error
    return [
        Outcome("threshold, missed part", float(np.mean(losses)), f"at most {alpha:g}", 0.0, limit),
        Outcome("outer margin, covered", outer / n_splits, f"{expected:.3f}", low, high),
        Outcome("inner margin, covered", inner / n_splits, f"{expected:.3f}", low, high),
    ]


def section(given: argparse.Namespace, outcomes: list[Outcome]) -> str:
    """Return the outcome as a section of the page."""
    what = (
        f"{given.splits} random splits of {given.cases} phantom cases with predictions of "
        f"differing quality: {given.calibration} cases calibrate, 1 tests. Alpha is "
        f"{given.alpha:g}. A case is covered by an outer margin with at least {SHARE:.0%} of the "
        f"vessel inside, by an inner one that keeps at least {SHARE:.0%} vessel. Intervals: "
        f"{LEVEL:.0%}, of so many splits."
    )
    rows = ["| | observed | expected | interval | |", "|---|---|---|---|---|"]
    for one in outcomes:
        verdict = "holds" if one.holds else "DOES NOT HOLD"
        rows.append(
            f"| {one.method} | {one.observed:.3f} | {one.expected} "
            f"| {one.low:.3f} to {one.high:.3f} | {verdict} |"
        )
    lines = ["## Coverage of calibrated margins: `just bench coverage`", "", what, "", *rows, ""]
    return "\n".join([*lines, f"Machine: {page.machine(PACKAGES)}."])


def main(arguments: list[str]) -> int:
    """Run the simulation and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--calibration", type=int, default=19)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, nargs="?", const=page.PAGE, help="the page to write")
    given = parser.parse_args(arguments)
    pool = make_pool(given.cases, given.seed)
    outcomes = simulate(pool, given.splits, given.calibration, given.alpha, given.seed)
    body = section(given, outcomes)
    print(body)
    if given.write is not None:
        page.write_section(given.write, "coverage", body, page.command("coverage", arguments))
    return 0 if all(one.holds for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
