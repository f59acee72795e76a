"""The champions of an experiment: which arm is best by which rule, and by how much.

A rule is fixed before any result is seen; nobody chooses it by looking. An arm that lacks a
held-out case of another arm is no candidate: a method must not win by leaving out what it fails on.
Empty predictions are no gap, they count with the value that each metric's rule gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from minivess.errors import MinivessError, nearest
from minivess.metrics import METRICS
from minivess.statistics import tables
from minivess.statistics.compare import Arm, arms_of, case_values
from minivess.statistics.resampling import Design, design_of, mean_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    from minivess.config.schema import StatisticsConfig
    from minivess.types import RunKey

type Floats = npt.NDArray[np.float64]
type Kind = Literal["overlap", "topology", "balanced"]

# Scores that differ by less are equal: no decision may hang on the last bits of a sum.
DECIMALS = 12


@dataclass(frozen=True)
class Rule:
    """How one champion is chosen.

    One metric: by its mean over cases. Several: by the mean rank over cases and metrics, because
    metrics of different units cannot be added (rank, then aggregate).
    """

    kind: Kind
    metrics: tuple[str, ...]
    meaning: str

    @property
    def score(self) -> str:
        """What is compared."""
        return f"mean {METRICS[self.metrics[0]].label}" if len(self.metrics) == 1 else "mean rank"


RULES: dict[str, Rule] = {
    rule.kind: rule
    for rule in (
        Rule("overlap", ("dice",), "covers the vessels best"),
        Rule(
            "topology",
            ("cldice", "betti0_error", "betti1_error"),
            "keeps centrelines, parts and loops best",
        ),
        Rule(
            "balanced",
            ("dice", "cldice", "betti0_error", "betti1_error", "masd_um", "nsd"),
            "is best over overlap, topology and distance together",
        ),
    )
}


def check_kind(kind: str) -> None:
    """Refuse a champion that no rule chooses.

    Raises:
        MinivessError: MV-CONFIG-003; it names the nearest.
    """
    if kind not in RULES:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no champion {kind}",
            where="--kind",
            fix=nearest(kind, RULES),
        )


@dataclass(frozen=True)
class Standing:
    """One candidate under one rule."""

    arm: Arm
    score: float


@dataclass(frozen=True)
class Champion:
    """The winner under one rule and its margin over the next.

    `margin` is positive where the champion is better: the mean over cases of the paired
    differences, with its bootstrap interval; none where it is the only candidate.
    """

    rule: Rule
    standings: tuple[Standing, ...]
    margin: float | None
    ci_low: float | None
    ci_high: float | None
    tie_broken_by: Literal["", "mean rank", "mean Dice", "order"]
    cases_won: int
    cases_lost: int
    n_cases: int

    @property
    def arm(self) -> Arm:
        """The winner."""
        return self.standings[0].arm


@dataclass(frozen=True)
class Candidates:
    """Arms that may win, and why the others may not."""

    values: dict[str, dict[Arm, dict[str, float]]]
    arms: tuple[Arm, ...]
    cases: tuple[str, ...]
    refused: dict[Arm, str]
    design: Design


def candidates(
    cases: pl.DataFrame,
    statistics: StatisticsConfig,
    order: Sequence[Arm] = (),
    groups: Mapping[str, str] | None = None,
) -> Candidates:
    """Arms with a value of every metric of the rules for every held-out case.

    Args:
        cases: the table cases.
        statistics: how the bootstrap resamples.
        order: order of the arms, which decides the last tie; sorted by default.
        groups: group of each case; each alone by default.

    Raises:
        MinivessError: MV-STATE-002 no arm is complete.
        ValueError: a value is not finite, or a group is not known.
    """
    values = case_values(cases)
    everything = tuple(sorted(set(cases["case"])))
    arms = tuple(order) or arms_of(cases)
    needed = sorted({metric for rule in RULES.values() for metric in rule.metrics})
    complete, refused = [], {}
    for arm in arms:
        lacking = [
            f"{case} ({metric})"
            for metric in needed
            for case in everything
            if case not in values.get(metric, {}).get(arm, {})
        ]
        if lacking:
            more = ", ..." if len(lacking) > 3 else ""
            refused[arm] = f"lacks {len(lacking)} values: {', '.join(lacking[:3])}{more}"
        else:
            complete.append(arm)
    if not complete:
        raise MinivessError(
            "MV-STATE-002",
            what="no arm has all held-out cases, so there is no champion",
            found="; ".join(f"{'/'.join(arm)} {why}" for arm, why in refused.items()),
            fix="run the evaluation of all folds",
        )
    design = design_of(cases, groups, statistics.plan.resampling)
    return Candidates(values, tuple(complete), everything, refused, design)


def metric_values(found: Candidates, metric: str) -> Floats:
    """Values (candidates, cases) of a metric, turned so that higher is better."""
    sign = -1.0 if METRICS[metric].better == "lower" else 1.0
    by_arm = found.values[metric]
    return sign * np.array([[by_arm[arm][case] for case in found.cases] for arm in found.arms])


def mean_ranks(found: Candidates, metrics: Sequence[str]) -> Floats:
    """Rank of each candidate in each case, mean over the metrics; 1 is best, equal values share.

    Returns:
        (candidates, cases).

    Source: case-wise ranking, then aggregation, as in Maier-Hein et al. 2018, doi
    10.1038/s41467-018-07619-7.
    """
    from scipy.stats import rankdata

    ranks = [
        rankdata(np.round(-metric_values(found, metric), DECIMALS), axis=0) for metric in metrics
    ]
    mean: Floats = np.mean(ranks, axis=0)
    return mean


def choose(rule: Rule, found: Candidates, statistics: StatisticsConfig) -> Champion:
    """The champion under one rule.

    Equal scores are decided by the mean rank of the rule `balanced`, then the mean Dice, then the
    order of the arms.

    Args:
        rule: one of `RULES`.
        found: see `candidates`.
        statistics: level, resamples and seed of the interval.
    """
    single = len(rule.metrics) == 1
    # Lower is better from here on.
    costs = -metric_values(found, rule.metrics[0]) if single else mean_ranks(found, rule.metrics)
    keys = np.round(
        [
            costs.mean(axis=1),
            mean_ranks(found, RULES["balanced"].metrics).mean(axis=1),
            -metric_values(found, "dice").mean(axis=1),
        ],
        DECIMALS,
    )
    order = sorted(range(len(found.arms)), key=lambda i: (*keys[:, i], i))
    scores = _as_measured(rule) * costs.mean(axis=1)
    standings = tuple(Standing(found.arms[i], float(scores[i])) for i in order)
    if len(order) == 1:
        return Champion(rule, standings, None, None, None, "", 0, 0, len(found.cases))
    first, second = order[:2]
    differences = costs[second] - costs[first]
    by_case = dict(zip(found.cases, differences.tolist(), strict=True))
    names = (*found.arms[first], *found.arms[second])
    low, high, _ = mean_interval(
        found.design.sample(by_case), statistics, "champion", rule.kind, *names
    )
    return Champion(
        rule,
        standings,
        float(differences.mean()),
        low,
        high,
        _tie(keys, first, second),
        int((np.round(differences, DECIMALS) > 0).sum()),
        int((np.round(differences, DECIMALS) < 0).sum()),
        len(found.cases),
    )


def _as_measured(rule: Rule) -> float:
    """Sign that turns a cost into the score as people know it."""
    return -1.0 if len(rule.metrics) == 1 and METRICS[rule.metrics[0]].better == "higher" else 1.0


def _tie(keys: Floats, first: int, second: int) -> Literal["", "mean rank", "mean Dice", "order"]:
    if keys[0, first] != keys[0, second]:
        return ""
    if keys[1, first] != keys[1, second]:
        return "mean rank"
    return "mean Dice" if keys[2, first] != keys[2, second] else "order"


def choose_all(
    cases: pl.DataFrame,
    statistics: StatisticsConfig,
    order: Sequence[Arm] = (),
    groups: Mapping[str, str] | None = None,
) -> tuple[Candidates, dict[str, Champion]]:
    """The champion under every rule; see `candidates` and `choose`."""
    found = candidates(cases, statistics, order, groups)
    return found, {kind: choose(rule, found, statistics) for kind, rule in RULES.items()}


def representative(runs: pl.DataFrame, arm: Arm) -> tuple[int, int]:
    """Seed and fold of the run that stands for an arm where one network is wanted.

    It is the run with the best Dice on its selection cases, which no reported number contains;
    equal ones are decided by the lower seed, then the lower fold, and so are those that had no
    selection cases.

    Args:
        runs: the table runs.
        arm: model and loss.

    Raises:
        MinivessError: MV-STATE-002 the arm has no run.
    """
    own = runs.filter((pl.col("model") == arm[0]) & (pl.col("loss") == arm[1])).sort(
        pl.col("best_selection_dice"),
        "seed",
        "fold",
        descending=[True, False, False],
        nulls_last=True,
    )
    if own.is_empty():
        raise MinivessError(
            "MV-STATE-002",
            what=f"the champion {'/'.join(arm)} has no run in the table runs",
            fix="run the experiment again; it exports the tables anew",
        )
    row = own.row(0, named=True)
    return row["seed"], row["fold"]


def as_record(one: Champion, run: RunKey, digest: str) -> dict[str, Any]:
    """One champion as it stands in champions.json, with the run and weights that stand for it."""
    second = one.standings[1].arm if len(one.standings) > 1 else ("", "")
    return {
        "kind": one.rule.kind,
        "meaning": one.rule.meaning,
        "metrics": list(one.rule.metrics),
        "score_name": one.rule.score,
        "model": one.arm[0],
        "loss": one.arm[1],
        "score": one.standings[0].score,
        "runner_up_model": second[0],
        "runner_up_loss": second[1],
        "margin": one.margin,
        "ci_low": one.ci_low,
        "ci_high": one.ci_high,
        "cases_won": one.cases_won,
        "cases_lost": one.cases_lost,
        "n_cases": one.n_cases,
        "tie_broken_by": one.tie_broken_by,
        "run": str(run),
        "weights_sha256": digest,
        "standings": [
            {"model": entry.arm[0], "loss": entry.arm[1], "score": entry.score}
            for entry in one.standings
        ],
    }


def champions_table(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Entries of champions.json as the table champions."""
    columns = tables.COLUMNS["champions"]
    return tables.from_rows("champions", [{name: one[name] for name in columns} for one in records])


