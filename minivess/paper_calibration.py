"""The manuscript's tables of calibration and of conformal coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from minivess.paper import arm_names, interval, pipe_table
from minivess.statistics.summary import number

if TYPE_CHECKING:
    from minivess.paper import Results

CALIBRATORS = {
    "none": "none",
    "temperature": "temperature",
    "local_temperature": "local temperature",
    "isotonic": "isotonic",
}
METHODS = {
    "threshold": "threshold: part of the reference missed",
    "outer_margin": "outer margin: cases covered",
    "inner_margin": "inner margin: cases covered",
}


def calibration_table(results: Results) -> str:
    """Mean scores of each arm and calibrator over cases; seeds are averaged per case first."""
    table = results.tables["calibration"]
    scores = ("nll", "brier", "ece")
    rows = []
    for (model, loss), name in arm_names(results).items():
        for calibrator, text in CALIBRATORS.items():
            own = table.filter(model=model, loss=loss, calibrator=calibrator)
            if own.is_empty():
                continue
            by_case = own.group_by("case").agg(pl.col(score).mean() for score in scores)
            means = by_case.sort("case").select(pl.col(score).mean() for score in scores).row(0)
            rows.append([name, text, *(number(value) for value in means)])
    header = ["Arm", "Calibrator", "NLL ↓", "Brier score ↓", "ECE ↓"]
    return pipe_table(header, rows, [3, 4, 2, 2, 2])


def coverage_table(results: Results) -> str:
    """What conformal masks promised and kept, a row for each arm, seed, method and alpha."""
    names = arm_names(results)
    rows = []
    for row in results.tables["coverage"].to_dicts():
        sign = "≤" if row["method"] == "threshold" else "≥"
        observed = "too few cases"
        if row["observed"] is not None:
            observed = f"{number(row['observed'])} {interval(row)}"
        rows.append(
            [
                names[row["model"], row["loss"]],
                METHODS[row["method"]],
                f"{row['alpha']:g}",
                f"{sign} {row['promised']:.3g}",
                observed,
                f"{row['n_cases']} of {row['n_cases'] + row['n_untested']}",
            ]
        )
    header = ["Arm", "Method", "α", "Promised", "Observed", "Cases tested"]
    return pipe_table(header, rows, [3, 5, 1, 2, 4, 2])
