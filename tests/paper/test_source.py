"""The manuscript's source: every reference resolves, no number is typed, every entry is used."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

type Reader = Callable[[Path], Path]

CHUNK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NOT_PROSE = re.compile(
    r"\A---.*?^---$"  # front matter
    r"|<!--.*?-->"
    r"|^```.*?^```$"
    r"|\$\$.*?\$\$|\$[^$\n]+\$"  # formulas
    r"|`[^`\n]+`"
    r"|\[@[^\]]+\]|@[\w-]+|\{[#.][^}]*\}"
    r"|\bSHA-256\b",  # a name
    re.MULTILINE | re.DOTALL,
)
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")


def typed_numbers(text: str) -> list[str]:
    """Numbers in the prose, and decimals anywhere below the front matter."""
    prose = NOT_PROSE.sub(" ", text)
    body = re.sub(r"\A---.*?^---$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\d+(?:\.\d+)?", prose) + DECIMAL.findall(body)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    panache = Path(sys.executable).with_name("panache")
    command = [str(panache), "lint", "--isolated", "--no-cache", "--message-format", "short"]
    return subprocess.run(
        [*command, "index.qmd"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(manuscript: Path, tmp_path: Path) -> Path:
    for name in ("index.qmd", "_quarto.yml", "references.bib"):
        shutil.copyfile(manuscript / name, tmp_path / name)
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "index.qmd"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_source_is_clean(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


def test_executed_text_is_clean(root: Path, read_manuscript: Reader) -> None:
    """What cells write, references and citations among it, resolves as well."""
    done = lint(read_manuscript(root))
    # In what cells write, a space before a citation may break.
    problems = [
        line
        for line in done.stdout.splitlines()
        if "index.qmd:" in line and "citation-nonbreaking-space" not in line
    ]
    assert not problems
    assert done.returncode in (0, 1)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("in @tbl-main: means", "in @tbl-mian: means", "undefined-reference-label"),
        ("{#fig-qualitative}", "{#fig-qualitativ}", "undefined-reference-label"),
        ("[@teikari2016]", "[@teikari2061]", "missing-bibliography-key"),
        ("{#tbl-further}", "{#tbl-main}", "duplicate-reference-labels"),
    ],
)
def test_lint_finds_what_is_broken(copy: Path, old: str, new: str, problem: str) -> None:
    edit(copy, old, new)
    done = lint(copy)
    assert done.returncode == 1
    assert problem in done.stdout


def test_no_number_is_typed(manuscript: Path) -> None:
    assert typed_numbers((manuscript / "index.qmd").read_text(encoding="utf-8")) == []


def test_a_typed_number_is_found() -> None:
    assert typed_numbers("We found 0.81 and 12 cases.\n") == ["0.81", "12", "0.81"]
    assert typed_numbers("```{python}\nx = 0.81\n```\n") == ["0.81"]
    assert typed_numbers('`{python} md("0.81")`') == ["0.81"]
    assert typed_numbers("As [@poon2023] and @tbl-main2 have it, $x = 2$, `conv2`.") == []


def entries(manuscript: Path) -> dict[str, str]:
    text = (manuscript / "references.bib").read_text(encoding="utf-8")
    return {match[1]: match[0] for match in re.finditer(r"@\w+\{(\w+),.*?\n\}", text, re.DOTALL)}


def test_every_entry_can_be_found_and_is_cited(manuscript: Path) -> None:
    source = (manuscript / "index.qmd").read_text(encoding="utf-8")
    from minivess.metrics import METRICS
    from minivess.paper import citation

    bibliography = manuscript / "references.bib"
    cited = source + " ".join(citation(m.source, bibliography) for m in METRICS.values())
    assert len(entries(manuscript)) >= 15
    for key, entry in entries(manuscript).items():
        assert re.search(r"^\s*(doi|eprint|url)\s*=", entry, re.MULTILINE), key
        assert f"@{key}" in cited, key


def test_chunks_are_labelled_once(manuscript: Path) -> None:
    source = (manuscript / "index.qmd").read_text(encoding="utf-8")
    chunks = CHUNK.findall(source)
    labels = [match[1] for chunk in chunks if (match := re.search(r"#\| label: (\S+)", chunk))]
    assert len(labels) == len(chunks) == len(set(labels))


def test_inline_expressions_stay_on_one_line(manuscript: Path) -> None:
    """Quarto replaces them line by line."""
    source = (manuscript / "index.qmd").read_text(encoding="utf-8")
    opened = source.count("`{python} ")
    assert opened == len(re.findall(r"`\{python\} [^`\n]+`", source)) > 20


def test_quarto_caches_nothing_and_makes_both_formats(manuscript: Path) -> None:
    config = yaml.safe_load((manuscript / "_quarto.yml").read_text(encoding="utf-8"))
    assert config["execute"]["freeze"] is False
    assert config["execute"]["cache"] is False
    assert config["number-sections"] is True
    assert config["format"]["html"]["embed-resources"] is True
    assert set(config["format"]) == {"html", "typst"}
