"""Types, bounds and defaults of the configuration."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from minivess.config.keys import keys
from minivess.config.schema import (
    ComputeConfig,
    DataConfig,
    Experiment,
    FigureConfig,
    FoldsConfig,
    ModelConfig,
    PatchConfig,
    PreprocessConfig,
    TrainingConfig,
)
from minivess.config.section import Section


@pytest.mark.parametrize(("group", "key", "section"), keys())
def test_every_key_says_what_it_means_and_has_a_default(
    group: str, key: str, section: type[Section]
) -> None:
    field = section.model_fields[key]
    assert field.description
    assert field.is_required() == ((group, key) == ("", "name"))
    assert section.model_config["frozen"] is True
    assert section.model_config["extra"] == "forbid"


@pytest.mark.parametrize("section", sorted({section.__name__ for _, _, section in keys()}))
def test_defaults_obey_their_own_bounds(section: str) -> None:
    kinds = {kind.__name__: kind for _, _, kind in keys()}
    made = kinds[section](**({"name": "x"} if section == "Experiment" else {}))
    assert kinds[section].model_validate(made.model_dump()) == made


@pytest.mark.parametrize(
    ("section", "key", "accepted", "refused"),
    [
        (TrainingConfig, "epochs", [1, "3", 100.0], [0, -1, 1.5, "many", None]),
        (TrainingConfig, "learning_rate", [1e-9, "1e-3"], [0, -1, math.nan, math.inf, "fast"]),
        (TrainingConfig, "warmup_fraction", [0, 0.99], [1, -0.1, math.nan]),
        (TrainingConfig, "weight_decay", [0, 1], [-1e-9, math.inf]),
        (PatchConfig, "patch_size", [[8, 8, 4], (1, 1, 1)], [[8, 8], [8, 8, 0], 8, [8, 8, 4, 2]]),
        (PatchConfig, "foreground_fraction", [0, 1, 0.5], [-0.1, 1.1]),
        (DataConfig, "source", ["csv", "nnunet"], ["CSV", "", None]),
        (DataConfig, "spacing_um", [None, [1, 1, 5.0]], [[1, 1], [1, 1, 0], [1, 1, -5], 1]),
        (FoldsConfig, "n_folds", [2, 10], [1, 0]),
        (FoldsConfig, "selection_fraction", [0, 0.01, 0.99], [-0.01, 1]),
        (ModelConfig, "filters", [[1, 2, 3]], [[1, 2], [], [1, 2, 0]]),
        (ModelConfig, "deep_supervision", [True, "true", "false"], ["perhaps", 2]),
        (FigureConfig, "colors", [["#00ff00"]], [[], ["red"], ["#00ff0"], ["#00ff00\n"]]),
        (FigureConfig, "width_mm", [40, 400], [39.9, 401]),
        (ComputeConfig, "profile", ["strict", "fast"], ["slow"]),
        (ComputeConfig, "workers", [0, 8], [-1]),
        (PreprocessConfig, "clip_percentiles", [[0, 100]], [[1, 1], [5, 1], [-1, 5], [0, 101]]),
    ],
)
def test_bounds(section: type[Section], key: str, accepted: list[Any], refused: list[Any]) -> None:
    for value in accepted:
        assert getattr(section.model_validate({key: value}), key) is not ...
    for value in refused:
        with pytest.raises(ValidationError):
            section.model_validate({key: value})


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "a\n", "µ", "../x"])
def test_names_are_safe_as_folders(name: str) -> None:
    with pytest.raises(ValidationError):
        Experiment(name=name)
    with pytest.raises(ValidationError):
        Experiment(name="x", losses=(name,))
    with pytest.raises(ValidationError):
        Experiment(name="x", models={name: ModelConfig()})


@pytest.mark.parametrize("name", ["demo", "2026-01_a.b", "A"])
def test_usual_names_are_accepted(name: str) -> None:
    assert Experiment(name=name).name == name


@pytest.mark.parametrize("values", [{"losses": ["a", "a"]}, {"seeds": [1, 2, 1]}])
def test_the_same_run_twice_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="twice"):
        Experiment.model_validate({"name": "x", **values})


def test_a_section_is_frozen_and_refuses_unknown_keys() -> None:
    config = TrainingConfig()
    with pytest.raises(ValidationError):
        config.epochs = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate({"epoch": 3})
