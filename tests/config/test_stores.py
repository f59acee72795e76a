"""Presets: hydra-zen stores that agree with the schema."""

from __future__ import annotations

import pytest
from hydra_zen import instantiate

from minivess.config import stores
from minivess.config.load import preset_values
from minivess.config.schema import Experiment

PRESETS = [(group, name) for group in stores.SECTIONS for name in stores.preset_names(group)]


@pytest.mark.parametrize(("group", "name"), PRESETS)
def test_every_preset_is_a_valid_section_with_all_keys(group: str, name: str) -> None:
    section = stores.SECTIONS[group]
    values = preset_values(group, name)
    assert set(values) == set(section().model_dump())
    assert section.model_validate(values) == instantiate(
        stores.store.get_entry(group, name)["node"]
    )


@pytest.mark.parametrize("group", stores.SECTIONS)
def test_the_default_preset_is_the_schemas_default(group: str) -> None:
    section = stores.SECTIONS[group]
    assert section.model_validate(preset_values(group, stores.DEFAULT)) == section()


@pytest.mark.parametrize(("group", "name"), [p for p in PRESETS if p[1] != stores.DEFAULT])
def test_every_other_preset_differs_from_the_default(group: str, name: str) -> None:
    assert preset_values(group, name) != preset_values(group, stores.DEFAULT)


def test_every_section_of_an_experiment_has_a_store() -> None:
    plain = {"name", "losses", "seeds", "models", "figures", "external"}
    assert set(Experiment.model_fields) - plain == set(stores.SECTIONS) - {"model"}


def test_a_preset_cannot_be_defined_twice() -> None:
    with pytest.raises(ValueError, match="cpu"):
        stores.store(stores.SECTIONS["training"], group="training", name="cpu")
    assert stores.preset_names("training") == ["cpu", "default", "sgd"]
