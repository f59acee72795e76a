"""The lock on test cases: their labels stay closed until somebody unlocks them with a reason."""

from __future__ import annotations

from collections.abc import Iterable

from minivess.errors import MinivessError, nearest


def check_test_cases(test_cases: Iterable[str], known: Iterable[str]) -> None:
    """Return where every test case is a case: a misspelt name would lock nothing.

    Raises:
        MinivessError: MV-FOLDS-003 one is none of the known cases.
    """
    names = set(known)
    for case in test_cases:
        if case not in names:
            raise MinivessError(
                "MV-FOLDS-003",
                what=f"the test case {case} is none of the cases",
                where="config folds.test_cases",
                found="a name that the source does not have, or that data.exclude leaves out",
                fix=nearest(case, names),
            )


def locked_label(case: str, label: str) -> MinivessError:
    """The error for an attempt to read the label of a locked case.

    >>> locked_label("mv07", "seg/mv07_y.nii.gz").code
    'MV-LOCK-001'
    """
    return MinivessError(
        "MV-LOCK-001",
        what=f"the label of the test case {case} is locked",
        where=label,
        found=f"{case} in folds.test_cases",
        expected="a case of the folds",
        fix="evaluate the test cases with minivess test-evaluate, after minivess unlock-test",
    )
