"""The file of a sweep: which config keys vary, in which ranges, and what decides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from minivess.config.files import bad_values, read_yaml
from minivess.config.keys import unknown_key
from minivess.config.section import Count, Name, Section
from minivess.errors import MinivessError, nearest

SWEEPS = Path("configs/sweep")
EVERY_FORM = "docs/how-to/sweep.md shows every form"


class Range(Section):
    """Numbers between two ends, both of which are possible."""

    low: float = Field(description="lower end")
    high: float = Field(description="upper end")
    log: bool = Field(False, description="as many proposals from 1 to 10 as from 10 to 100")
    integer: bool = Field(False, description="whole numbers alone")
    step: float | None = Field(None, gt=0, description="distance of neighbours from low on")

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above zero")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step")
        ends = (self.low, self.high, self.step or 1.0)
        if self.integer and not all(end.is_integer() for end in ends):
            raise ValueError("low, high and step of whole numbers are whole numbers")
        steps = (self.high - self.low) / (self.step or 1.0)
        if self.step is not None and not math.isclose(steps, round(steps), abs_tol=1e-9):
            raise ValueError("high is a whole number of steps above low")
        return self

    def ends(self) -> tuple[float | int, ...]:
        """Both ends, as the config takes them."""
        return tuple(int(end) if self.integer else end for end in (self.low, self.high))

    def between(self) -> float | None:
        """A value between the ends, not a whole one where steps allow it; none of whole numbers.

        >>> Range(low=1, high=4).between(), Range(low=1, high=4, step=0.5).between()
        (2.854, 1.5)
        """
        if self.integer:
            return None
        return self.low + (self.step or 0.618 * (self.high - self.low))


class Choices(Section):
    """Values without an order."""

    choices: tuple[Any, ...] = Field(min_length=2, description="the values")

    def ends(self) -> tuple[Any, ...]:
        """All values: each is checked as the ends of a range are."""
        return self.choices

    def between(self) -> None:
        """There is nothing between choices."""


type Varied = Range | Choices


class SweepConfig(Section):
    """A sweep over the training of an experiment."""

    experiment: str = Field(
        min_length=1, description="name of a file in `configs/experiment/`, or its path"
    )
    metric: Name | None = Field(
        None,
        description="metric of the selection cases that decides; none: the one whose best weights "
        "predict. Its better direction is the metric's own",
    )
    trials: Count = Field(20, description="trainings of the whole experiment, at most")
    seed: int = Field(0, ge=0, description="seed of the proposals")
    overrides: dict[str, Any] = Field(
        default={}, description="keys that are other than in the experiment, in every trial"
    )
    space: dict[str, Varied] = Field(
        min_length=1, description="keys that vary, each with a range or choices"
    )


def read_sweep(path: Path) -> SweepConfig:
    """Read the file of a sweep.

    Raises:
        MinivessError: MV-CONFIG-001 unknown key, -002 bad value, -003 no such file, -005 not YAML.
    """
    if not path.is_file():
        known = [file.stem for file in path.parent.glob("*.yaml")]
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no sweep {path.stem}",
            where=str(path),
            fix=nearest(path.stem, known) if known else "docs/how-to/sweep.md shows one",
        )
    values = read_yaml(path)
    _check(values, SweepConfig, str(path))
    space = values.get("space") or {}
    if not isinstance(space, Mapping):
        raise _no_entry("space", space, str(path))
    try:
        parsed = {key: _varied(str(key), entry, str(path)) for key, entry in space.items()}
        return SweepConfig.model_validate({**values, "space": parsed})
    except ValidationError as error:
        raise _bad(error, str(path)) from error


def _varied(key: str, entry: Any, where: str) -> Varied:
    if not isinstance(entry, Mapping):
        raise _no_entry(f"space.{key}", entry, where)
    kind: type[Range] | type[Choices] = Choices if "choices" in entry else Range
    _check(entry, kind, f"{where}, space.{key}")
    try:
        return kind.model_validate(dict(entry))
    except ValidationError as error:
        raise _bad(error, where, f"space.{key}") from error


def _bad(invalid: ValidationError, where: str, inside: str = "") -> MinivessError:
    error = bad_values(invalid, where, inside)
    error.fix = EVERY_FORM
    return error


def _check(values: Mapping[Any, Any], kind: type[Section], where: str) -> None:
    for key in values:
        if key not in kind.model_fields:
            error = unknown_key(str(key), kind.model_fields, where)
            error.fix = nearest(str(key), kind.model_fields)
            raise error


def _no_entry(key: str, found: Any, where: str) -> MinivessError:
    return MinivessError(
        "MV-CONFIG-002",
        what="a value where a range or choices should be",
        where=f"{where}, {key}",
        found=repr(found),
        expected="{low: 0.001, high: 0.1, log: true} or {choices: [adamw, sgd]}",
        fix=EVERY_FORM,
    )
