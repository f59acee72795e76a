"""What the manuscript says about effects, from the tables of the statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minivess.figures.style import metric_label
from minivess.paper import Results, arm_names, comparisons, interval, pipe_table, signed
from minivess.statistics.summary import number, p_number

DETECTABLE = ("sd_difference", "least_dz", "least_difference")


def between(row: Mapping[str, Any], value: str) -> str:
    """A value of a row with its interval, signed.

    >>> between({"dz": 0.5, "dz_low": -0.25, "dz_high": 1.25}, "dz")
    '+0.500 (−0.250, 1.250)'
    """
    if row[value] is None:
        return "none"
    ends = (row[f"{value}_low"], row[f"{value}_high"])
    if None in ends:
        return f"{signed(row[value])} (no interval)"
    low, high = (number(end).replace("-", "−") for end in ends)
    return f"{signed(row[value])} ({low}, {high})"


def probabilities(row: Mapping[str, Any]) -> str:
    """Posterior probabilities below, inside and above the ROPE.

    >>> probabilities({"p_left": 0.0, "p_rope": 0.25, "p_right": 0.75})
    '0.000 / 0.250 / 0.750'
    """
    if row["p_rope"] is None:
        return "no ROPE"
    return " / ".join(number(row[name]) for name in ("p_left", "p_rope", "p_right"))


def pair_name(results: Results, row: Mapping[str, Any]) -> str:
    """The first arm of a row minus the second, both set as code."""
    names = arm_names(results)
    return " − ".join(names[row[f"model_{side}"], row[f"loss_{side}"]] for side in "ab")


def effects_table(results: Results) -> str:
    """Effect sizes, Wilcoxon's p and posterior probabilities of each comparison, a row each."""
    rows = [
        [
            metric_label(metric),
            pair_name(results, row),
            between(row, "dz"),
            between(row, "rank_biserial"),
            p_number(row["p_wilcoxon"]),
            probabilities(row),
        ]
        for metric in results.config.statistics.plan.metrics
        for row in comparisons(results, metric)
    ]
    if not rows:
        rows.append(["none", "the experiment has one arm", "", "", "", ""])
    header = ["Metric", "Arms", "$d_z$", "Rank-biserial", "*p* (Wilcoxon)", "below / ROPE / above"]
    return pipe_table(header, rows, [2, 5, 4, 4, 2, 4])


def ranks_table(results: Results) -> str:
    """Place of each arm in each metric of the analysis file and its stability, best first."""
    names = arm_names(results)
    rows = [
        [
            metric_label(metric),
            names[row["model"], row["loss"]],
            f"{row['rank']} ({row['rank_low']} to {row['rank_high']})",
            number(row["first"]),
            "none" if row["tau"] is None else f"{row['tau']:.2f} ({row['tau_low']:.2f})",
            f"{row['mean_rank']:.2f}",
            f"{row['critical_difference']:.2f}",
            "none" if row["friedman_p"] is None else p_number(row["friedman_p"]),
        ]
        for metric in results.config.statistics.plan.metrics
        for row in results.tables["ranks"].filter(metric=metric).sort("rank").to_dicts()
    ]
    if not rows:
        rows.append(["none", "ranks need two arms with two cases in common", *[""] * 6])
    header = ["Metric", "Arm", "Place", "First", "$\\tau$", "Mean rank", "CD", "*p* (Friedman)"]
    return pipe_table(header, rows, [2, 4, 2, 1, 2, 2, 1, 2])


STATUSES = {
    "converged": "",
    "singular": "a component is zero",
    "too_few_levels": "too few arms or cases",
    "no_variation": "nothing but arms and cases varies",
    "not_converged": "no optimum was found",
}


