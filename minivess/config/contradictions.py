"""Values that are each allowed and that together say something else than what would be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minivess.config.models import ARCHITECTURE_KEYS, ModelConfig
from minivess.config.schema import DataConfig
from minivess.errors import MinivessError

DEFAULT = ModelConfig.model_fields["architecture"].default
# What is said of files. The phantom is made, and would leave all of it unread.
_OF_FILES = ("path", "spacing_um", "spacing_unit", "vessel_labels")


def check_contradictions(values: Mapping[str, Any], where: str) -> None:
    """Raise for keys of files with the phantom, and for a network under another one's name.

    Args:
        values: an experiment's merged values, before they are checked one by one.
        where: the file, for errors.

    Raises:
        MinivessError: MV-CONFIG-004.
    """
    _check_source(values["data"], "data", where)
    for name, keys in (values.get("external") or {}).items():
        _check_source(keys or {}, f"external.{name}", where)
    for name, keys in values["models"].items():
        _check_name(name, keys["architecture"], where)


def _check_source(keys: Mapping[str, Any], place: str, where: str) -> None:
    defaults = {name: field.default for name, field in DataConfig.model_fields.items()}
    own = {key: keys[key] for key in _OF_FILES if key in keys and keys[key] != defaults[key]}
    if keys.get("source", defaults["source"]) != "phantom" or not own:
        return
    back = ", ".join(f"{place}.{key}: {defaults[key] or 'null'}" for key in own)
    raise MinivessError(
        "MV-CONFIG-004",
        what="the phantom is made, not read: it has no " + ", ".join(own),
        where=f"{where}, {place}",
        found="source: phantom (the default) with "
        + ", ".join(f"{key}: {value}" for key, value in own.items()),
        expected="a source whose files are read, or the phantom alone",
        fix=f"set {place}.source: csv, minivess or nnunet to read your own files; for the phantom "
        f"set {back}",
    )


def _check_name(name: Any, architecture: Any, where: str) -> None:
    if name in ARCHITECTURE_KEYS and name != architecture:
        raise MinivessError(
            "MV-CONFIG-004",
            what=f"the network {name} would be a {architecture}",
            where=f"{where}, models.{name}",
            found=f"architecture: {architecture}"
            + (", which is the default" if architecture == DEFAULT else ""),
            expected="tables that call no network by the name of another architecture",
            fix=f"write architecture: {name} in models.{name}, or give the network another name",
        )
