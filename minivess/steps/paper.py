"""The step that renders the manuscript with Quarto, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from minivess import output, paper, paper_sets, paths, provenance
from minivess.errors import MinivessError
from minivess.logs import say

MANUSCRIPT = ("_quarto.yml", "index.qmd", "references.bib")
RENDERED = ("index.html", "index.pdf")
DASHBOARD = "dashboard.qmd"
KERNEL = ("ipykernel", "nbclient", "nbformat", "yaml")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Quarto and pandoc warn of these and still exit with 0.
_UNRESOLVED = re.compile(
    r"Unable to resolve crossref @?(?P<label>[^\s]+)"
    r"|Citeproc: citation (?P<key>[^\s]+) not found"
    r"|Could not fetch resource (?P<file>[^\n]+)"
    r"|\?@(?P<shown>(?:fig|tbl|eq|sec)-[\w-]+)"
)
_KINDS = {
    "label": "cross reference",
    "key": "citation",
    "file": "file",
    "shown": "cross reference",
}


def unresolved(text: str) -> list[str]:
    """References, citations and files that a log of Quarto, or a page of it, could not resolve.

    Each once, in the order of appearance.

    >>> unresolved("WARNING (main.lua:1) Unable to resolve crossref @fig-x")
    ['cross reference fig-x']
    """
    found = [
        f"{_KINDS[kind]} {value.strip()}"
        for match in _UNRESOLVED.finditer(_COLOUR.sub("", text))
        for kind, value in match.groupdict().items()
        if value
    ]
    return list(dict.fromkeys(found))


def find_quarto() -> str:
    """Path of the program quarto.

    Raises:
        MinivessError: MV-SYSTEM-004 not there, or the Python packages that it runs cells with.
    """
    program = shutil.which("quarto")
    if program is None:
        raise MinivessError(
            "MV-SYSTEM-004",
            what="the paper is rendered by Quarto, which is not installed",
            found="no program quarto on the PATH",
            expected="Quarto 1.4 or later; no Python package ships it",
            fix="install it from https://quarto.org/docs/get-started; no other result needs it",
        )
    missing = [name for name in KERNEL if find_spec(name) is None]
    if missing:
        raise MinivessError(
            "MV-SYSTEM-004",
            what="Quarto runs the manuscript's cells with Python packages that are not installed",
            found="missing: " + ", ".join(missing),
            fix="install the project with its development packages: uv sync",
        )
    return program


def manuscript_folder() -> Path:
    """The folder of the manuscript: paper/ here, else that of the project the package lies in.

    Raises:
        MinivessError: MV-DATA-001 there is none.
    """
    candidates = [Path("paper"), provenance.PACKAGE.parent / "paper"]
    for folder in candidates:
        if all((folder / name).is_file() for name in MANUSCRIPT):
            return folder
    raise MinivessError(
        "MV-DATA-001",
        what="the manuscript is missing",
        where=str(candidates[0].absolute()),
        expected=", ".join(MANUSCRIPT),
        fix="go to the project's folder first",
    )


def stage(root: Path, manuscript: Path, folder: Path) -> None:
    """Copy manuscript, lock file and what it reads of the results into a folder.

    Typst reads nothing outside the folder it works in, and two experiments may be rendered at once.

    Raises:
        MinivessError: MV-STATE-002 the experiment lacks a file, MV-LOCK-003 the audit log was
            changed, MV-DATA-001 no lock file.
    """
    paper.lock_digest(manuscript)
    for name in MANUSCRIPT:
        shutil.copyfile(manuscript / name, folder / name)
    shutil.copyfile(manuscript.resolve().parent / paper.LOCK, folder / paper.LOCK)
    stage_results(root, folder)


def stage_results(root: Path, folder: Path) -> None:
    """Copy what pages read of the results into a folder.

    Raises:
        MinivessError: MV-STATE-002 the experiment lacks a file, MV-LOCK-003 the audit log was
            changed.
    """
    results = paper.read_results(root)
    for source in (*paper.sources(root), *paper_sets.sources(results)):
        target = folder / "results" / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def render(root: Path, log: Path | None = None) -> None:
    """Write paper/index.html and paper/index.pdf of an experiment.

    Args:
        root: results folder of the experiment.
        log: where Quarto's own output goes, by default logs/quarto.log of the experiment.

    Raises:
        MinivessError: MV-SYSTEM-004 no Quarto, MV-STATE-002 results missing, MV-LOCK-003 the audit
            log was changed, MV-DATA-001 no manuscript, MV-PAPER-001 Quarto failed or something in
            the text is not resolved.
    """
    program, log = find_quarto(), log or paths.log(root, "quarto")
    with tempfile.TemporaryDirectory(prefix="minivess-paper-") as name:
        folder = Path(name)
        stage(root, manuscript_folder(), folder)
        text, status = _run_quarto(program, folder, folder)
        output.write_text(text, log)
        made = [folder / "_output" / file for file in RENDERED]
        if status != 0 or not all(path.is_file() for path in made):
            raise _failed(log, f"Quarto ended with status {status}", _last_lines(text))
        problems = unresolved(text + "\n" + made[0].read_text(encoding="utf-8"))
        if problems:
            raise _failed(log, "the manuscript has what cannot be resolved", ", ".join(problems))
        for path in made:
            with output.replacing(paths.paper_folder(root) / path.name) as temporary:
                shutil.copyfile(path, temporary)
    say(f"rendered {paths.paper_folder(root) / RENDERED[0]} and {RENDERED[1]}")


def render_dashboard(root: Path, log: Path | None = None) -> None:
    """Write paper/dashboard.html of an experiment.

    Args:
        root: results folder of the experiment.
        log: where Quarto's own output goes, by default logs/quarto-dashboard.log.

    Raises:
        MinivessError: as `render`.
    """
    program, log = find_quarto(), log or paths.log(root, "quarto-dashboard")
    source = manuscript_folder() / DASHBOARD
    with tempfile.TemporaryDirectory(prefix="minivess-dashboard-") as name:
        folder = Path(name)
        shutil.copyfile(source, folder / DASHBOARD)
        stage_results(root, folder)
        text, status = _run_quarto(program, folder, folder / DASHBOARD)
        output.write_text(text, log)
        made = (folder / DASHBOARD).with_suffix(".html")
        if status != 0 or not made.is_file():
            raise _failed(log, f"Quarto ended with status {status}", _last_lines(text), DASHBOARD)
        problems = unresolved(text + "\n" + made.read_text(encoding="utf-8"))
        if problems:
            raise _failed(
                log, "the dashboard has what cannot be resolved", ", ".join(problems), DASHBOARD
            )
        with output.replacing(paths.dashboard(root)) as temporary:
            shutil.copyfile(made, temporary)
    say(f"rendered {paths.dashboard(root)}")


def _run_quarto(program: str, folder: Path, what: Path) -> tuple[str, int]:
    environment = {
        **os.environ,
        paper.VARIABLE: "results",
        "QUARTO_PYTHON": sys.executable,
        "NO_COLOR": "1",
        # The date that Typst writes into the PDF.
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "0"),
    }
    done = subprocess.run(
        [program, "render", str(what)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.stdout, done.returncode


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]
    return " / ".join(lines[-3:])


def _failed(log: Path, what: str, found: str, source: str = "index.qmd") -> MinivessError:
    return MinivessError(
        "MV-PAPER-001",
        what=f"the paper could not be rendered: {what}",
        where=str(log),
        found=found,
        fix=f"correct paper/{source}; the log has all that Quarto said",
    )
