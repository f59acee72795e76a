"""Which configuration keys there are, and what an unknown one could have been."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minivess.config import stores
from minivess.config.analysis import PLANNED
from minivess.config.models import ModelConfig
from minivess.config.plan import AnalysisPlan
from minivess.config.schema import DataConfig, Experiment, FigureConfig, FiguresConfig
from minivess.config.section import Section
from minivess.errors import MinivessError, nearest

PRESETS = "presets"
# Sections that an experiment has as many of as it names.
NAMED: dict[str, type[Section]] = {"models": ModelConfig, "external": DataConfig}


def check_keys(values: Mapping[str, Any], where: str) -> None:
    """Raise for the first key that no section has, naming the nearest real one.

    Raises:
        MinivessError: MV-CONFIG-001 unknown key, -002 a value where more keys should be.
    """
    for key, value in values.items():
        if key == PRESETS:
            _check_known(_keys_in(value, f"{where}, {key}"), stores.SECTIONS, f"{where}, {key}")
        elif key in NAMED:
            for name, entry in _keys_in(value, f"{where}, {key}").items():
                inside = f"{where}, {key}.{name}"
                _check_known(_keys_in(entry, inside), NAMED[key].model_fields, inside)
        elif key == "figures":
            looks = _keys_in(value, f"{where}, {key}")
            _check_known(looks, FiguresConfig.model_fields, f"{where}, {key}")
            for name, entry in looks.items():
                inside = f"{where}, {key}.{name}"
                look: Any = FiguresConfig.model_fields[name].annotation
                _check_known(_keys_in(entry, inside), look.model_fields, inside)
        else:
            _check_known([key], [*Experiment.model_fields, PRESETS], where)
            section, inside = stores.SECTIONS.get(key), f"{where}, {key}"
            if section is not None:
                _check_known(_keys_of(value, inside), section.model_fields, inside)


def _keys_in(value: Any, where: str) -> Mapping[str, Any]:
    return {} if value is None else _keys_of(value, where)


def _keys_of(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise MinivessError(
        "MV-CONFIG-002",
        what="a value where more keys should be",
        where=where,
        found=repr(value),
        expected="lines of the form key: value",
        fix="take it out if nothing in it is to be set"
        if value is None
        else "docs/reference/config.md lists every key with its type and bounds",
    )


def _check_known(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in keys:
        if key not in names:
            raise unknown_key(str(key), names, where)


def unknown_key(key: str, known: Iterable[str], where: str) -> MinivessError:
    """The error for an unknown key: where a key of that name belongs, else the nearest one."""
    places = [f"{section}.{key}" for section in sections_of(key)]
    places += [f"models.NAME.{key}"] if key in ModelConfig.model_fields else []
    looks: dict[str, Any] = {n: field.annotation for n, field in FiguresConfig.model_fields.items()}
    places += [f"{key} into an analysis file and name it: statistics.plan"] * (key in PLANNED)
    places += [f"figures.{name}.{key}" for name in looks if key in looks[name].model_fields]
    return MinivessError(
        "MV-CONFIG-001",
        what=f"unknown config key {key}",
        where=where,
        found=key,
        fix="write " + " or ".join(places) if places else nearest(key, known),
    )


def sections_of(key: str) -> list[str]:
    """Names of the sections that have a key.

    >>> sections_of("epochs")
    ['training']
    """
    return [
        group
        for group, section in stores.SECTIONS.items()
        if group != "model" and key in section.model_fields
    ]


def keys() -> list[tuple[str, str, type[Section]]]:
    """Every configuration key as (section, key, section's class); the reference page lists them.

    >>> ("training", "epochs") in [(section, key) for section, key, _ in keys()]
    True
    """
    sections: list[tuple[str, type[Section]]] = [
        ("", Experiment),
        *stores.SECTIONS.items(),
        ("analysis", AnalysisPlan),
        ("figures", FigureConfig),
        ("external", DataConfig),
    ]
    return [
        (group, key, section)
        for group, section in sections
        for key in section.model_fields
        if (group or key not in {*stores.SECTIONS, *NAMED, "figures"})
        and (group != "analysis" or key in PLANNED)
    ]
