"""What a check finds, and the row of the validation table that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from minivess import output

type Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One problem of one case; the case is empty where the whole set is meant."""

    case: str
    severity: Severity
    code: str
    what: str
    where: str
    found: str
    expected: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """What a check found; the registry adds its severity."""

    code: str
    found: str
    expected: str
    fix: str
    what: str = ""
    where: str = ""


def listed(values: object) -> str:
    """Numbers of a list as `0.994 x 0.994 x 5`.

    >>> listed([0.994, 0.994, 5.0])
    '0.994 x 0.994 x 5'
    """
    return " x ".join(f"{value:.6g}" for value in np.ravel(np.asarray(values)))


def warning_texts(table: Path) -> list[str]:
    """Warnings of a validation table, one text each."""
    import polars as pl

    warnings = output.read_parquet(table).filter(pl.col("severity") == "warning")
    return [
        f"{row['code']} {row['case'] or 'all cases'}: {row['what']} ({row['found']})"
        for row in warnings.iter_rows(named=True)
    ]
