"""Reading YAML files, and the error for values that the schema refuses."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from minivess.errors import MinivessError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# How Pydantic names the word among the kinds of a value.
AUTO = ("literal['auto']",)


class _Once(yaml.SafeLoader):
    """YAML in which no mapping has a key twice: of two sections the last would win, silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for name, _ in node.value:
            if name.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(name, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise ConstructorError(None, None, f"{key} is there twice", name.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping, safely.

    Raises:
        MinivessError: MV-CONFIG-005 not YAML, not a mapping, or with a key twice.
    """
    try:
        value = _Once(path.read_text(encoding="utf-8")).get_single_data()
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
        f"{'.'.join([*([inside] if inside else []), *_keys(problem)])}: "
        f"{problem['msg']}, found {problem['input']!r}"
        for problem in _one_each(invalid.errors())
    ]
    return MinivessError(
        "MV-CONFIG-002",
        what=f"{len(problems)} config value(s) of the wrong type or outside their range",
        where=where,
        found="; ".join(problems),
        fix="docs/reference/config.md lists every key with its type and bounds",
    )


def _one_each(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """What is wrong with the kind of value that was meant, and no list that is only then empty.

    Of a value that may also be `auto`, Pydantic tells what is wrong with each kind. A list whose
    entries it refuses counts as one without them.
    """
    words = {p["loc"][:-1]: isinstance(p["input"], str) for p in problems if p["loc"][-1:] == AUTO}

    def is_meant(problem: ErrorDetails) -> bool:
        for place, is_word in words.items():
            if problem["loc"][: len(place)] == place:
                return is_word == (problem["loc"][-1:] == AUTO)
        return True

    def is_emptied(problem: ErrorDetails) -> bool:
        place = problem["loc"]
        inside = (p for p in problems if len(p["loc"]) > len(place))
        return problem["type"] == "too_short" and any(
            p["loc"][: len(place)] == place for p in inside
        )

    return [problem for problem in problems if is_meant(problem) and not is_emptied(problem)]


def _keys(problem: ErrorDetails) -> list[str]:
    """Where a problem is, without the kinds of value that Pydantic has tried."""
    return [str(part) for part in problem["loc"] if not re.search(r"\[|^constrained-", str(part))]
