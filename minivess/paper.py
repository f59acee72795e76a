"""What the manuscript's cells import: its tables read and checked, its numbers as Markdown text."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths, provenance
from minivess.config.load import load_step
from minivess.errors import MinivessError
from minivess.figures import FIGURES, figure_definition
from minivess.figures.style import metric_label
from minivess.metrics import METRICS
from minivess.statistics import tables
from minivess.statistics.summary import arm_names as short_names
from minivess.statistics.summary import number, p_number, percentage

if TYPE_CHECKING:
    import polars as pl

    from minivess.config.schema import Experiment
    from minivess.statistics.compare import Arm

VARIABLE = "MINIVESS_RESULTS"
DEFAULT = Path("../results/demo")
TABLES = (
    "runs",
    "params",
    "cases",
    "ensembles",
    "comparison",
    "ranks",
    "power",
    "mixed_model",
    "seeds",
    "champions",
    "baseline",
    "calibration",
    "coverage",
)
LOCK = "uv.lock"
STATUSES = ("ok", "empty_prediction", "empty_reference", "both_empty")
_ID = re.compile(r"10\.\d{4,9}/[^\s,;]+|\d{4}\.\d{4,5}")


@dataclass(frozen=True)
class Results:
    """An experiment as the manuscript sees it: resolved config, summary.json, tables."""

    folder: Path
    config: Experiment
    numbers: dict[str, Any]
    tables: Mapping[str, pl.DataFrame]

    @property
    def arms(self) -> list[dict[str, Any]]:
        """The arms of summary.json, in the order of the config."""
        return list(self.numbers["arms"])

    @property
    def primary(self) -> str:
        """Id of the primary metric."""
        return str(self.numbers["primary_metric"])

    @property
    def level(self) -> str:
        """Level of the intervals, as a percentage."""
        return percentage(self.numbers["confidence"])


def sources(root: Path) -> list[Path]:
    """Every file of an experiment that the manuscript reads or shows."""
    return [
        paths.step_config(root, "experiment"),
        paths.summary(root),
        *(paths.table(root, name) for name in TABLES),
        *(paths.figure(root, name, "svg") for name in FIGURES),
    ]


def read_results(root: Path | None = None) -> Results:
    """Read the experiment in `root`, by default in $MINIVESS_RESULTS, else ../results/demo.

    Raises:
        MinivessError: MV-STATE-002 where a config, table or figure is missing; it names them all.
    """
    folder = root or Path(os.environ.get(VARIABLE) or DEFAULT)
    missing = [path for path in sources(folder) if not path.is_file()]
    if missing:
        raise MinivessError(
            "MV-STATE-002",
            what="the manuscript needs files that the experiment has not made yet",
            where=str(folder),
            found="missing: " + ", ".join(str(path.relative_to(folder)) for path in missing),
            expected=f"the results folder of a finished experiment, named by ${VARIABLE}",
            fix=f"run it: just experiment {folder.resolve().name}",
        )
    return Results(
        folder,
        load_step(paths.step_config(folder, "experiment")),
        output.read_json(paths.summary(folder), "arms"),
        {name: tables.read(name, paths.table(folder, name)) for name in TABLES},
    )


def signed(value: float) -> str:
    """A difference, with its sign and a true minus.

    >>> signed(0.25), signed(-0.25), signed(0.0)
    ('+0.250', '−0.250', '0.000')
    """
    return number(value).replace("-", "−") if value <= 0 else f"+{number(value)}"


def interval(row: Mapping[str, Any]) -> str:
    """The interval of a row in parentheses.

    >>> interval({"ci_low": -0.5, "ci_high": 0.75})
    '(−0.500, 0.750)'
    """
    if row["ci_low"] is None:
        return "(no interval)"
    low, high = (number(row[end]).replace("-", "−") for end in ("ci_low", "ci_high"))
    return f"({low}, {high})"


def mean(arm: Mapping[str, Any], metric: str) -> str:
    """Mean of a metric in an arm of summary.json, with its interval and unit, for a sentence."""
    row = arm["metrics"][metric]
    unit = {"1": "", "um": "\u00a0µm", "um^3": "\u00a0µm³"}[row["unit"]]
    return f"{number(row['mean'])}{unit} {interval(row)}"


def arm_names(results: Results) -> dict[Arm, str]:
    """Short name of each arm, set as code."""
    names = short_names([(arm["model"], arm["loss"]) for arm in results.arms])
    return {arm: f"`{name}`" for arm, name in names.items()}


def arm_name(results: Results, arm: Mapping[str, Any]) -> str:
    """Short name of one arm of summary.json, set as code."""
    return arm_names(results)[arm["model"], arm["loss"]]


def leading_arm(results: Results, metric: str) -> tuple[str, dict[str, Any]]:
    """What the leading mean of a metric is (highest, lowest, or first listed), and its arm."""
    better = METRICS[metric].better
    if better == "neither":
        return "first listed", results.arms[0]
    pick = max if better == "higher" else min
    word = "highest" if better == "higher" else "lowest"
    return word, pick(results.arms, key=lambda arm: float(arm["metrics"][metric]["mean"]))


def pipe_table(header: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> str:
    """A Markdown table over the width of the text; columns share it as `widths` do.

    >>> print(pipe_table(["a", "b"], [["1", "2"]], [1, 2]))
    | a | b |
    |:------------|:------------------------|
    | 1 | 2 |
    """
    rule = "|" + "|".join(":" + "-" * (12 * width) for width in widths) + "|"
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def _arrow(metric: str) -> str:
    return {"higher": " ↑", "lower": " ↓", "neither": ""}[METRICS[metric].better]


def arms_table(results: Results, metrics: Sequence[str]) -> str:
    """Mean and interval of metrics, one row per arm."""
    rows = []
    for arm in results.arms:
        cells = [arm["metrics"][metric] for metric in metrics]
        shown = [f"{number(cell['mean'])} {interval(cell)}" for cell in cells]
        rows.append([arm_name(results, arm), *shown])
    header = ["Arm", *(metric_label(metric) + _arrow(metric) for metric in metrics)]
    return pipe_table(header, rows, [3, *[2] * len(metrics)])


def metrics_table(results: Results, metrics: Sequence[str]) -> str:
    """Mean and interval of many metrics, one row per metric and one column per arm."""
    rows = []
    for metric in metrics:
        cells = [arm["metrics"][metric] for arm in results.arms]
        shown = [f"{number(cell['mean'])} {interval(cell)}" for cell in cells]
        rows.append([metric_label(metric) + _arrow(metric), *shown])
    header = ["Metric", *(arm_name(results, arm) for arm in results.arms)]
    return pipe_table(header, rows, [3, *[2] * len(results.arms)])


def status_table(results: Results) -> str:
    """How many predictions of each arm have which status; one row per arm."""
    columns = ("model", "loss", "seed", "fold", "case", "status")
    counts = Counter(
        (row[0], row[1], row[-1])
        for name in ("cases", "ensembles")
        for row in results.tables[name].select(columns).unique().iter_rows()
    )
    rows = [
        [
            arm_name(results, arm),
            str(arm["n_predictions"]),
            *(str(counts[arm["model"], arm["loss"], status]) for status in STATUSES),
        ]
        for arm in results.arms
    ]
    header = ["Arm", "Predictions", *(status.replace("_", " ") for status in STATUSES)]
    return pipe_table(header, rows, [3, *[2] * (len(header) - 1)])


def comparison_table(results: Results, metrics: Sequence[str]) -> str:
    """Paired comparisons of all pairs of arms in some metrics, a row each."""
    names = arm_names(results)
    rows = []
    for metric in metrics:
        for row in comparisons(results, metric):
            first, second = (names[row[f"model_{side}"], row[f"loss_{side}"]] for side in "ab")
            rows.append(
                [
                    metric_label(metric),
                    f"{first} − {second}",
                    f"{signed(row['difference'])} {interval(row)}",
                    str(row["n_cases"]),
                    p_number(row["p_value"]),
                    p_number(row["p_adjusted"]),
                ]
            )
    if not rows:
        rows.append(["none", "the experiment has one arm", "", "", "", ""])
    header = ["Metric", "Arms", "Mean difference", "Cases", "*p*", "*p* (corrected)"]
    return pipe_table(header, rows, [2, 6, 4, 1, 2, 2])


def champion_table(results: Results) -> str:
    """The champion of each rule, its score and its margin over the next arm."""
    names = arm_names(results)
    rows = []
    for row in results.tables["champions"].to_dicts():
        second = names.get((row["runner_up_model"], row["runner_up_loss"]), "none")
        alone = row["margin"] is None
        rows.append(
            [
                row["kind"],
                row["score_name"],
                names[row["model"], row["loss"]],
                number(row["score"]),
                second,
                "" if alone else f"{signed(row['margin'])} {interval(row)}",
                "" if alone else f"{row['cases_won']} / {row['cases_lost']}",
            ]
        )
    header = ["Champion", "Compared by", "Arm", "Score", "Next", "Margin", "Cases won / lost"]
    return pipe_table(header, rows, [2, 3, 3, 2, 3, 4, 2])


def comparisons(results: Results, metric: str) -> list[dict[str, Any]]:
    """Rows of the table comparison for one metric."""
    table = results.tables["comparison"]
    return table.filter(table["metric"] == metric).to_dicts()


def definitions_table(bibliography: Path) -> str:
    """Unit, range, direction, definition, rule for empty masks and source of every metric."""
    rows = [
        [
            definition.label,
            definition.unit.replace("um^3", "µm³").replace("um", "µm"),
            definition.range,
            definition.better,
            definition.meaning,
            definition.empty_rule.replace(" um", " µm"),
            citation(definition.source, bibliography),
        ]
        for definition in METRICS.values()
    ]
    header = ["Metric", "Unit", "Range", "Better", "Definition", "Empty masks", "Source"]
    return pipe_table(header, rows, [3, 2, 2, 2, 6, 5, 4])


def runs_table(results: Results) -> str:
    """Status, epoch of the weights that predict and digest of every run, one row each."""
    names = arm_names(results)
    rows = [
        [
            names[row["model"], row["loss"]],
            str(row["seed"]),
            str(row["fold"]),
            row["status"].lower(),
            f"{row['best_epoch']} of {row['epochs']}",
            f"`{row['run_digest'][:16]}`",
        ]
        for row in results.tables["runs"].iter_rows(named=True)
    ]
    header = ["Arm", "Seed", "Fold", "Status", "Epoch", "Digest of the run"]
    return pipe_table(header, rows, [4, 1, 1, 2, 2, 4])


def parameter(results: Results, model: str, name: str) -> list[str]:
    """The values of a parameter over the runs of a network, each once.

    Raises:
        MinivessError: MV-STATE-002 where no run has it.
    """
    table = results.tables["params"]
    chosen = table.filter((table["model"] == model) & (table["name"] == name))
    if chosen.is_empty():
        raise MinivessError(
            "MV-STATE-002",
            what=f"the table params has no parameter {name} of the network {model}",
            where=str(paths.table(results.folder, "params")),
            fix="export the tables again from runs of this version",
        )
    return chosen["value"].unique().sort().to_list()


def described[T](texts: Mapping[str, T], name: str, kind: str) -> T:
    """What the manuscript has on a loss, network, source or the like.

    Raises:
        MinivessError: MV-CONFIG-003 where the manuscript has none.
    """
    if name not in texts:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"the manuscript does not describe the {kind} {name}",
            where="paper/index.qmd",
            expected="one of " + ", ".join(texts),
            fix=f"add a text for {name} to the cell that describes each {kind}",
        )
    return texts[name]


def figure(results: Results, name: str) -> str:
    """A figure of the registry as a Markdown image, its path relative to the manuscript."""
    path = Path(os.path.relpath(paths.figure(results.folder, name, "svg")))
    return f'![]({path.as_posix()}){{width=100% fig-alt="{caption(name)}"}}'


def caption(name: str) -> str:
    """Caption of a figure, as the registry has it."""
    return figure_definition(name).caption


def citation(source: str, bibliography: Path) -> str:
    """The citation of a source that names a DOI or arXiv id, found by that id; else the source.

    Raises:
        MinivessError: MV-CONFIG-003 where the id is not in the bibliography.
    """
    found = _ID.search(source)
    if found is None:
        return source
    for entry in bibliography.read_text(encoding="utf-8").split("\n@"):
        key = re.match(r"@?\w+\{([^,\s]+),", entry)
        if key and found[0].lower() in entry.lower():
            return f"[@{key[1]}]"
    raise MinivessError(
        "MV-CONFIG-003",
        what="the bibliography lacks a source that a metric names",
        where=str(bibliography),
        found=source,
        fix=f"add an entry with {found[0]}",
    )


def smallest_p(results: Results) -> float:
    """The smallest p-value that a comparison of all cases can have, before correction."""
    statistics = results.config.statistics
    resamples = statistics.permutation_resamples
    flips: int = 2 ** results.numbers["n_units"]
    sides = 2 if statistics.plan.alternative == "two_sided" else 1
    return sides / min(flips, resamples + 1)


def lock_digest(manuscript: Path) -> str:
    """SHA-256 of the lock file beside the manuscript, or above it as in the project.

    Raises:
        MinivessError: MV-DATA-001 neither is there.
    """
    for path in (manuscript / LOCK, manuscript.resolve().parent / LOCK):
        if path.is_file():
            return provenance.file_sha256(path)
    raise MinivessError(
        "MV-DATA-001",
        what="the lock file of the software is missing",
        where=str(manuscript.resolve().parent / LOCK),
        fix="render the manuscript in the project's folder: just paper",
    )
