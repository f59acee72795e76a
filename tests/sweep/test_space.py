"""The file of a sweep: what it may say, and what each mistake is called."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from sweep_project import RATES, Make
from workbench import PROJECT

from minivess.config.load import resolve
from minivess.config.sweep import Choices, Range, SweepConfig, read_sweep
from minivess.errors import MinivessError
from minivess.sweep.run import _loaded, describe
from minivess.sweep.space import Sweep, load_sweep
from minivess.sweep.trial import trial_name, write_experiment


def test_the_sweep_of_the_project_is_valid() -> None:
    found = load_sweep("demo", {}, PROJECT)
    assert (found.name, found.metric, found.search.direction) == ("demo", "dice", "maximize")
    assert found.search.first is not None, "trial 0 is the demo as it is"
    assert found.search.first["training.learning_rate"] == found.experiment.training.learning_rate


def test_every_key_is_on_the_page() -> None:
    text = (PROJECT / "docs/how-to/sweep.md").read_text(encoding="utf-8")
    for kind in (SweepConfig, Range, Choices):
        for key in kind.model_fields:
            assert f"`{key}`" in text, key


def test_the_page_shows_the_file() -> None:
    page = (PROJECT / "docs/how-to/sweep.md").read_text(encoding="utf-8")
    _, text = (PROJECT / "configs/sweep/demo.yaml").read_text(encoding="utf-8").split("\n", 1)
    assert indent(text, "    ") in page


def test_a_trial_is_the_experiment_with_overrides_and_values(make: Make) -> None:
    sweep = make(overrides={"epochs": 3, "loss": {"smooth": 0.5}})
    path = write_experiment(sweep, trial_name(sweep, 7), {"training.learning_rate": 0.002})
    trial = resolve(str(path))
    assert trial.name == "rates-trial-007"
    assert (trial.training.epochs, trial.training.learning_rate) == (3, 0.002)
    assert (trial.loss.smooth, trial.loss.skeleton_iterations) == (0.5, 2)
    changed = {"training": {"learning_rate": 0.002, "epochs": 3}, "loss": {"smooth": 0.5}}
    assert trial == resolve("tiny.yaml", changed).model_copy(update={"name": trial.name})


def test_bare_keys_and_choices_find_their_place(make: Make) -> None:
    space = {
        "learning_rate": {"low": "1e-4", "high": "1e-2"},
        "losses": {"choices": [["dice_ce"], ["cbdice"]]},
        "models.tiny.filters": {"choices": [[4, 8, 8], [8, 8, 8]]},
        "patch_size": {"choices": [[16, 16, 8], [8, 8, 8]]},
    }
    search = make(space).search
    assert list(search.space) == [
        "training.learning_rate",
        "losses",
        "models.tiny.filters",
        "patches.patch_size",
    ]
    assert search.first == {
        "training.learning_rate": 0.003,
        "losses": ["dice_ce"],
        "models.tiny.filters": [4, 8, 8],
        "patches.patch_size": [16, 16, 8],
    }


def test_without_the_experiments_own_values_no_trial_has_them(make: Make) -> None:
    assert make({"learning_rate": {"low": 0.01, "high": 0.1}}).search.first is None
    assert make({"epochs": {"low": 3, "high": 9, "integer": True}}).search.first is None
    assert make({"epochs": {"low": 1, "high": 9, "integer": True}}).search.first == {
        "training.epochs": 2
    }


def test_the_metric_decides_the_direction(make: Make) -> None:
    selection = {"training.selection_metrics": ["masd_um", "cldice"]}
    assert make(overrides=selection).metric == "masd_um"
    assert make(overrides=selection).search.direction == "minimize"
    assert make(overrides=selection, metric="cldice").search.direction == "maximize"


ONE = {"low": 1, "high": 2, "integer": True}
MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"space": {"learning_rat": ONE}}, "MV-CONFIG-001", "learning_rate"),
    ({"space": {"training.learning_rat": ONE}}, "MV-CONFIG-001", "did you mean learning_rate"),
    ({"space": {"models.tiny.dropuot": ONE}}, "MV-CONFIG-001", "dropout"),
    ({"space": {"models.tyni.dropout": ONE}}, "MV-CONFIG-001", "did you mean tiny"),
    ({"trails": 3}, "MV-CONFIG-001", "did you mean trials"),
    ({"space": {"epochs": {**ONE, "logg": True}}}, "MV-CONFIG-001", "did you mean log"),
    ({"space": {"epochs": 3}}, "MV-CONFIG-002", "space.epochs"),
    ({"trials": "many"}, "MV-CONFIG-002", "docs/how-to/sweep.md"),
    ({"space": {"epochs": {"low": "x", "high": 1}}}, "MV-CONFIG-002", "docs/how-to/sweep.md"),
    ({"space": {}}, "MV-CONFIG-002", "space"),
    ({"space": {"epochs": {"low": 2, "high": 1}}}, "MV-CONFIG-002", "low must be below"),
    (
        {"space": {"weight_decay": {"low": 0, "high": 1, "log": True}}},
        "MV-CONFIG-002",
        "above zero",
    ),
    ({"space": {"epochs": {"low": 1, "high": 2.5, "integer": True}}}, "MV-CONFIG-002", "whole"),
    ({"space": {"noise_std": {"low": 0, "high": 0.35, "step": 0.1}}}, "MV-CONFIG-002", "steps"),
    ({"space": {"epochs": {"choices": [1]}}}, "MV-CONFIG-002", "choices"),
    ({"space": {"epochs": {"low": 0, "high": 5, "integer": True}}}, "MV-CONFIG-002", "epochs"),
    ({"space": {"epochs": {"low": 1, "high": 5}}}, "MV-CONFIG-002", "add integer: true to space"),
    (
        {"space": {"batch_size": {"low": 1, "high": 2, "step": 0.5}}},
        "MV-CONFIG-002",
        "add integer: true to space.patches.batch_size",
    ),
    ({"space": {"momentum": {"low": 0.5, "high": 1.0}}}, "MV-CONFIG-002", "momentum"),
    ({"space": {"optimizer": {"choices": ["adamw", "adam"]}}}, "MV-CONFIG-002", "optimizer"),
    ({"experiment": "tyni"}, "MV-CONFIG-003", "tyni"),
    ({"metric": "cldice"}, "MV-CONFIG-003", "training.selection_metrics"),
    ({"metric": "dise"}, "MV-CONFIG-003", "did you mean dice"),
    ({"space": {"folds_seed": ONE}}, "MV-CONFIG-004", "folds.folds_seed may not vary"),
    ({"space": {"seeds": {"choices": [[0], [1]]}}}, "MV-CONFIG-004", "seeds may not vary"),
    ({"space": {"selection_every": ONE}}, "MV-CONFIG-004", "may not vary"),
    ({"space": {"overlap": {"low": 0, "high": 0.5}}}, "MV-CONFIG-004", "inference.overlap"),
    ({"space": {"epochs": ONE, "training.epochs": ONE}}, "MV-CONFIG-004", "twice"),
    ({"overrides": {"losses": ["dice_ce", "cbdice"]}}, "MV-CONFIG-004", "2 networks and losses"),
    (
        {"space": {"losses": {"choices": [["dice_ce"], ["dice_ce", "cbdice"]]}}},
        "MV-CONFIG-004",
        "2 networks and losses",
    ),
]


@pytest.mark.parametrize(("keys", "code", "said"), MISTAKES)
def test_mistakes(make: Make, keys: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(MinivessError) as caught:
        make(**{"space": RATES, **keys})
    assert caught.value.code == code
    assert said in str(caught.value)


def test_no_such_sweep() -> None:
    with pytest.raises(MinivessError, match="did you mean demo") as caught:
        read_sweep(PROJECT / "configs/sweep/dmo.yaml")
    assert caught.value.code == "MV-CONFIG-003"


def test_a_dry_run_shows_the_first_proposals_and_writes_nothing(make: Make) -> None:
    sweep: Sweep = make()
    before = sorted(Path().rglob("*"))
    text = describe("rates.yaml", ["epochs=5"], 3)
    assert text == describe("rates.yaml", [], 3)
    assert "0.0001 to 0.01, logarithmic" in text
    assert "  0: training.learning_rate=0.003\n" in text
    assert text.count("training.learning_rate=") == 3
    assert sweep.search.direction == "maximize"
    assert sorted(Path().rglob("*")) == before


def test_arguments_are_stronger_than_the_file(make: Make) -> None:
    make(overrides={"epochs": 3})
    Path("rates.yaml").write_text(
        Path("rates.yaml").read_text(encoding="utf-8").replace("epochs: 3", "losses: [a, b]"),
        encoding="utf-8",
    )
    sweep = _loaded("rates.yaml", ["losses=[dice_ce]", "training.epochs=5"])
    assert sweep.experiment.losses == ("dice_ce",)
    assert sweep.experiment.training.epochs == 5
    with pytest.raises(MinivessError, match="results") as caught:
        _loaded("rates.yaml", ["losses=[dice_ce]", "results"])
    assert caught.value.code == "MV-CONFIG-004"


def test_a_loss_that_does_not_exist_is_noticed_before_anything_runs(make: Make) -> None:
    with pytest.raises(MinivessError, match="dice_cee") as caught:
        make({"losses": {"choices": [["dice_ce"], ["dice_cee"]]}})
    assert caught.value.code == "MV-CONFIG-003"


def test_an_experiment_that_is_edited_meanwhile_does_not_change_the_trials(make: Make) -> None:
    sweep = make()
    before = sweep.values("x", {})
    Path("tiny.yaml").write_text("losses: [cbdice]\n", encoding="utf-8")
    assert sweep.values("x", {}) == before


def test_without_selection_cases_nothing_judges_a_trial(make: Make) -> None:
    with pytest.raises(MinivessError, match="trials are judged by selection cases") as caught:
        make(overrides={"folds.selection_fraction": 0})
    assert caught.value.code == "MV-CONFIG-004"
    assert "set folds.selection_fraction in overrides" in caught.value.fix
