"""Results as Markdown, for people who look at a flow in Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minivess import output, paths
from minivess.statistics.summary import MAIN_METRICS, number, percentage

SHOWN_FIGURES = "png"


def metrics_markdown(root: Path) -> str:
    """Means with their intervals, a row for each arm, and links to figures, report and paper.

    Raises:
        OSError: the experiment has no summary.
    """
    numbers: dict[str, Any] = output.read_json(paths.summary(root), "arms")
    first = numbers["arms"][0]["metrics"]
    metrics = [name for name in MAIN_METRICS if name in first]
    header = ["network", "loss", *metrics, "not ok"]
    lines = [_row(header), _row(["---"] * len(header))]
    for arm in numbers["arms"]:
        cells = [_cell(arm["metrics"][name]) for name in metrics]
        lines.append(_row([arm["model"], arm["loss"], *cells, str(arm["n_not_ok"])]))
    level = percentage(numbers["confidence"])
    title = f"{numbers['n_cases']} cases; means over cases with {level} intervals"
    return "\n".join([f"## {numbers['experiment']}", "", title, "", *lines, "", *_links(root)])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(metric: dict[str, Any]) -> str:
    return f"{number(metric['mean'])} ({number(metric['ci_low'])}, {number(metric['ci_high'])})"


def _links(root: Path) -> list[str]:
    """Links that open in a browser of this machine."""
    pages = [paths.report(root), *sorted(paths.paper_folder(root).glob("*.html"))]
    figures = sorted((root / "figures").glob(f"*.{SHOWN_FIGURES}"))
    return [
        f"- [{path.relative_to(root)}]({path.resolve().as_uri()})"
        for path in (*pages, *figures)
        if path.is_file()
    ]
