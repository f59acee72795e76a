"""Reading cases.csv: every problem of every row in one error."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minivess.data.sources import (
    CASE_NAME,
    CASE_NAME_RULE,
    SourceCase,
    SpacingUnit,
    unusable,
)
from minivess.errors import MinivessError, closest

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import Spacing

REQUIRED = ("case", "image", "label")
SPACING = ("spacing_x_um", "spacing_y_um", "spacing_z_um")
COLUMNS = (*REQUIRED, "group", *SPACING, "spacing_unit", "origin")
_UNITS: dict[str, SpacingUnit] = {"header": "header", "um": "um", "mm": "mm"}
_DELIMITERS = ",;\t"
_SHOWN = 20


@dataclass
class _Problems:
    """What is wrong with a list, with the line where it is, in the order of the lines."""

    duplicates: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    fixes: list[str] = field(default_factory=list)

    def add(self, text: str, fix: str) -> None:
        self.others.append(text)
        if fix not in self.fixes:
            self.fixes.append(fix)


def read_case_list(path: Path) -> list[SourceCase]:
    """The cases of a CSV with the columns case, image, label and, if wanted, group,
    spacing_x_um, spacing_y_um, spacing_z_um, spacing_unit, origin.

    The delimiter is a comma, semicolon or tab; file names start at the CSV's folder; a case
    without group is its own group. Where commas do not delimit, they may be decimal commas.

    Args:
        path: the CSV, UTF-8 with or without byte order mark.

    Raises:
        MinivessError: MV-DATA-011 duplicate case names and nothing else, MV-DATA-013 otherwise.
    """
    lines, delimiter = _lines(path)
    problems = _Problems()
    header = [name.strip().lower() for name in lines[0][1]]
    _check_header(header, problems)
    if problems.others:
        _raise(problems, path)
    cases: list[SourceCase] = []
    first_line: dict[str, int] = {}
    for number, fields in lines[1:]:
        if len(fields) > len(header) and any(text.strip() for text in fields[len(header) :]):
            problems.add(
                f"line {number}: {len(fields)} fields under {len(header)} columns",
                "put file names that contain the delimiter in double quotes",
            )
            continue
        row = {name: text.strip() for name, text in zip(header, fields, strict=False)}
        case = _case(row, number, path, delimiter, problems)
        if case is not None and case.case in first_line:
            problems.duplicates.append(
                f"line {number}: case {case.case} is also on line {first_line[case.case]}"
            )
        elif case is not None:
            first_line[case.case] = number
            cases.append(case)
    if problems.others or problems.duplicates:
        _raise(problems, path)
    return cases


def _lines(path: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """Lines that are not blank, with their numbers, and the delimiter of the header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise unusable(
            "the list of cases cannot be read",
            path,
            str(error),
            "a CSV file in UTF-8",
            "set data.path to the CSV, saved as 'CSV UTF-8'",
        ) from error
    heading = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=heading.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    lines = [(reader.line_num, row) for row in reader if any(item.strip() for item in row)]
    if not lines:
        raise unusable(
            "the list of cases is empty",
            path,
            "no line",
            f"a header with {', '.join(REQUIRED)}, then one line per case",
            "write the header and one line per case",
        )
    return lines, delimiter


def _check_header(header: list[str], problems: _Problems) -> None:
    for name in header:
        if name and name not in COLUMNS:
            guess = closest(name, COLUMNS)
            problems.add(
                f"unknown column {name!r}", f"rename {name!r} to {guess!r} or remove the column"
            )
        elif header.count(name) > 1 or not name:
            text = f"column {name!r} twice" if name else "a column without a name"
            if text not in problems.others:
                problems.add(text, "give every column one name")
    for name in REQUIRED:
        if name not in header:
            problems.add(f"no column {name!r}", f"add the column {name!r}")
    missing = [name for name in SPACING if name not in header]
    if 0 < len(missing) < len(SPACING):
        problems.add(f"no column {', '.join(missing)}", "give all three spacing columns, or none")


def _case(
    row: dict[str, str],
    number: int,
    path: Path,
    delimiter: str,
    problems: _Problems,
) -> SourceCase | None:
    """The case of one row; its problems are added, none is returned where there is one."""
    before = len(problems.others)
    for name in REQUIRED:
        if not row.get(name):
            problems.add(f"line {number}: {name} is empty", "fill case, image and label everywhere")
    case = row.get("case", "")
    for name in ("case", "group"):
        if row.get(name) and not CASE_NAME.fullmatch(row[name]):
            problems.add(f"line {number}: {name} {row[name]!r}", f"use {CASE_NAME_RULE}")
    written = row.get("spacing_unit") or ""
    unit = _UNITS.get(written)
    if written and unit is None:
        problems.add(f"line {number}: spacing_unit {written!r}", "use um, mm or header")
    spacing = _spacing(row, number, delimiter, problems)
    if len(problems.others) > before:
        return None
    folder = path.parent
    group = row.get("group") or case
    images, labels = folder / row["image"], folder / row["label"]
    origin = row.get("origin") or None
    return SourceCase(case, images, labels, group, spacing, unit, origin=origin)


def _spacing(
    row: dict[str, str], number: int, delimiter: str, problems: _Problems
) -> Spacing | None:
    texts = [row.get(name, "") for name in SPACING]
    if not any(texts):
        return None
    values = []
    for name, text in zip(SPACING, texts, strict=True):
        try:
            value = float(text.replace(",", ".") if delimiter != "," else text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            problems.add(
                f"line {number}: {name} {text!r}",
                "give three positive numbers in um, or leave all three empty",
            )
        values.append(value)
    x, y, z = values
    return (x, y, z)


def _raise(problems: _Problems, path: Path) -> None:
    texts = [*problems.others, *problems.duplicates]
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    found = "; ".join(texts[:_SHOWN]) + more
    fixes = [*problems.fixes, *(["give every case its own name"] if problems.duplicates else [])]
    if problems.others:
        raise unusable(
            f"the list of cases has {len(texts)} problem{'s' if len(texts) > 1 else ''}",
            path,
            found,
            f"the columns {', '.join(COLUMNS)} (the first three required)",
            "; ".join(fixes),
        )
    raise MinivessError(
        "MV-DATA-011",
        what="case names occur more than once",
        where=str(path),
        found=found,
        expected="one line per case",
        fix="; ".join(fixes),
    )
