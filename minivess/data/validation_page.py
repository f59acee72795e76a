"""The validation as one self-contained page: problems on top, then a picture of every case."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from minivess.data.manifest import Row, read_image, read_label
from minivess.data.problem import listed
from minivess.data.thumbnail import outline, picture_size, projection
from minivess.output import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.config.schema import Experiment
    from minivess.types import Spacing

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --dim: #5c5c5c; --paper: #fff; --line: #d5d5d5;
  --card: #f7f7f7; --error: #b3261e; --warning: #8a5a00; --good: #00684d; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --dim: #a8a8a8; --paper: #161616;
  --line: #3c3c3c; --card: #202020; --error: #ff9b93; --warning: #f0b849; --good: #5fd0aa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 84rem; color: var(--ink);
  background: var(--paper); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
.dim { color: var(--dim); }
.error { color: var(--error); } .warning { color: var(--warning); } .good { color: var(--good); }
.scroll { overflow-x: auto; }
table.problems { border-collapse: collapse; width: 100%; }
.problems th, .problems td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.problems th { border-bottom-width: 2px; white-space: nowrap; }
.problems td:first-child { min-width: 9rem; }
.nowrap { white-space: nowrap; }
.badge { font-weight: 600; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem;
  margin-top: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem; }
.card.error-card { border-color: var(--error); border-width: 2px; }
.picture { position: relative; max-width: 100%; margin-bottom: .6rem; }
.picture img { display: block; width: 100%; image-rendering: pixelated; }
.picture img.outline { position: absolute; inset: 0; height: 100%; }
.picture:hover img.outline { visibility: hidden; }
#outlines:not(:checked) ~ .cards img.outline { visibility: hidden; }
.none { width: 256px; max-width: 100%; height: 8rem; display: grid; place-items: center;
  border: 1px dashed var(--line); margin-bottom: .6rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .7rem; margin: 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: .5rem 0 0; padding-left: 1.1rem; }
@media print { .card { break-inside: avoid; } }
"""


