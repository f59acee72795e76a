"""Profiles of networks: what compute `auto` may spend on each, and the terms of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from minivess.config.files import bad_values, read_yaml
from minivess.config.section import Count, Name, Positive, Section
from minivess.errors import MinivessError, nearest

PROFILES = Path("configs/model_profiles")


class ModelProfile(Section):
    """Budgets of a network; a file in `configs/model_profiles/` states every key."""

    architecture: Name = Field(description="name in the model registry")
    budget_mb: Positive = Field(
        description="memory that a training step may take beside that of torch, in MB"
    )
    largest_patch: tuple[Count, Count, Count] = Field(
        description="no patch is longer, along (x, y, z): more context gives little, and costs"
    )
    batch_size: Count = Field(description="patches per step, where the budget has room for them")
    bytes_per_voxel: Positive = Field(
        description="memory of a training step for each voxel of a batch, measured, with the "
        "default keys"
    )
    licence: str = Field(min_length=1, description="licence of the weights it starts from")
    trained_on: tuple[str, ...] = Field(
        description="data sets whose volumes the weights have seen: no test of them is independent"
    )


def read_profile(name: str, folder: Path = PROFILES) -> ModelProfile:
    """The profile `name` of the folder, or that of a YAML file.

    Raises:
        MinivessError: MV-CONFIG-003 there is none, -005 not YAML, -002 a key missing or bad.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no profile {name} of a network",
            where=str(path),
            fix=nearest(name, known) if known else "write one, as docs/how-to/add-a-model.md says",
        )
    values: dict[str, Any] = read_yaml(path)
    try:
        return ModelProfile.model_validate(values)
    except ValidationError as error:
        raise bad_values(error, str(path)) from error
