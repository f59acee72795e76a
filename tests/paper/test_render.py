"""The step around Quarto; a script of the same name stands in for the program."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess import paper, paths
from minivess.errors import MinivessError
from minivess.statistics.summary import number
from minivess.steps import paper as step

SCRIPT = """#!{python}
import os, sys
from pathlib import Path

folder = Path(sys.argv[2])
assert sys.argv[1] == "render" and Path.cwd().samefile(folder)
from minivess import paper

results = paper.read_results()
assert Path(os.environ["QUARTO_PYTHON"]).samefile("{python}")
print("digest", paper.lock_digest(folder))
print(paper.figure(results, "qualitative"))
print({said!r}, file=sys.stderr)
if {status} == 0:
    (folder / "_output").mkdir()
    for suffix, text in (("html", {page!r}), ("pdf", "%PDF")):
        (folder / "_output" / f"index.{{suffix}}").write_text(results.numbers["experiment"] + text)
sys.exit({status})
"""


@pytest.fixture
def experiment(root: Path, tmp_path: Path) -> Path:
    """A copy that a rendering may write to."""
    copy = tmp_path / "demo"
    shutil.copytree(root, copy)
    return copy


def install_quarto(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str = "Output created: index.html",
    page: str = "<p>Figure 1</p>",
    status: int = 0,
) -> None:
    program = folder / "bin" / "quarto"
    program.parent.mkdir()
    text = SCRIPT.format(python=sys.executable, said=said, page=page, status=status)
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_without_quarto_the_error_says_how_to_get_it(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MinivessError) as caught:
        step.render(experiment)
    assert caught.value.code == "MV-SYSTEM-004"
    assert caught.value.exit_status == 4
    for hint in ("https://quarto.org", "no other result needs it"):
        assert hint in caught.value.fix
    assert not paths.paper_folder(experiment).exists()


def test_without_a_kernel_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_quarto(tmp_path, monkeypatch)
    assert step.find_quarto() == str(tmp_path / "bin" / "quarto")
    monkeypatch.setattr(step, "KERNEL", ("ipykernel", "no_such_package"))
    with pytest.raises(MinivessError) as caught:
        step.find_quarto()
    assert caught.value.code == "MV-SYSTEM-004"
    assert caught.value.found == "missing: no_such_package"


def test_render_writes_both_formats_and_the_log(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_quarto(tmp_path, monkeypatch)
    step.render(experiment)
    folder = paths.paper_folder(experiment)
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "index.pdf"]
    assert (folder / "index.html").read_text(encoding="utf-8").startswith("demo")
    log = paths.log(experiment, "quarto").read_text(encoding="utf-8")
    assert "Output created" in log
    assert "![](results/figures/qualitative.svg)" in log  # Typst sees nothing outside its folder
    other = tmp_path / "own.log"
    step.render(experiment, other)
    assert other.read_text(encoding="utf-8") == log


@pytest.mark.parametrize(
    ("said", "page", "problem"),
    [
        ("WARNING (main.lua:9) Unable to resolve crossref @fig-x", "", "cross reference fig-x"),
        ("[WARNING] Citeproc: citation poe1845 not found", "", "citation poe1845"),
        ("", "<strong>?@tbl-lost</strong>", "cross reference tbl-lost"),
    ],
)
def test_what_quarto_only_warns_of_is_an_error(
    experiment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    page: str,
    problem: str,
) -> None:
    install_quarto(tmp_path, monkeypatch, said, page)
    with pytest.raises(MinivessError, match="cannot be resolved") as caught:
        step.render(experiment)
    assert caught.value.found == problem
    assert caught.value.where == str(paths.log(experiment, "quarto"))
    assert not paths.paper_folder(experiment).exists()


def test_quarto_failing_is_an_error(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_quarto(tmp_path, monkeypatch, said="\x1b[31mERROR: no such cell\x1b[39m", status=1)
    with pytest.raises(MinivessError, match="status 1") as caught:
        step.render(experiment)
    assert caught.value.found.endswith("ERROR: no such cell")
    assert "no such cell" in paths.log(experiment, "quarto").read_text(encoding="utf-8")


def test_missing_results_come_before_quarto(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_quarto(tmp_path, monkeypatch)
    paths.table(experiment, "runs").unlink()
    with pytest.raises(MinivessError) as caught:
        step.render(experiment)
    assert caught.value.code == "MV-STATE-002"
    assert not paths.log(experiment, "quarto").exists()


def test_manuscript_here_comes_before_the_project_s(
    manuscript: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert step.manuscript_folder() == manuscript
    shutil.copytree(manuscript, tmp_path / "paper")
    assert step.manuscript_folder() == Path("paper")


def test_nothing_unresolved_in_an_ordinary_log() -> None:
    text = (
        "Executing 'index.quarto_ipynb'\n  Cell 1/2: 'setup'...Done\n"
        "[typst]: Compiling index.typ to index.pdf...DONE\nOutput created: _output/index.html\n"
        "WARNING: a package is old\n<p>Is it so?@ all</p>"
    )
    assert step.unresolved(text) == []


def test_colours_and_repetitions_do_not_matter() -> None:
    text = (
        "\x1b[33mWARNING (crossref/refs.lua:128) Unable to resolve crossref @sec-a\x1b[39m\n"
        "[WARNING] Citeproc: citation b not found\n"
        "[WARNING] Could not fetch resource results/figures/c.svg\n"
        "\x1b[33mWARNING (crossref/refs.lua:128) Unable to resolve crossref @sec-a\x1b[39m\n"
    )
    assert step.unresolved(text) == [
        "cross reference sec-a",
        "citation b",
        "file results/figures/c.svg",
    ]


@given(
    st.sampled_from(["fig", "tbl", "sec", "eq"]),
    st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
)
def test_every_label_is_found(kind: str, name: str) -> None:
    label = f"{kind}-{name}"
    expected = [f"cross reference {label}"]
    assert step.unresolved(f"x\nWARN Unable to resolve crossref @{label}\ny") == expected
    assert step.unresolved(f"<b>?@{label}</b>") == expected


@pytest.mark.skipif(shutil.which("quarto") is None, reason="the program quarto is not installed")
def test_real_quarto(experiment: Path) -> None:
    step.render(experiment)
    folder = paths.paper_folder(experiment)
    results = paper.read_results(experiment)
    _, best = paper.leading_arm(results, "dice")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert number(best["metrics"]["dice"]["mean"]) in page
    assert 'id="fig-qualitative"' in page
    assert (folder / "index.pdf").read_bytes().startswith(b"%PDF")
