"""How much a result depends on the seed of the training, against how much on the case.

A training is repeated bit by bit with its seed, so a single run shows nothing of what another seed
would have given: initial weights, patches and augmentation are one draw of many. The spread between
seeds is what rerunning a training that is not deterministic would show.
"""

from __future__ import annotations

import math
import statistics as stdlib_statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from minivess.errors import MinivessError
from minivess.statistics import tables
from minivess.statistics.effects import DECIMALS
from minivess.statistics.mixed_model import rounded
from minivess.statistics.resampling import Floats

if TYPE_CHECKING:
    from minivess.config.schema import StatisticsConfig

KEYS = ("model", "loss", "metric")


@dataclass(frozen=True)
class Components:
    """Variances of a value: between cases, between networks of a fold, and of what is left."""

    case: float
    network: float
    rest: float

    @property
    def seed_part(self) -> float | None:
        """Part that the seed decides; None where nothing varies.

        What is left is decided by the seed as well: the same seed gives the same bytes.
        """
        total = self.case + self.network + self.rest
        return (self.network + self.rest) / total if total > 0 else None


def components(folds: Mapping[int, Floats]) -> Components | None:
    """Variance components of the values of several seeds; None where no fold has two cases.

    value = fold + case + network + rest: every fold has networks of its own, one for each seed,
    which all predict its cases. Moments of the analysis of variance; a negative one is zero.

    Args:
        folds: for each fold values (cases, seeds), with two seeds or more.

    Source: Searle, Casella and McCulloch 1992, Variance Components, sections 4.3 and 4.4 (balanced
        within each fold; the number of cases may differ between folds).

    >>> found = components({0: np.array([[1.0, 1.0], [3.0, 3.0]])})
    >>> found.case, found.network, found.rest
    (2.0, 0.0, 0.0)
    """
    n_folds, n_cases = len(folds), sum(len(values) for values in folds.values())
    seeds = next(iter(folds.values())).shape[1]
    if n_cases == n_folds:
        return None
    squares = np.zeros(3)
    for values in folds.values():
        by_case = values.mean(axis=1, keepdims=True)
        by_seed = values.mean(axis=0, keepdims=True)
        mean = values.mean()
        parts = (by_case - mean, by_seed - mean, values - by_case - by_seed + mean)
        sizes = (seeds, len(values), 1)
        squares += [
            n * np.sum(np.round(part, DECIMALS) ** 2) for n, part in zip(sizes, parts, strict=True)
        ]
    freedom = (n_cases - n_folds, n_folds * (seeds - 1), (n_cases - n_folds) * (seeds - 1))
    case, network, rest = squares / freedom
    return Components(
        max(0.0, float(case - rest) / seeds),
        max(0.0, float(network - rest) * n_folds / n_cases),
        float(rest),
    )


def sd_interval(sd: float, n: int, confidence: float) -> tuple[float, float]:
    """Interval of a standard deviation of `n` normal values; few seeds say little about it.

    Source: Snedecor and Cochran 1989, Statistical Methods, section 5.12 (chi-squared distribution).

    >>> [round(end, 2) for end in sd_interval(1.0, 3, 0.95)]
    [0.52, 6.28]
    """
    from scipy.stats import chi2

    low, high = (float(chi2.ppf((1 + side * confidence) / 2, n - 1)) for side in (1, -1))
    return sd * math.sqrt((n - 1) / low), sd * math.sqrt((n - 1) / high)


def seed_spread(cases: pl.DataFrame, statistics: StatisticsConfig) -> pl.DataFrame:
    """The table seeds: for each arm and metric how far its mean and its values vary with the seed.

    Each seed's mean is over all held-out cases, a case predicted by the network of its fold. With
    one seed the status is one_seed, and nothing is said of a spread.

    Args:
        cases: the table cases, without ensembles: those over seeds have none of their own.
        statistics: level of the intervals.

    Raises:
        MinivessError: MV-STATE-002 a seed lacks cases that another one of its arm has.
    """
    rows: list[dict[str, object]] = []
    for key, own in cases.sort(*KEYS, "fold", "case", "seed").group_by(KEYS, maintain_order=True):
        named = dict(zip(KEYS, key, strict=True))
        unit = {"unit": own["unit"][0]}
        rows.append({**named, **unit, **_spread(own, "/".join(map(str, key)), statistics)})
    return tables.from_rows("seeds", rows)


def _spread(own: pl.DataFrame, name: str, statistics: StatisticsConfig) -> dict[str, object]:
    """One row of the table, for the values of one arm in one metric."""
    seeds = sorted(set(own["seed"]))
    folds = _by_fold(own, seeds, name)
    means = [
        stdlib_statistics.fmean(value for values in folds.values() for value in values[:, place])
        for place in range(len(seeds))
    ]
    row: dict[str, object] = dict.fromkeys(tables.COLUMNS["seeds"])
    for column in (*KEYS, "unit"):
        del row[column]
    row |= {
        "seeds": ", ".join(str(seed) for seed in seeds),
        "n_seeds": len(seeds),
        "n_cases": sum(len(values) for values in folds.values()),
        "n_folds": len(folds),
        "mean": stdlib_statistics.fmean(means),
        "status": "one_seed",
    }
    if len(seeds) < 2:
        return row
    sd = stdlib_statistics.stdev(means)
    low, high = sd_interval(sd, len(seeds), statistics.confidence)
    row |= {"sd_mean": rounded(sd), "sd_low": rounded(low), "sd_high": rounded(high)}
    row |= {"lowest": min(means), "highest": max(means)}
    return row | _components(folds)


def _components(folds: Mapping[int, Floats]) -> dict[str, object]:
    found = components(folds)
    if found is None:
        return {"status": "one_case_per_fold"}
    part = found.seed_part
    return {
        "sd_case": rounded(math.sqrt(found.case)),
        "sd_network": rounded(math.sqrt(found.network)),
        "sd_rest": rounded(math.sqrt(found.rest)),
        "seed_part": None if part is None else rounded(part),
        "status": "no_variation" if part is None else "ok",
    }


def _by_fold(own: pl.DataFrame, seeds: list[int], name: str) -> dict[int, Floats]:
    """Values (cases, seeds) of each fold."""
    found: dict[int, Floats] = {}
    for (fold,), part in own.group_by("fold", maintain_order=True):
        wide = part.pivot("seed", index="case", values="value", sort_columns=True).sort("case")
        columns = [str(seed) for seed in seeds]
        lacking = set(columns) - set(wide.columns)
        if lacking or wide.null_count().sum_horizontal().item():
            raise MinivessError(
                "MV-STATE-002",
                what="seeds of one network and loss were evaluated on different cases",
                where=f"{name}, fold {fold}",
                fix="run the evaluation again; every seed has every held-out case",
            )
        found[int(str(fold))] = wide.select(columns).to_numpy().astype(np.float64)
    return found
