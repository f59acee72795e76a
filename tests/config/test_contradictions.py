"""Values that together say something else than what would be done."""

from __future__ import annotations

from typing import Any

import pytest

from minivess.config.load import resolve, resolve_mapping
from minivess.config.models import ARCHITECTURE_KEYS
from minivess.errors import MinivessError


def refused(values: dict[str, Any], **overrides: Any) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        resolve_mapping({"name": "x", **values}, overrides, "here")
    assert caught.value.code == "MV-CONFIG-004"
    return caught.value


@pytest.mark.parametrize(
    ("key", "value", "back"),
    [
        ("path", "cases.csv", "null"),
        ("spacing_um", [1, 1, 5], "null"),
        ("spacing_unit", "mm", "header"),
        ("vessel_labels", [255], "null"),
    ],
)
@pytest.mark.parametrize("source", [{}, {"source": "phantom"}])
def test_what_is_said_of_files_is_not_taken_for_the_phantom(
    key: str, value: Any, back: str, source: dict[str, str]
) -> None:
    for place in ("data", "external.octa"):
        given = {**source, key: value}
        values = {"external": {"octa": given}} if place != "data" else {"data": given}
        error = refused(values)
        assert error.where == f"here, {place}"
        assert f"{place}.source: csv, minivess or nnunet" in error.fix
        assert error.fix.endswith(f"{place}.{key}: {back}")
    assert refused({}, **{f"data.{key}": value}).where == "here, data"


def test_an_experiment_of_files_becomes_one_of_the_phantom_when_they_are_taken_out() -> None:
    with pytest.raises(MinivessError, match=r"data\.path: null") as caught:
        resolve("minivess", {"data.source": "phantom"})
    assert caught.value.code == "MV-CONFIG-004"
    back = {"data.source": "phantom", "data.path": "null"}
    assert resolve("minivess", back).data.path is None
    # What is said of cases holds for the phantom's.
    data = {"exclude": ["phantom_001"], "origin": "ours"}
    assert resolve_mapping({"name": "x", "data": data}, {}, "here").data.origin == "ours"


@pytest.mark.parametrize("name", sorted(ARCHITECTURE_KEYS))
def test_no_network_bears_the_name_of_another_architecture(name: str) -> None:
    other = "segresnet" if name == "dynunet" else "dynunet"
    assert name in refused({"models": {name: {"architecture": other}}}).fix
    if name != "dynunet":
        # Also where its keys are those of a DynUNet: a default is not what was meant.
        error = refused({"models": {name: None}})
        assert error.fix.startswith(f"write architecture: {name} in models.{name}")
        assert "default" in error.found
    made = resolve_mapping({"name": "x", "models": {name: {"architecture": name}}}, {}, "here")
    assert made.models[name].architecture == name
