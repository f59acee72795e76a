"""The dashboard: its cells on an experiment, and the step that renders it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from minivess import paper, paths
from minivess.errors import MinivessError
from minivess.statistics.summary import number
from minivess.steps import paper as step

# What Quarto makes of one file: a page beside it.
SCRIPT = """#!{python}
import sys
from pathlib import Path
from minivess import paper

page = Path(sys.argv[2])
assert sys.argv[1] == "render" and page.name == "dashboard.qmd"
results = paper.read_results()
print("Output created: dashboard.html", {said!r})
if {status} == 0:
    page.with_suffix(".html").write_text(results.numbers["experiment"])
sys.exit({status})
"""


@pytest.fixture(scope="module")
def text(root: Path, read_dashboard: Callable[[Path], str]) -> str:
    return read_dashboard(root)


def install_quarto(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: str = "", status: int = 0
) -> None:
    program = folder / "bin" / "quarto"
    program.parent.mkdir()
    script = SCRIPT.format(python=sys.executable, said=said, status=status)
    program.write_text(script, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_its_numbers_are_those_of_the_summary(root: Path, text: str) -> None:
    numbers = json.loads(paths.summary(root).read_text(encoding="utf-8"))
    best = max(numbers["arms"], key=lambda arm: arm["metrics"]["dice"]["mean"])
    boxes = text.split("# Overview")[1].split("## Row\n", maxsplit=1)[0]
    assert f"highest mean Dice: `{best['loss']}`" in boxes
    assert f"{number(best['metrics']['dice']['mean'])} (" in boxes
    assert re.search(r"Predictions that are not ok\n\n2 of 48\n", boxes)
    assert re.search(r"Finished trainings\n\n16 of 16\n", boxes)
    assert (
        paper.arms_table(paper.read_results(root), ["dice"]).splitlines()[2].split("|")[2] in text
    )


def test_its_figures_are_there(root: Path, text: str) -> None:
    shown = re.findall(r"!\[\]\(([^)]+)\)", text)
    assert len(shown) == 5
    assert all((root / "figures" / Path(name).name).is_file() for name in shown)


def test_no_text_is_left_unexecuted(text: str) -> None:
    assert "{python}" not in text


def test_its_source_reads_only_results_and_caches_nothing(manuscript: Path) -> None:
    source = (manuscript / "dashboard.qmd").read_text(encoding="utf-8")
    front = yaml.safe_load(source.split("---")[1])
    assert set(front["format"]) == {"dashboard"}
    assert front["format"]["dashboard"]["embed-resources"]
    assert front["execute"]["freeze"] is False
    assert front["execute"]["cache"] is False
    labels = re.findall(r"^#\| label: (.*)$", source, re.MULTILINE)
    assert len(labels) == len(set(labels)) == source.count("```{python}")
    assert "open(" not in source
    assert "read_parquet" not in source


def test_the_step_writes_one_page(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(root, copy)
    install_quarto(tmp_path, monkeypatch)
    step.render_dashboard(copy)
    assert paths.dashboard(copy).read_text(encoding="utf-8") == "demo"
    assert "Output created" in paths.log(copy, "quarto-dashboard").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "status", "found"),
    [("", 3, "status 3"), ("Could not fetch resource a.svg", 0, "file a.svg")],
)
def test_what_quarto_cannot_make_is_an_error(
    said: str, status: int, found: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(root, copy)
    install_quarto(tmp_path, monkeypatch, said, status)
    with pytest.raises(MinivessError) as caught:
        step.render_dashboard(copy)
    assert caught.value.code == "MV-PAPER-001"
    assert found in str(caught.value)
    assert "paper/dashboard.qmd" in caught.value.fix
    assert not paths.dashboard(copy).exists()
