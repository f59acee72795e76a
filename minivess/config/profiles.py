"""Profiles of networks: what compute `auto` may spend on each, and the terms of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from minivess import provenance
from minivess.config.files import bad_values, read_yaml
from minivess.config.section import Count, Name, Positive, Section
from minivess.errors import MinivessError, nearest

PROFILES = Path("configs/model_profiles")


class Budget(Section):
    """What compute `auto` may spend on a network: the part of a profile that a training reads."""

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


class ModelProfile(Budget):
    """A whole profile; a file in `configs/model_profiles/` states every key."""

    licence: str = Field(min_length=1, description="licence of the weights it starts from")
    trained_on: tuple[str, ...] = Field(
        description="data sets whose volumes the weights have seen: no test of them is independent"
    )


def read_profile(name: str, folder: Path = PROFILES) -> ModelProfile:
    """The profile `name` of the folder or of the project, or that of a YAML file.

    Raises:
        MinivessError: MV-CONFIG-003 there is none, -005 not YAML, -002 a key missing or bad.
    """
    folders = (folder, provenance.PACKAGE.parent / PROFILES)
    candidates = [place / f"{name}.yaml" for place in folders]
    if name.endswith((".yaml", ".yml")):
        candidates = [Path(name)]
    path = next((file for file in candidates if file.is_file()), candidates[0])
    if not path.is_file():
        known = sorted({file.stem for place in folders for file in place.glob("*.yaml")})
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no profile {name} of a network",
            where=str(path),
            fix=f"{nearest(name, known)}; docs/how-to/add-a-model.md says how to write one",
        )
    return _checked(read_yaml(path), str(path))


def _checked(values: Mapping[str, Any], where: str) -> ModelProfile:
    try:
        return ModelProfile.model_validate(values)
    except ValidationError as error:
        raise bad_values(error, where) from error


TERMS = frozenset(ModelProfile.model_fields) - frozenset(Budget.model_fields)


def is_automatic(patches: Mapping[str, Any]) -> bool:
    """Whether anything of the patches follows from a profile.

    >>> is_automatic({"patch_size": [16, 16, 8], "batch_size": "auto"})
    True
    """
    return "auto" in (patches["patch_size"], patches["batch_size"])


def budget_alone(network: Mapping[str, Any], automatic: bool) -> dict[str, Any]:
    """A network's values as its training reads them: new terms of its weights train nothing anew.

    Args:
        network: its values, with the profile that was read for it.
        automatic: whether the patches follow from the profile.

    >>> budget_alone({"profile": {"budget_mb": 100, "licence": "MIT"}}, True)
    {'profile': {'budget_mb': 100}}
    """
    own = {key: value for key, value in network.items() if key != "profile"}
    profile = network.get("profile")
    if automatic and profile is not None:
        own["profile"] = {key: value for key, value in profile.items() if key not in TERMS}
    return own


def resolve_profiles(values: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """An experiment's values with each network's profile read, where something is said by it.

    That is where patches are `auto`, and where the network starts from weights, whose terms it has.

    Raises:
        MinivessError: as `read_profile`; MV-CONFIG-004 a profile that nothing would use, or of
            another architecture.
    """
    automatic = is_automatic(values["patches"])
    models = {}
    for name, keys in values["models"].items():
        named = keys.get("profile")
        used = automatic or keys.get("weights") is not None
        if named is not None and not used:
            raise MinivessError(
                "MV-CONFIG-004",
                what="a profile of a network that nothing is decided from or said by",
                where=f"{where}, models.{name}.profile",
                found="neither patches.patch_size nor patches.batch_size is auto, and it starts "
                "from no weights",
                fix="set one of them to auto, or take the profile out",
            )
        models[name] = dict(keys)
        if isinstance(named, Mapping):
            profile = _checked(named, f"{where}, models.{name}.profile")
        elif used:
            profile = read_profile(named or keys["architecture"], folder)
        else:
            continue
        _check_architecture(profile, keys["architecture"], f"{where}, models.{name}.profile")
        models[name]["profile"] = profile.model_dump(mode="json")
    return {**values, "models": models}


def _check_architecture(profile: ModelProfile, architecture: str, where: str) -> None:
    if profile.architecture != architecture:
        raise MinivessError(
            "MV-CONFIG-004",
            what="a profile of another architecture than the network's",
            where=where,
            found=f"architecture {profile.architecture}",
            expected=f"architecture {architecture}",
            fix="name a profile of that architecture, or none where it has one of its own in "
            "configs/model_profiles; docs/how-to/add-a-model.md says how to write one",
        )