def write_page(
    manifest: pl.DataFrame, problems: pl.DataFrame, experiment: Experiment, path: Path
) -> None:
    """Write the page; equal bytes for equal arguments and files, nothing loaded from elsewhere.

    Reads one volume at a time. A case whose files cannot be read gets a card without a picture.

    Raises:
        MinivessError: a file that the manifest could read has changed (as `read_volume`), or
            MV-SYSTEM-001, MV-SYSTEM-002 where the page cannot be written.
    """
    cards = [
        _card(row, problems.filter(pl.col("case") == row["case"]), experiment)
        for row in manifest.iter_rows(named=True)
    ]
    title = f"Validation of {escape(experiment.name)}"
    write_text(
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f"{_verdict(manifest, problems)}\n{_table(problems)}\n<h2>Cases</h2>\n"
        '<p class="dim">Maximum-intensity projection along z, true to scale, x to the right, y '
        "down, grey from the 1st to the 99.9th percentile of the projection. The orange line is "
        "the outline of the label's projection; point at a picture to see it without.</p>\n"
        '<input type="checkbox" id="outlines" checked> <label for="outlines">show outlines'
        "</label>\n"
        f'<div class="cards">\n{"".join(cards)}</div>\n</body></html>\n',
        path,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _verdict(manifest: pl.DataFrame, problems: pl.DataFrame) -> str:
    n_errors = problems.filter(pl.col("severity") == "error").height
    n_warnings = problems.height - n_errors
    n_groups = manifest["group"].n_unique()
    counts = f"{_count(manifest.height, 'case')} in {_count(n_groups, 'group')}"
    if manifest["locked"].any():
        counts += f", {manifest['locked'].sum()} of them locked away for the test"
    if n_errors:
        verdict = (
            f'<span class="badge error">Not accepted: {_count(n_errors, "error")}</span> '
            "must be repaired before anything is computed"
        )
    else:
        verdict = '<span class="badge good">Accepted</span>'
    return f"<p>{counts}. {verdict}; {_count(n_warnings, 'warning')}.</p>"


def _table(problems: pl.DataFrame) -> str:
    if problems.height == 0:
        return ""
    heads = ("case", "severity", "problem", "found", "expected", "what to do")
    rows = []
    for row in problems.iter_rows(named=True):
        case = row["case"]
        link = f'<a href="#{escape(case)}">{escape(case)}</a>' if case else "all cases"
        cells = (
            link,
            f'<span class="badge {row["severity"]}">{row["severity"]}</span>',
            f'{escape(row["what"])}<br><span class="dim nowrap">{escape(row["code"])}</span>',
            f'{escape(row["found"])}<br><span class="dim">{escape(_file_name(row))}</span>',
            escape(row["expected"]),
            escape(row["fix"]),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        '<h2>Problems</h2>\n<div class="scroll"><table class="problems">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _file_name(problem: Row) -> str:
    return str(problem["where"]).rsplit("/", 1)[-1]


def _picture(row: Row, experiment: Experiment) -> str:
    """The projection with the outline, as far as image and label can be read and fit together."""
    if row["read_error_code"]:
        return '<div class="none dim">image cannot be read</div>'
    spacing: Spacing = tuple(row["spacing_um"] or (1.0, 1.0, 1.0))
    case = escape(row["case"])
    image = projection(read_image(row), spacing)
    layers = f'<img src="{image}" alt="maximum-intensity projection of {case}">'
    if row["vessel_fraction"] and row["shape"] == row["label_shape"]:
        line = outline(read_label(row, experiment.data.vessel_labels), spacing)
        layers += f'<img class="outline" src="{line}" alt="outline of the label">'
    width, _ = picture_size(row["shape"][:2], spacing[:2])
    return f'<div class="picture" style="width: {width}px">{layers}</div>'


def _facts(row: Row) -> list[tuple[str, str]]:
    """Names and values of a card, those that are known."""
    facts: list[tuple[str, str]] = [("group", row["group"])]
    if row["locked"]:
        facts.append(("label", "locked away: a test case"))
    if row["shape"]:
        facts.append(("voxels", f"{listed(row['shape'])}, {row['dtype']}"))
    if row["spacing_um"]:
        size = np.array(row["shape"]) * np.array(row["spacing_um"])
        source = {"header": "header", "csv": "list of cases", "config": "configuration"}
        facts += [
            ("spacing", f"{_rounded(row['spacing_um'])} µm ({source[row['spacing_source']]})"),
            ("size", f"{_rounded(size)} µm"),
        ]
    elif row["shape"]:
        facts.append(("spacing", "unknown"))
    if row["p50"] is not None:
        intensities = f"{row['p1']:.5g} to {row['p999']:.5g}, median {row['p50']:.5g}"
        facts.append(("p1 to p99.9", intensities))
    if row["vessel_fraction"] is not None:
        facts += [
            ("vessel", f"{row['vessel_fraction']:.2%} of the voxels"),
            ("components", str(row["n_components"])),
        ]
    elif row["label_values"]:
        facts.append(("label values", ", ".join(map(str, row["label_values"]))))
    return facts


def _rounded(values: object) -> str:
    return listed([float(f"{value:.4g}") for value in np.ravel(np.asarray(values))])


def _card(row: Row, problems: pl.DataFrame, experiment: Experiment) -> str:
    items = "".join(
        f'<li class="{problem["severity"]}">{escape(problem["what"])}: {escape(problem["found"])} '
        f'<span class="nowrap">({escape(problem["code"])})</span></li>'
        for problem in problems.iter_rows(named=True)
    )
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _facts(row))
    mark = " error-card" if "error" in problems["severity"].to_list() else ""
    return (
        f'<section class="card{mark}" id="{escape(row["case"])}"><h3>{escape(row["case"])}</h3>'
        f"{_picture(row, experiment)}<dl>{facts}</dl>"
        + (f"<ul>{items}</ul>" if items else "")
        + "</section>\n"
    )
