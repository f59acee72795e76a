"""The code behind each step: complete, and no wider than it must be."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minivess import provenance, stepcode
from minivess.calibration import CALIBRATORS
from minivess.figures import FIGURES


def modules(step: str) -> set[str]:
    return {name.removeprefix("minivess.") for name in stepcode.step_modules(step)}


@pytest.mark.parametrize(
    ("step", "behind", "not_behind"),
    [
        ("train", {"training.trainer", "losses.cbdice", "data.augment"}, {"tracking", "metrics"}),
        ("predict", {"inference.predict", "models.dynunet"}, {"losses", "training.trainer"}),
        ("evaluate", {"metrics.surface", "data.volume"}, {"training.trainer", "models"}),
        ("ensembles", {"inference.soup", "metrics.surface"}, {"training.trainer", "losses"}),
        ("validate", {"data.checks", "data.thumbnail"}, {"data.folds", "data.phantom"}),
        ("export", {"tracking.export", "metrics"}, {"training.trainer"}),
        ("compare", {"statistics.compare", "metrics"}, {"tracking.export"}),
    ],
)
def test_what_is_behind_a_step(step: str, behind: set[str], not_behind: set[str]) -> None:
    assert behind <= modules(step)
    assert not modules(step) & not_behind


def test_what_no_import_statement_names_is_behind_its_step() -> None:
    calibrators = {one.module for one in CALIBRATORS.values()}
    assert calibrators <= set(stepcode.step_modules("calibrate"))
    for step, file in (("paper", "index.qmd"), ("dashboard", "dashboard.qmd")):
        text = (provenance.PACKAGE.parent / "paper" / file).read_text(encoding="utf-8")
        cells = "\n".join(re.findall(r"^(?:from|import) minivess.*$", text, re.MULTILINE))
        missing = stepcode._imports(ast.parse(cells)) - {"minivess", *stepcode.WITHOUT_EFFECT}
        assert missing <= set(stepcode.step_modules(step)), step


def test_a_figure_depends_on_no_other_figure() -> None:
    shared = {name.removeprefix("figures.") for name in modules("figure") if "figures." in name}
    assert shared & set(FIGURES) == {"qualitative"}  # taken out again by figure_digest
    assert len({stepcode.figure_digest(name) for name in FIGURES}) == len(FIGURES)


CODE = """
import sys
from minivess import stepcode
print({step: stepcode.step_digest(step) for step in stepcode.STEPS})
print({name: stepcode.figure_digest(name) for name in ("fold_heatmap", "paired_cases")})
"""


def digests(project: Path) -> tuple[dict[str, str], dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=project, capture_output=True, text=True, check=True
    )
    steps, figures = done.stdout.splitlines()
    return ast.literal_eval(steps), ast.literal_eval(figures)


STEP = """
from minivess.data import checks
type Rows = list[int]
DECIMALS: int = 9
DOUBLE = 2 * DECIMALS
OTHER = 1

class Row:
    digits = DOUBLE

def step(rows: Rows):
    return _inner(Row)

def _inner(row):
    return row

def another():
    return OTHER
"""


def test_what_a_step_uses_of_its_own_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "made_up.py"
    monkeypatch.setattr(stepcode, "_path", lambda module: file)
    found = {}
    for old, new in (
        ("", ""),
        ("DECIMALS: int = 9", "DECIMALS: int = 8"),
        ("2 * DECIMALS", "3 * DECIMALS"),
        ("list[int]", "list[float]"),
        ("digits", "numbers"),
        ("import checks", "import folds"),
        ("OTHER = 1", "OTHER = 2"),
        ("return OTHER", "return 2"),
    ):
        file.write_text(STEP.replace(old, new), encoding="utf-8")
        stepcode._tree.cache_clear()
        parts = stepcode._function_parts("made_up", "step")
        found[old] = "\n".join(ast.unparse(part) for part in parts)
    stepcode._tree.cache_clear()
    unchanged = {old for old, text in found.items() if text == found[""]}
    assert unchanged == {"", "OTHER = 1", "return OTHER"}


def test_an_edit_changes_what_it_is_behind_and_nothing_else(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(provenance.PACKAGE, tmp_path / "minivess", ignore=ignore)
    before, figures = digests(tmp_path)
    for edited, expected, remade in (
        (
            "metrics/topology.py",
            {"evaluate", "ensembles", "test", "evaluate_external"},
            set(),
        ),
        ("losses/cldice.py", {"train"}, set()),
        ("data/thumbnail.py", {"validate", "test", "evaluate_external"}, set()),
        ("figures/fold_heatmap.py", set(), {"fold_heatmap"}),
        ("calibration/isotonic.py", {"calibrate"}, set()),
        ("config/ensembles.py", {"ensembles", "digests"}, set()),
        ("paper_statistics.py", {"paper", "dashboard"}, set()),
        ("errors.py", set(), set()),
    ):
        path = tmp_path / "minivess" / edited
        text = path.read_text(encoding="utf-8")
        path.write_text(text + "\n# edited\n", encoding="utf-8")
        after, figures_after = digests(tmp_path)
        assert {step for step in before if before[step] != after[step]} == expected, edited
        assert {n for n in figures if figures[n] != figures_after[n]} == remade, edited
        path.write_text(text, encoding="utf-8")
