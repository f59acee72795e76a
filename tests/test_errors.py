"""Codes, exit statuses and texts of the errors that people read."""

from __future__ import annotations

import ast
import pickle
import re
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivess
from minivess.errors import CODES, EXIT_STATUS, MinivessError, closest, nearest

PACKAGE = Path(minivess.__file__).parent
ROOT = PACKAGE.parent
USED = re.compile(r"MV-[A-Z]+-\d{3}")


def sources() -> list[Path]:
    return [
        *sorted(PACKAGE.rglob("*.py")),
        *sorted((ROOT / "workflow").rglob("*.smk")),
        ROOT / "Snakefile",
    ]


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_the_form_and_a_family_with_an_exit_status(code: str) -> None:
    assert re.fullmatch(r"MV-[A-Z]+-\d{3}", code)
    error = MinivessError(code, what="x")
    assert error.exit_status == EXIT_STATUS[code.split("-")[1]]
    assert 1 <= error.exit_status < 126, "shells use the others themselves"


def test_another_process_gets_the_same_error() -> None:
    error = MinivessError("MV-DATA-001", what="a", where="b", found="c", expected="d", fix="e")
    assert astuple(pickle.loads(pickle.dumps(error))) == astuple(error)


def test_every_family_is_used_and_its_numbers_have_no_gaps() -> None:
    families: dict[str, list[int]] = {}
    for code in CODES:
        _, family, number = code.split("-")
        families.setdefault(family, []).append(int(number))
    assert set(families) == set(EXIT_STATUS)
    for numbers in families.values():
        assert numbers == list(range(1, len(numbers) + 1))


def test_every_code_in_the_source_is_registered() -> None:
    for path in sources():
        unknown = set(USED.findall(path.read_text(encoding="utf-8"))) - set(CODES)
        assert not unknown, path


def test_every_registered_code_is_raised_somewhere() -> None:
    """A code in a docstring or in the registry alone is a promise that nobody keeps."""
    raised: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name != "errors.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    raised |= {node.value} & set(CODES)
    assert set(CODES) - raised == set()


def test_an_unregistered_code_is_a_defect() -> None:
    with pytest.raises(KeyError, match="MV-DATA-999"):
        MinivessError("MV-DATA-999", what="x")


def test_the_text_has_what_is_known_and_nothing_else() -> None:
    full = MinivessError("MV-DATA-001", "gone", "a.nii", "nothing", "a file", "look for it")
    assert str(full).splitlines() == [
        "MV-DATA-001: gone",
        "  where:    a.nii",
        "  found:    nothing",
        "  expected: a file",
        "  fix:      look for it",
    ]
    assert str(MinivessError("MV-DATA-001", what="gone")) == "MV-DATA-001: gone"


def test_an_error_can_be_caught_and_keeps_its_cause() -> None:
    def read() -> None:
        try:
            raise OSError("short read")
        except OSError as error:
            raise MinivessError("MV-DATA-002", what="broken") from error

    with pytest.raises(MinivessError, match="MV-DATA-002: broken") as caught:
        read()
    assert isinstance(caught.value.__cause__, OSError)
    assert {caught.value: 1}[caught.value] == 1, "errors are hashable, as Python expects"


def test_nearest_names_one_word_or_all() -> None:
    assert nearest("lerning_rate", ["learning_rate", "epochs"]) == "did you mean learning_rate?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"


@settings(deadline=None)
@given(st.text(max_size=12), st.lists(st.text(min_size=1, max_size=12), min_size=1, unique=True))
def test_suggestions_are_known_words(word: str, known: list[str]) -> None:
    assert closest(word, known) in known
    suggestion = nearest(word, known)
    found = re.fullmatch(r"did you mean (.*)\?", suggestion, re.DOTALL)
    assert found[1] in known if found else suggestion == "known: " + ", ".join(sorted(known))
    if word in known:
        assert closest(word, known) == word


def test_the_closest_of_nothing_is_an_error() -> None:
    with pytest.raises(IndexError):
        closest("word", [])


def test_the_page_on_errors_has_every_exit_status() -> None:
    page = Path(__file__).parents[1] / "docs" / "how-to" / "after-an-error.md"
    rows = re.findall(r"^\| (\d+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(row) for row in rows} == set(EXIT_STATUS.values())
