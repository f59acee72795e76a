"""Reading YAML files, and the error for values that the schema refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from minivess.errors import MinivessError


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping, safely.

    Raises:
        MinivessError: MV-CONFIG-005 not YAML or not a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MinivessError(
            "MV-CONFIG-005",
            what="the config file is not valid YAML",
            where=str(path),
            found=str(error).replace("\n", " "),
            fix="correct that line",
        ) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MinivessError(
            "MV-CONFIG-005",
            what="the config file is not a mapping",
            where=str(path),
            found=type(value).__name__,
            expected="lines of the form key: value",
        )
    return value


def bad_values(invalid: ValidationError, where: str, inside: str = "") -> MinivessError:
    """The error that names every bad value with its dotted key."""
    problems = [
        f"{'.'.join([*([inside] if inside else []), *map(str, problem['loc'])])}: "
        f"{problem['msg']}, found {problem['input']!r}"
        for problem in invalid.errors()
    ]
    return MinivessError(
        "MV-CONFIG-002",
        what=f"{len(problems)} config value(s) of the wrong type or outside their range",
        where=where,
        found="; ".join(problems),
        fix="docs/reference/config.md lists every key with its type and bounds",
    )
