"""The reference pages: Markdown made from the registries, so that they cannot tell another story.

`write_pages` writes `docs/reference/`; a test fails when a page is not what its registry says.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from minivess import output
from minivess.glossary import GLOSSARY

NOTE = "<!-- Made by `just reference` from the code. Do not edit. -->"

TABLES: dict[str, str] = {
    "manifest": "One row of facts per case: `data/manifest.parquet`.",
    "validation": "All problems of all cases, as text: `data/validation.parquet`.",
    "runs": "One row per training run.",
    "params": "Parameters of every run.",
    "metrics": "Means of each run over the cases it was evaluated on.",
    "cases": "Every metric of every evaluated case of every run.",
    "ensembles": "Every metric of every case of every ensemble; no rows where there is none.",
    "history": "Training curves of every run.",
    "baseline": "The best that a single threshold can do on each case.",
    "summary": "Mean, spread and interval of each network and loss over cases.",
    "comparison": "Paired differences between networks and losses over cases.",
    "test": "Metrics of the test cases, after `minivess unlock-test`: "
    "`test/<analysis>/tables/test.parquet`.",
    "external": "Metrics of the cases of an external set: "
    "`external/<name>/tables/external.parquet`.",
    "properties": "What differs between data sets, per case: beside `external`.",
    "shift": "How far an external set is from the experiment's own data: beside `external`.",
    "calibration": "Scores of each run's probabilities on held-out cases, by calibrator.",
    "reliability": "Bins of the reliability diagram of each held-out case, by calibrator.",
    "conformal": "Conformal thresholds and margins, and what they held, case by case.",
    "coverage": "What conformal masks promised, and what was observed over cases.",
    "ranks": "Place of each network and loss in each metric, and how stable it is.",
    "mixed_model": "Linear mixed model of the values of the trained networks: network and loss are "
    "fixed effects, fold and case random ones.",
    "seeds": "How far each network's and loss's means and values vary with the training seed.",
    "power": "The least difference that each comparison could have found.",
    "champions": "The best network and loss by each rule, and its margin over the next.",
}

LOSS_PARTS = (
    "minivess.losses.boundary:signed_distance",
    "minivess.losses.calibration:hard_l1_ace",
    "minivess.losses.cbdice:soft_cbdice",
    "minivess.losses.cldice:soft_cldice",
    "minivess.losses.cldice:soft_skeleton",
    "minivess.losses.skeleton_recall:soft_recall",
    "minivess.data.skeletons:tubed_skeleton",
)


def page(title: str, intro: str, *parts: str) -> str:
    """A page: note, title, introduction, parts, with one blank line between."""
    return "\n\n".join([NOTE, f"# {title}", intro, *parts]) + "\n"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, bars in cells escaped.

    >>> print(table(["a", "b"], [["1", "|x|"]]))
    | a | b |
    | --- | --- |
    | 1 | \\|x\\| |
    """
    names = list(header)
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (names, *rows)]
    lines = [escaped[0], ["---"] * len(names), *escaped[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def type_text(schema: Mapping[str, Any]) -> str:
    """Type and bounds of a key in words, from its JSON schema.

    >>> type_text({"type": "integer", "minimum": 1})
    'whole number, at least 1'
    """
    if "anyOf" in schema:
        return "; or ".join(dict.fromkeys(type_text(option) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return "name or path of a file"
    kind = schema["type"]
    if kind == "array" and "prefixItems" in schema:
        items = [type_text(item) for item in schema["prefixItems"]]
        text = f"{len(items)} of: {items[0]}"
    elif kind == "array":
        text = f"list of: {type_text(schema['items'])}"
    elif "patternProperties" in schema:
        text = "mapping of names to sections"
    elif "additionalProperties" in schema:
        text = f"mapping of names to: {type_text(schema['additionalProperties'])}"
    else:
        words = {"integer": "whole number", "number": "number", "string": "text", "null": "none"}
        text = words.get(kind) or {"boolean": "`true` or `false`"}[kind]
    bounds = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "pattern": "of the form `{}`",
        "minItems": "at least {} of them",
    }
    known = [] if "prefixItems" in schema else list(bounds)
    return ", ".join([text, *(bounds[key].format(schema[key]) for key in known if key in schema)])


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _section_table(section: Any, keys: Iterable[str]) -> str:
    from minivess.reference_models import architectures_of_keys

    properties = section.model_json_schema()["properties"]
    architectures = architectures_of_keys(section)
    rows = []
    for key in keys:
        entry = properties[key]
        default = _code(entry["default"]) if "default" in entry else "required"
        if "$ref" in entry:  # a file stands for the section
            default = _code(entry["default"]["name"])
        meaning = entry["description"] + architectures.get(key, "")
        rows.append([f"`{key}`", type_text(entry), default, meaning])
    return table(["Key", "Type and bounds", "Default", "Meaning"], rows)


def config_page() -> str:
    """Every section and key, and the presets."""
    from minivess.config import schema, stores
    from minivess.config.keys import keys
    from minivess.config.load import preset_values

    grouped: dict[str, tuple[Any, list[str]]] = {}
    for group, key, section in keys():
        grouped.setdefault(group, (section, []))[1].append(key)
    titles = {
        "": "## Top level\n\nThe experiment itself.",
        "analysis": "## `configs/analysis/<name>.yaml`\n\nThe analysis file, which "
        "`statistics.plan` names. It states every key; the defaults here are those of "
        "`default.yaml`. [How to fix the analysis](../how-to/fix-the-analysis.md).",
        "model": "## `models.<name>`\n\nOne network; `models` names as many as are compared.",
        "figures": "## `figures.<name>`\n\nLook of one figure, for each of "
        + ", ".join(f"`{name}`" for name in schema.FiguresConfig.model_fields)
        + ".",
        "external": "## `external.<name>`\n\nAnother data set that the champion is evaluated on; "
        "`external` names as many as there are.",
    }
    parts = []
    for group, (section, names) in grouped.items():
        title = titles.get(group, f"## `{group}`\n\n{inspect.getdoc(section)}")
        parts.append(f"{title}\n\n{_section_table(section, names)}")
    rows = []
    for group, section in stores.SECTIONS.items():
        default = section().model_dump(mode="json")
        for name in stores.preset_names(group):
            chosen = section(**preset_values(group, name)).model_dump(mode="json")
            changes = [
                f"`{key}: {json.dumps(value)}`"
                for key, value in chosen.items()
                if value != default[key]
            ]
            if name != stores.DEFAULT:
                rows.append([f"`{group}: {name}`", ", ".join(changes)])
    presets = (
        "## `presets`\n\nNamed sets of values; single keys of the same section override them. "
        "Every section also has the preset `default`.\n\n" + table(["Preset", "Sets"], rows)
    )
    intro = (
        "An experiment is a YAML file in `configs/experiment/` with these sections. Every key has "
        "a default (`name`: that of the file); an unknown key is an error. On the command line: "
        "`just experiment demo training.epochs=20` or, where only one section has the key, "
        "`epochs=20`."
    )
    return page("Configuration", intro, *parts, presets)


def errors_page() -> str:
    """Every error code with its meaning and exit status."""
    from minivess.errors import CODES, EXIT_STATUS

    rows = [
        [f"`{code}`", text, str(EXIT_STATUS[code.split("-")[1]])] for code, text in CODES.items()
    ]
    intro = (
        "Every error carries a code and says what is wrong, where, what was found and expected, "
        "and what to do. The process ends with the exit status of the code's family; 0 is success "
        "and 143 means that it was told to stop."
    )
    return page("Errors", intro, table(["Code", "Meaning", "Exit status"], rows))


def metrics_page() -> str:
    """Every metric with definition, unit, direction, rule for empty masks and source."""
    from minivess.metrics import METRICS

    header = ["Id", "Name", "Definition", "Unit", "Range", "Better", "Where a mask is empty"]
    header.append("Source")
    rows = [
        [f"`{m.id}`", m.label, m.meaning, m.unit, m.range, m.better, m.empty_rule, m.source]
        for m in METRICS.values()
    ]
    intro = (
        "Every metric is computed for every case, in physical units. A case whose prediction or "
        "reference is empty has a value by the rule below, never none, and its `status` says so. "
        "Distances, lengths and radii use the spacing of the case. The diagonal is that of the "
        "whole volume. The printed summary and the main table of the paper show "
        + ", ".join(m.label for m in METRICS.values() if m.panel == "main")
        + "; all others are in the tables `cases`, `metrics` and `summary` and in a table of the "
        "paper. Arms are compared in the metrics of the plan (`statistics.plan`) only."
    )
    return page("Metrics", intro, table(header, rows))


def tables_page() -> str:
    """Every table with its columns, types and meaning."""
    from minivess.data.manifest import MANIFEST
    from minivess.data.validate import PROBLEM_COLUMNS
    from minivess.statistics.tables import COLUMNS, NULLABLE

    columns: dict[str, list[list[str]]] = {
        "manifest": [[f"`{key}`", str(kind), text] for key, (kind, text) in MANIFEST.items()],
        "validation": [[f"`{key}`", "String", text] for key, text in PROBLEM_COLUMNS.items()],
    }
    for name, of_table in COLUMNS.items():
        columns[name] = [
            [f"`{key}`", kind.__name__, text + ("; may be null" * ((name, key) in NULLABLE))]
            for key, (kind, text) in of_table.items()
        ]
    parts = [
        f"## {name}\n\n{TABLES[name]}\n\n{table(['Column', 'Type', 'Meaning'], rows)}"
        for name, rows in columns.items()
    ]
    intro = (
        "Tables are Parquet files; those without another place are in "
        '`results/<experiment>/tables/`. `just query demo "SELECT * FROM summary"` reads them.'
    )
    return page("Tables", intro, *parts)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n", 1)[0]


def _source(thing: Any) -> str:
    """The `Source:` paragraph of a docstring on one line; empty where there is none."""
    for paragraph in (inspect.getdoc(thing) or "").split("\n\n"):
        if paragraph.startswith("Source:"):
            return " ".join(paragraph.removeprefix("Source:").split())
    return ""


def losses_page() -> str:
    """Every loss with its formula and source, and the parts they are made of."""
    from minivess.losses import LOSSES

    rows = []
    for name, build in LOSSES.items():
        source = _source(build) or _source(inspect.getmodule(build)) or "its parts, below"
        rows.append([f"`{name}`", _first_line(build), source])
    parts = []
    for path in LOSS_PARTS:
        module, _, name = path.partition(":")
        part = getattr(importlib.import_module(module), name)
        source = _source(part) or _source(inspect.getmodule(part))
        parts.append([f"`{name}`", _first_line(part), source])
    intro = (
        "Losses take the network's two channels and the label; they are computed in float32, with "
        "the keys of the section `loss`. Distances of `boundary` follow the spacing of the case, "
        "in units of its smallest entry; all others, also those of `hausdorff_dt`, count voxels. "
        "[A loss of your own](../how-to/add-a-loss.md) is one file; `just bench losses` measures "
        "time and memory of each.\n\n"
        "Not there: Betti matching (Stucki et al. 2023, arXiv:2211.15272): the package "
        "topolosses has it, but nobody has checked its values in 3D against the paper yet."
    )
    header = ["Name", "Formula", "Source"]
    made_of = f"## Parts\n\n{table(header, parts)}"
    return page("Losses", intro, table(header, rows), made_of)


def _parameter_row(parameter: Any) -> list[str]:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [parameter.name.upper() + ("..." if parameter.nargs == -1 else "")]
    default = "required" if parameter.required else "none"
    if not parameter.required and parameter.default is not None:
        default = _code(parameter.default)
    return [", ".join(f"`{name}`" for name in names), default, parameter.help or ""]


def _verb_parts(command: Any, words: tuple[str, ...]) -> list[str]:
    """One part per verb, those of a group after it."""
    text = " ".join((command.help or "").split())
    rows = [_parameter_row(parameter) for parameter in command.params]
    lines = [f"## `{' '.join(words)}`", text]
    lines += [table(["Option", "Default", "Meaning"], rows)] if rows else []
    inner = getattr(command, "commands", {})
    parts = ["\n\n".join(lines)]
    for name, verb in sorted(inner.items()):
        parts += _verb_parts(verb, (*words, name))
    return parts


def cli_page() -> str:
    """Every verb of the command line with its options."""
    from typer.main import get_command

    from minivess.cli import app

    intro = (
        "One verb per step of an experiment, and some for people. `just experiment` runs the steps "
        "in their order; each verb alone repeats its step. `minivess VERB --help` shows the same."
    )
    return page("Command line", intro, *_verb_parts(get_command(app), ("minivess",)))


def glossary_page() -> str:
    """The words of the project."""
    lines = "\n".join(f"- **{word}**: {text}" for word, text in sorted(GLOSSARY.items()))
    return page("Glossary", "The words that code, tables and pages use, each for one thing.", lines)


def settings_page() -> str:
    """Every deployment setting: type, bounds and value in each environment."""
    from dataclasses import fields

    from minivess.config import settings

    texts = {name: settings.project_values(name) for name in settings.ENVIRONMENTS}
    kinds = {"str": "text", "int": "whole number", "float": "number"}
    words = {"gte": "at least", "lte": "at most"}
    rows = []
    for one in fields(settings.Settings):
        if one.name in settings.KEYS:
            bounds = one.metadata["bounds"]
            kind = ", ".join(
                [kinds[str(one.type)], *(f"{words[end]} {bounds[end]}" for end in bounds)]
            )
            values = [f"`{json.dumps(texts[name][one.name])}`" for name in texts]
            rows.append([f"`{one.name}`", one.metadata["meaning"], kind, *values])
    intro = (
        f"`{settings.FOLDER / settings.FILE}` has them for the environments "
        f"{', '.join(settings.ENVIRONMENTS)}; `{settings.ENVIRONMENT_VARIABLE}` chooses one. "
        f"`{settings.PREFIX}_` and the name in capitals is the variable that overrides a setting; "
        "over it, "
        + " and ".join(f"`{tool}` means `{key}`" for key, tool in settings.OF_TOOLS.items())
        + f". Secrets belong into `{settings.SECRETS}` beside it. No setting changes a result."
    )
    header = ["setting", "what it is", "type", *settings.ENVIRONMENTS]
    return page("Deployment settings", intro, table(header, rows))


def models_page() -> str:
    """Every network with its source, keys, numbers and the licence of its weights."""
    from minivess.reference_models import parts_of_models

    return page("Networks", *parts_of_models())


PAGES: dict[str, Callable[[], str]] = {
    "config": config_page,
    "errors": errors_page,
    "metrics": metrics_page,
    "tables": tables_page,
    "losses": losses_page,
    "models": models_page,
    "cli": cli_page,
    "settings": settings_page,
    "glossary": glossary_page,
}


def write_pages(folder: Path) -> list[Path]:
    """Write every reference page as `folder`/<name>.md; return the files.

    Raises:
        MinivessError: MV-SYSTEM-001 not writable, MV-SYSTEM-002 disk full.
    """
    files = [folder / f"{name}.md" for name in PAGES]
    for file, make in zip(files, PAGES.values(), strict=True):
        output.write_text(make(), file)
    return files


if __name__ == "__main__":
    from minivess.environment import prepare_environment

    prepare_environment()
    for written in write_pages(Path("docs/reference")):
        print(written)