def explain(record: Mapping[str, Any], name: Callable[[Arm], str]) -> str:
    """Why one champion won and by how much, in sentences.

    Args:
        record: one entry of `champions` in champions.json.
        name: how an arm is called.
    """
    metrics = [METRICS[metric].label for metric in record["metrics"]]
    arm = (str(record["model"]), str(record["loss"]))
    basis = f"mean {metrics[0]}" if len(metrics) == 1 else "mean rank over " + ", ".join(metrics)
    lines = [f"{record['kind']}: {name(arm)}, which {record['meaning']} ({basis})"]
    for place, entry in enumerate(record["standings"], start=1):
        other = (str(entry["model"]), str(entry["loss"]))
        lines.append(f"  {place}. {name(other)}: {entry['score']:.4f}")
    if record["margin"] is None:
        lines.append("  the only candidate: it won against nobody")
        return "\n".join(lines)
    lines.append(f"  better than the next by {margin_text(record)}")
    lines.append(
        f"  better in {record['cases_won']}, worse in {record['cases_lost']} of "
        f"{record['n_cases']} cases"
    )
    if record["tie_broken_by"]:
        lines.append(f"  equal scores, decided by {record['tie_broken_by']}")
    if record["ci_low"] is not None and record["ci_low"] <= 0:
        lines.append("  the interval holds 0: these cases do not tell the two apart")
    return "\n".join(lines)


def margin_text(record: Mapping[str, Any]) -> str:
    """The margin with its interval.

    >>> margin_text({"margin": 0.05, "ci_low": 0.01, "ci_high": 0.08})
    '0.0500 [0.0100, 0.0800]'
    """
    text = f"{record['margin']:.4f}"
    if record["ci_low"] is None:
        return text + " (no interval: too few or only equal cases)"
    return f"{text} [{record['ci_low']:.4f}, {record['ci_high']:.4f}]"
