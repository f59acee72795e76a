"""Validation: every problem of every case in one table, before anything is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING

import polars as pl

from minivess.data.checks import row_problems
from minivess.data.manifest import Row
from minivess.data.problem import Problem, Severity, listed
from minivess.errors import CODES, MinivessError

if TYPE_CHECKING:
    from minivess.config.schema import Experiment

PROBLEM_COLUMNS: dict[str, str] = {
    "case": "name of the case; empty where the problem is one of all cases together",
    "severity": "error: nothing runs before it is solved; warning: look at it",
    "code": "code of the error",
    "what": "what is wrong",
    "where": "file or key",
    "found": "what is there",
    "expected": "what should be there",
    "fix": "what to do",
}
# largest ratio of two cases' spacing along one axis that passes without a word
SPACING_RATIO = 3.0
_SHOWN = 20


def _problem(severity: Severity, code: str, case: str, where: str, texts: list[str]) -> Problem:
    found, expected, fix = texts
    return Problem(case, severity, code, CODES[code], where, found, expected, fix)


def _same_file(rows: list[Row], experiment: Experiment) -> Iterator[Problem]:
    """One image, or one label that is not empty, under two case names."""
    for kind in ("image", "label"):
        first: dict[str, str] = {}
        for row in rows:
            digest = row[f"{kind}_sha256"]
            if digest is None or (kind == "label" and row["vessel_fraction"] == 0):
                continue
            other = first.setdefault(digest, row["case"])
            if other != row["case"]:
                texts = [
                    f"the {kind} of {row['case']} is byte for byte that of {other}",
                    "every volume and every label once",
                    (
                        f"name the right {kind} of {row['case']}, or leave one of the cases out "
                        f"with data.exclude: [{row['case']}]"
                    ),
                ]
                yield _problem("error", "MV-DATA-012", row["case"], row[kind], texts)


def _groups(rows: list[Row], experiment: Experiment) -> Iterator[Problem]:
    """A group for every fold; a folds file has its own.

    Whether there are enough to select on as well is asked, with what would help, when the folds are
    made: two folds that keep no selection cases need two groups, others four.
    """
    folds = experiment.folds
    if folds.folds_file is not None:
        return
    locked = {row["group"] for row in rows if row["case"] in folds.test_cases}
    n_groups = len({row["group"] for row in rows} - locked)
    if n_groups < folds.n_folds:
        texts = [
            f"{n_groups} groups among {len(rows)} cases"
            + (f", without the {len(locked)} of the test cases" if locked else ""),
            f"at least {folds.n_folds} groups for {folds.n_folds} folds: one in each",
            ", or ".join(
                [
                    *folds.changes_for(n_groups),
                    "add cases",
                    "give independent volumes groups of their own",
                ]
            ),
        ]
        yield _problem("error", "MV-FOLDS-002", "", "folds.n_folds", texts)


def _patch(rows: list[Row], experiment: Experiment) -> Iterator[Problem]:
    """The patch fits into every volume."""
    patch_size = experiment.patches.patch_size
    if patch_size == "auto" or experiment.patches.pad_thin:
        return
    shapes = [(row["shape"], row["case"], row["image"]) for row in rows if row["shape"]]
    for axis, size in enumerate(patch_size):
        if not shapes:
            return
        shape, case, image = min(shapes, key=lambda item: (item[0][axis], item[1]))
        if size > shape[axis]:
            texts = [
                f"{size} voxels along {'xyz'[axis]}; {case} has {shape[axis]} ({listed(shape)})",
                f"at most {shape[axis]} voxels along {'xyz'[axis]}",
                (
                    f"lower patches.patch_size along {'xyz'[axis]} to a size up to {shape[axis]} "
                    f"that the network can divide, or leave {case} out with data.exclude"
                ),
            ]
            yield _problem("error", "MV-PATCH-001", case, image, texts)


def _spacing_range(rows: list[Row], experiment: Experiment) -> Iterator[Problem]:
    """Spacing of similar size in all cases: nothing is resampled, one network sees them all."""
    known = [(row["spacing_um"], row["case"], row["image"]) for row in rows if row["spacing_um"]]
    if not known:
        return
    found: dict[tuple[str, str], list[str]] = {}
    for axis, name in enumerate("xyz"):
        sizes = [(spacing[axis], case) for spacing, case, _ in known]
        low, high = min(sizes), max(sizes)
        if high[0] > SPACING_RATIO * low[0]:
            text = f"along {name} {low[0]:.4g} um in {low[1]}, {high[0]:.4g} um in {high[1]}"
            found.setdefault((high[1], low[1]), []).append(text)
    files = {case: image for _, case, image in known}
    for (case, _), texts in found.items():
        yield Problem(
            case,
            "warning",
            "MV-DATA-010",
            "the spacing differs much between cases",
            files[case],
            "; ".join(texts),
            f"spacing within a factor of {SPACING_RATIO:g}",
            "check the units of both; if they are right, consider leaving one out with "
            "data.exclude: vessels of one size look different to the network",
        )


# checks of all cases together; each says its severity itself
SET_CHECKS: dict[str, Callable[[list[Row], Experiment], Iterator[Problem]]] = {
    "same file twice": _same_file,
    "groups for the folds": _groups,
    "patch in every volume": _patch,
    "range of the spacing": _spacing_range,
}


# what matters of these for cases that are only evaluated
EVALUATED_CHECKS = {name: SET_CHECKS[name] for name in ("same file twice", "range of the spacing")}


def validate(
    manifest: pl.DataFrame,
    experiment: Experiment,
    set_checks: Mapping[str, Callable[[list[Row], Experiment], Iterator[Problem]]] = SET_CHECKS,
    more: Iterable[Problem] = (),
) -> pl.DataFrame:
    """All problems of all cases: errors first, then warnings, each by case.

    Args:
        manifest: see `minivess.data.manifest.MANIFEST`.
        experiment: its data, folds and patches sections count.
        set_checks: checks of all cases together.
        more: problems that were found otherwise.

    Returns:
        A table with the columns `PROBLEM_COLUMNS`, all text; without rows where all is well. The
        case is empty in rows that mean the whole set.
    """
    rows: list[Row] = list(manifest.iter_rows(named=True))
    problems = [problem for row in rows for problem in row_problems(row, experiment)]
    problems += [problem for check in set_checks.values() for problem in check(rows, experiment)]
    problems += more
    problems.sort(key=lambda problem: (problem.severity, problem.case))
    return pl.DataFrame(
        [astuple(problem) for problem in problems],
        schema=dict.fromkeys(PROBLEM_COLUMNS, pl.String),
        orient="row",
    )


def accept(problems: pl.DataFrame) -> None:
    """Return where there are only warnings.

    Raises:
        MinivessError: MV-DATA-017 with up to 20 of the errors, each with case, code and fix.
    """
    errors = problems.filter(pl.col("severity") == "error")
    if errors.height == 0:
        return
    lines = [
        f"{row['case'] or 'all cases'}: {row['code']} {row['what']}: {row['found']} "
        f"({row['where']}). Fix: {row['fix']}"
        for row in errors.head(_SHOWN).iter_rows(named=True)
    ]
    if errors.height > _SHOWN:
        lines.append(f"and {errors.height - _SHOWN} more, all in the validation table and page")
    cases = errors["case"].unique().len()
    raise MinivessError(
        "MV-DATA-017",
        what=f"validation found {errors.height} errors in {cases} cases"
        if errors.height > 1
        else "validation found an error",
        where="validation.html beside the manifest shows each case with its picture",
        found="\n            ".join(lines),
        expected="no error; warnings do not stop",
        fix="repair the files or the configuration as said for each case, or leave cases out with "
        "data.exclude",
    )
