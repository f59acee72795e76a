"""What the manuscript says about cases that no fold has: the test set and external sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import paths
from minivess.figures.style import metric_label
from minivess.paper import interval, pipe_table
from minivess.statistics.summary import MAIN_METRICS, number

if TYPE_CHECKING:
    from minivess.paper import Results


def result_files(root: Path) -> list[Path]:
    """The result of every test set and external set that was evaluated, test sets first.

    A test set may have several: one for each analysis that was unlocked and evaluated.
    """
    folders = (*sorted((root / "test").glob("*")), *sorted((root / "external").glob("*")))
    return [file for file in map(paths.set_result, folders) if file.is_file()]


def set_results(root: Path) -> list[dict[str, Any]]:
    """What those files say."""
    files = result_files(root)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _cases(n: int) -> str:
    return f"{n} case" if n == 1 else f"{n} cases"


def test_set_sentence(results: Results) -> str:
    """Whether there is a test set, and how often it was evaluated."""
    locked = len(results.config.folds.test_cases)
    if not locked:
        return "No case was kept as a test set: every number is one of cross-validation."
    evaluated = [result for result in set_results(results.folder) if result["set"] == "test"]
    if not evaluated:
        return f"The test set of {_cases(locked)} is locked: nothing has opened its labels."
    if len(evaluated) == 1:
        analysis = f"one analysis (`{evaluated[0]['analysis'][:16]}`)"
    else:
        digests = ", ".join(f"`{result['analysis'][:16]}`" for result in evaluated)
        analysis = f"{len(evaluated)} analyses ({digests}), of which only the first was blind"
    return f"The test set of {_cases(locked)} was unlocked for {analysis}; the audit log says why."


def external_sentence(results: Results) -> str:
    """Which external sets there are, and which of them were evaluated; warnings of each."""
    done = {
        result["set"]: result for result in set_results(results.folder) if result["set"] != "test"
    }
    names = list(results.config.external)
    if not names:
        return ""
    parts = []
    for name in names:
        if name not in done:
            parts.append(f"The external set `{name}` has not been evaluated.")
            continue
        parts.append(f"The external set `{name}` has {_cases(done[name]['n_cases'])}.")
        if done[name]["warnings"]:
            parts.append("Its warnings: " + "; ".join(done[name]["warnings"]) + ".")
    return " ".join(parts)


def sets_table(results: Results) -> str:
    """Means of the main metrics on every set, a row for each way of predicting together."""
    rows = []
    for result in set_results(results.folder):
        name = result["set"] if "analysis" not in result else f"test `{result['analysis'][:8]}`"
        for kind, metrics in result["metrics"].items():
            cells = [f"{number(row['mean'])} {interval(row)}" for row in _main(metrics)]
            networks = f"`{result['model']}/{result['loss']}`, {kind} of {len(result['networks'])}"
            rows.append([name, networks, str(result["n_cases"]), *cells])
    if not rows:
        rows.append(["none", "no case outside the folds was evaluated", *[""] * 6])
    header = ["Set", "Networks", "Cases", *map(metric_label, MAIN_METRICS)]
    return pipe_table(header, rows, [2, 3, 1, *[2] * len(MAIN_METRICS)])


def _main(metrics: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [metrics[metric] for metric in MAIN_METRICS]
