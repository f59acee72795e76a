"""The reference pages say what the registries say, and the committed pages are those."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from minivess import reference
from minivess.cli import app
from minivess.config.keys import keys
from minivess.config.schema import Experiment
from minivess.config.stores import SECTIONS
from minivess.errors import CODES
from minivess.losses import LOSSES
from minivess.metrics import METRICS
from minivess.statistics.tables import COLUMNS

DOCS = Path(__file__).parents[1] / "docs" / "reference"


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_committed_page_is_up_to_date(name: str) -> None:
    committed = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert committed == reference.PAGES[name](), "run `just reference` and commit the result"


def test_no_other_generated_page_is_left_over() -> None:
    made = {
        path.stem
        for path in DOCS.glob("*.md")
        if path.read_text(encoding="utf-8").startswith(reference.NOTE)
    }
    assert made == set(reference.PAGES)


def test_pages_are_written_with_the_same_bytes_every_time(tmp_path: Path) -> None:
    first = {path: path.read_bytes() for path in reference.write_pages(tmp_path)}
    assert {path: path.read_bytes() for path in reference.write_pages(tmp_path)} == first
    assert sorted(path.stem for path in first) == sorted(reference.PAGES)
    assert sorted(tmp_path.iterdir()) == sorted(first)


@pytest.mark.parametrize("name", reference.PAGES)
def test_no_text_is_indented_into_a_block_of_code(name: str) -> None:
    prose = "".join(reference.PAGES[name]().split("```")[::2])  # what is outside code fences
    assert [line for line in prose.splitlines() if line.startswith((" " * 4, "\t"))] == []


def rows(text: str) -> list[list[str]]:
    """Cells of every table row of a page, headers too."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]


@pytest.mark.parametrize("name", sorted(set(reference.PAGES) - {"glossary"}))
def test_every_row_has_the_cells_of_its_header(name: str) -> None:
    found = rows(reference.PAGES[name]())
    starts = [index - 1 for index, row in enumerate(found) if row[0] == " --- "]
    assert starts
    for start, end in zip(starts, [*starts[1:], len(found)], strict=True):
        for row in found[start:end]:
            assert len(row) == len(found[start]), row
            assert all(cell.strip() for cell in row[:2]), row


def section_of(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize(("group", "key", "section"), keys())
def test_the_page_of_the_configuration_has_every_key(group: str, key: str, section: type) -> None:
    titles = {"": "Top level", "model": "`models.<name>`", "figures": "`figures.<name>`"}
    titles["external"] = "`external.<name>`"
    titles["analysis"] = "`configs/analysis/<name>.yaml`"
    text = section_of(reference.config_page(), titles.get(group, f"`{group}`"))
    (row,) = [row for row in rows(text) if row[0].strip() == f"`{key}`"]
    field = section.model_fields[key]  # type: ignore[attr-defined]
    assert field.description is not None
    # After that of a network's key come the architectures that have it.
    assert row[3].strip().replace(r"\|", "|").startswith(field.description)


def test_the_page_of_the_configuration_has_every_section() -> None:
    page = reference.config_page()
    for section in set(Experiment.model_fields) - {"name", "losses", "seeds"}:
        assert f"## `{section}" in page
    assert set(SECTIONS) - {"model"} < set(Experiment.model_fields)


def test_bounds_are_those_that_are_checked() -> None:
    page = reference.config_page()
    cells = {row[0].strip(): row[1].strip() for row in rows(page)}
    assert cells["`epochs`"] == "whole number, at least 1"
    assert cells["`zoom`"] == "number, at least 0, below 0.9"
    assert cells["`window_size`"] == "3 of: whole number, at least 1; or none"
    assert cells["`profile`"] == "`strict`, `fast`"
    assert cells["`deep_supervision`"] == "`true` or `false`"
    assert cells["`filters`"] == "list of: whole number, at least 1, at least 3 of them"
    assert cells["`training: cpu`"].startswith("`epochs: 10`")


def test_every_registry_is_on_its_page_completely() -> None:
    for page, names in (
        (reference.errors_page(), CODES),
        (reference.metrics_page(), METRICS),
        (reference.losses_page(), LOSSES),
    ):
        listed = [row[0].strip(" `") for row in rows(page)]
        assert [name for name in listed if name in names] == list(names)
    tables = reference.tables_page()
    for name, columns in COLUMNS.items():
        listed = [row[0].strip(" `") for row in rows(section_of(tables, name))]
        assert listed[2:] == list(columns)
    assert set(reference.TABLES) == {*COLUMNS, "manifest", "validation"}


def test_every_loss_and_part_has_a_formula_and_a_source() -> None:
    for row in rows(reference.losses_page()):
        assert all(len(cell.strip()) >= 3 for cell in row)
    sources = [row[2].strip() for row in rows(reference.losses_page()) if row[0] != " --- "]
    assert any("arXiv" in source for source in sources)
    assert all(re.search(r"\d{4}|MONAI|parts|^Source$", source) for source in sources)


def test_every_verb_and_option_is_on_the_page() -> None:
    page = reference.cli_page()

    def verbs(command: object, words: str) -> list[tuple[str, object]]:
        inner = getattr(command, "commands", {})
        return [(words, command)] + [
            found for name, verb in inner.items() for found in verbs(verb, f"{words} {name}")
        ]

    for words, command in verbs(get_command(app), "minivess"):
        text = section_of(page, f"`{words}`")
        for parameter in command.params:  # type: ignore[attr-defined]
            shown = parameter.opts if parameter.param_type_name == "option" else []
            assert all(f"`{option}`" in text for option in shown)
            assert parameter.required == (
                "| required |"
                in next(
                    line
                    for line in text.splitlines()
                    if f"`{(shown or [parameter.name.upper()])[0]}`" in line
                    or f"`{parameter.name.upper()}...`" in line
                )
            )


def test_the_words_of_the_design_are_in_the_glossary() -> None:
    words = (
        "case volume label mask spacing_um affine patch fold reference prediction probability "
        "skeleton branch junction run champion experiment phantom"
    )
    page = reference.glossary_page()
    for word in words.split():
        assert f"- **{word}**: " in page
