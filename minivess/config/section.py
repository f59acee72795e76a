"""What all sections of the configuration share, and the types of their keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


def distinct[T](values: tuple[T, ...]) -> tuple[T, ...]:
    """The values, where none is there twice.

    Raises:
        ValueError: one is.
    """
    if len(set(values)) < len(values):
        raise ValueError("the same value twice")
    return values


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Millimetres = Annotated[float, Field(ge=40, le=400)]
HexColor = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A section of the configuration: frozen, finite numbers, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
