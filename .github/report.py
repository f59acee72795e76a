"""Print the metric table and the figures of a finished experiment as Markdown.

For the comment on a pull request: standard library only, since the job that posts it has no
environment. Called with the experiment's results folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

METRICS = {
    "dice": "Dice",
    "cldice": "clDice",
    "masd_um": "MASD (µm)",
    "nsd": "NSD",
    "hd95_um": "HD95 (µm)",
}


def cell(metric: dict[str, Any]) -> str:
    """A mean with its interval."""
    digits = 3 if metric["unit"] == "1" else 2
    mean, low, high = (f"{metric[key]:.{digits}f}" for key in ("mean", "ci_low", "ci_high"))
    return f"{mean} [{low}, {high}]"


def table(summary: dict[str, Any]) -> list[str]:
    """Rows of the metric table, one for each network and loss."""
    rows = ["| network | loss | " + " | ".join(METRICS.values()) + " | not ok |"]
    rows.append("|---" * (len(METRICS) + 3) + "|")
    for arm in summary["arms"]:
        cells = [cell(arm["metrics"][name]) for name in METRICS]
        rows.append(f"| {arm['model']} | {arm['loss']} | {' | '.join(cells)} | {arm['n_not_ok']} |")
    return rows


def report(folder: Path) -> str:
    """The whole comment; paths of figures as seen from the working folder."""
    summary = json.loads((folder / "tables" / "summary.json").read_text(encoding="utf-8"))
    figures = sorted((folder / "figures").glob("*.png"))
    if not figures:
        raise FileNotFoundError(f"no figures in {folder / 'figures'}")
    cases = f"{summary['n_cases']} synthetic cases, {summary['n_folds']} folds"
    percent = round(100 * summary["confidence"])
    lines = [
        f"## Experiment {summary['experiment']}",
        "",
        f"{cases}; means over cases with {percent}% intervals.",
        "",
        *table(summary),
        "",
    ]
    for figure in figures:
        name = figure.stem.replace("_", " ")
        lines += [f"### {name}", "", f"![{name}]({figure.as_posix()})", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(Path(sys.argv[1])))