def mixed_model_table(results: Results) -> str:
    """Effects of network and loss in each metric of the analysis file, a row for each level."""
    rows = []
    for metric in results.config.statistics.plan.metrics:
        for row in results.tables["mixed_model"].filter(metric=metric).to_dicts():
            estimates = row["estimate"] is not None
            if row["term"] == "intercept" and estimates:
                continue
            level = f"{row['term']} `{row['level']}`"
            rows.append(
                [
                    metric_label(metric),
                    level if estimates else STATUSES[row["status"]],
                    f"{signed(row['estimate'])} {interval(row)}" if estimates else "none",
                    *(
                        "none" if row[p] is None else p_number(row[p])
                        for p in ("p_value", "p_term")
                    ),
                ]
            )
    header = ["Metric", "Level", "Difference", "*p*", "*p* of the term"]
    return pipe_table(header, rows, [2, 5, 4, 2, 2])


def components_table(results: Results) -> str:
    """Variance components of the mixed model of each metric, a row each."""
    rows = []
    for metric in results.config.statistics.plan.metrics:
        row = results.tables["mixed_model"].filter(metric=metric).row(0, named=True)
        sds = (row[f"sd_{name}"] for name in ("fold", "case", "residual"))
        rows.append(
            [
                metric_label(metric),
                f"`{row['reference']}`",
                *("none" if sd is None else number(sd) for sd in sds),
                f"{row['n_values']} of {row['n_cases']} cases in {row['n_folds']} folds",
                STATUSES[row["status"]] or "converged",
            ]
        )
    header = ["Metric", "Reference", "SD folds", "SD cases", "SD rest", "Values", "Fit"]
    return pipe_table(header, rows, [2, 4, 2, 2, 2, 4, 3])


def spread(row: Mapping[str, Any]) -> str:
    """A standard deviation between seeds with its interval, in two digits.

    >>> spread({"sd_mean": 0.0123, "sd_low": 0.0064, "sd_high": 0.0773})
    '0.012 (0.0064, 0.077)'
    """
    return f"{row['sd_mean']:.2g} ({row['sd_low']:.2g}, {row['sd_high']:.2g})"


def seeds_table(results: Results) -> str:
    """How far each arm varies with the seed in each metric of the analysis file, a row each."""
    names = arm_names(results)
    rows = []
    for metric in results.config.statistics.plan.metrics:
        for row in results.tables["seeds"].filter(metric=metric).to_dicts():
            about = [metric_label(metric), names[row["model"], row["loss"]]]
            if row["n_seeds"] == 1:
                rows.append([*about, row["seeds"], number(row["mean"]), "one seed", "", "", ""])
                continue
            part = row["seed_part"]
            sds = [row[f"sd_{name}"] for name in ("case", "network", "rest")]
            rows.append(
                [
                    *about,
                    row["seeds"],
                    number(row["mean"]),
                    spread(row),
                    f"{number(row['lowest'])} to {number(row['highest'])}",
                    "none" if None in sds else " / ".join(f"{sd:.2g}" for sd in sds),
                    "none" if part is None else f"{part:.0%}",
                ]
            )
    header = ["Metric", "Arm", "Seeds", "Mean", "SD of the mean", "Means"]
    header += ["SD case / network / rest", "Part of the seed"]
    return pipe_table(header, rows, [2, 3, 1, 2, 4, 3, 4, 2])


def power_table(results: Results) -> str:
    """The least difference that each comparison could have found, a row each."""
    rows = [
        [
            metric_label(metric),
            pair_name(results, row),
            str(row["n_cases"]),
            f"{row['alpha']:.3g}",
            *("none" if row[name] is None else number(row[name]) for name in DETECTABLE),
        ]
        for metric in results.config.statistics.plan.metrics
        for row in results.tables["power"].filter(metric=metric).to_dicts()
    ]
    if not rows:
        rows.append(["none", "the experiment has one arm", *[""] * 5])
    header = ["Metric", "Arms", "Cases", "Level", "SD", "Least $d_z$", "Least difference"]
    return pipe_table(header, rows, [2, 5, 1, 1, 2, 2, 2])
