"""All benchmarks in turn: none is forgotten, and the page is made of what they write."""

from __future__ import annotations

import csv
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "benchmarks"
PARTS = {
    "everything",
    "networks",
    "nnunet",
    "other_definitions",
    "page",
    "sides",
    "usual_libraries",
}


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("everything")
    for name in ("everything", "page"):
        sys.modules.pop(name, None)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "cases.csv"
    path.write_text("case\n", encoding="utf-8")
    return path


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str = "") -> Path:
    """A `just` that notes what it is asked for."""
    asked, path = tmp_path / "asked", tmp_path / "just"
    fails = f'[ "$2" != "{failing}" ] || exit 3\n' if failing else ""
    path.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(asked))}\n{fails}', encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("JUST", str(path))
    return asked


def test_every_benchmark_is_among_them(everything: ModuleType) -> None:
    names = {entry.name for entry in everything.entries(everything.parsed([]), has_gpu=True)}
    assert names == {path.stem for path in FOLDER.glob("*.py")} - PARTS
    recipe = re.search(r"\nbench .*?\n\n", (PROJECT / "justfile").read_text(), re.DOTALL)
    assert recipe is not None
    known = {
        word
        for words in re.findall(r"^ +([a-z_|]+)\)", recipe[0], re.M)
        for word in words.split("|")
    }
    assert known == names


def test_the_pages_sections_are_of_these_commands(everything: ModuleType, table: Path) -> None:
    page: ModuleType = importlib.import_module("page")
    text = (PROJECT / "docs" / "reference" / "benchmarks.md").read_text(encoding="utf-8")
    assert text.startswith(page.HEADING)
    given = everything.parsed(["--vesselnn", str(table)])
    possible = {
        page.command(entry.name, entry.options) for entry in everything.entries(given, has_gpu=True)
    }
    made = [command.replace(" --mask mv68_y.nii.gz", "") for command in _made(text)]
    assert len(made) == text.count("<!-- begin ")
    assert set(made) <= possible
    assert possible - set(made) <= {"just bench training_gpu"}


def _made(text: str) -> list[str]:
    return re.findall(r"^Made with `(.*)`\.$", text, re.MULTILINE)


def test_what_fails_stops_no_other(
    everything: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = fake(tmp_path, monkeypatch, failing="losses")
    monkeypatch.setattr(everything, "gpus", lambda: ())
    assert everything.main(["--write"]) == 1
    lines = asked.read_text(encoding="utf-8").splitlines()
    assert lines == [
        "bench metrics --write",
        "bench losses --write",
        "bench patches --write",
        "bench training --write",
        "bench inference --write",
        "bench inference --filters 8 16 32 --write",
        "bench service --write",
        "bench coverage --write",
        "bench comparison --write",
    ]
    told = capsys.readouterr().out
    assert "FAILED with status 3" in told
    assert told.count("left out, needs a table of vesselNN's stacks (--vesselnn)") == 3
    assert told.count("left out, needs a GPU: just bench training_gpu") == 1


def test_files_and_names_reach_their_benchmarks(
    everything: ModuleType, tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake(tmp_path, monkeypatch)
    chosen = ["--only", "metrics", "comparison", "--mask", str(table), "--vesselnn", str(table)]
    assert everything.main(chosen) == 0
    first, *others = asked.read_text(encoding="utf-8").splitlines()
    assert first == f"bench metrics --mask {table}"
    assert len(others) == 4
    assert sum(f"data.path={table} --name vesselNN" in line for line in others) == 3


def test_a_dry_run_runs_nothing(
    everything: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake(tmp_path, monkeypatch)
    assert everything.main(["--dry-run"]) == 0
    assert not asked.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "speed"], "there is no speed: metrics, losses"),
        (["--mask", "none.npy"], "there is no file none.npy"),
        (["--vesselnn", "none.csv"], "there is no file none.csv"),
    ],
)
def test_what_is_not_there_is_told_at_once(
    everything: ModuleType, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        everything.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_the_stacks_of_vesselnn_are_listed_once_each() -> None:
    with (FOLDER / "vesselnn.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for column in ("case", "image", "label", "group"):
        assert len({row[column] for row in rows}) == 6
    assert {row["spacing_z_um"] for row in rows} == {"5.0"}
