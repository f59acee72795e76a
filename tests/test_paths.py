"""File names under results/: all below the root, all different, fit for Snakemake's wildcards."""

from __future__ import annotations

import inspect
from pathlib import Path

from minivess import paths
from minivess.types import RunKey

ROOT = Path("results/demo")
RUN = RunKey("dynunet", "dice_ce", 0, 1)
GIVEN = {
    "root": ROOT,
    "run": paths.run_folder(ROOT, RUN),
    "case": "mv01",
    "step": "train-dynunet",
    "name": "summary",
    "suffix": "svg",
    "digest": "0123",
    "model": "dynunet",
    "metric": "cldice",
    "loss": "dice_ce",
    "fold": 1,
    "folder": ROOT / "ensembles",
    "kind": "mean",
    "variant": "fp16",
    "seed": 0,
    "trial": 3,
}


def made() -> dict[str, Path]:
    """Each function of the module with its path."""
    functions = {
        name: function
        for name, function in inspect.getmembers(paths, inspect.isfunction)
        if function.__module__ == paths.__name__ and name not in ("experiment_folder", "log")
    }
    return {
        name: function(*(GIVEN[parameter] for parameter in inspect.signature(function).parameters))
        for name, function in functions.items()
    }


def test_everything_lies_below_the_root() -> None:
    found = made()
    assert len(found) >= 25
    for name, path in found.items():
        assert ROOT in path.parents, name
        assert not path.is_absolute()


def test_no_two_results_share_a_file() -> None:
    found = {name: path for name, path in made().items() if name != "table"}
    assert len(set(found.values())) == len(found)
    assert paths.table(ROOT, "baseline") == paths.baseline(ROOT), "one of the tables, by name"


def test_runs_differ_in_each_of_their_parts() -> None:
    others = [
        RUN,
        RunKey("unet", "dice_ce", 0, 1),
        RunKey("dynunet", "cbdice", 0, 1),
        RunKey("dynunet", "dice_ce", 1, 1),
        RunKey("dynunet", "dice_ce", 0, 0),
    ]
    assert len({paths.run_folder(ROOT, run) for run in others}) == len(others)
    assert str(RUN) == "dynunet/dice_ce/seed0/fold1"


def test_names_may_be_wildcards() -> None:
    run = paths.run_folder(ROOT, "{model}/{loss}/seed{seed}/fold{fold}")
    assert paths.prediction(run, "{case}").as_posix() == (
        "results/demo/runs/{model}/{loss}/seed{seed}/fold{fold}/predictions/{case}.nii.gz"
    )


def test_probability_and_prediction_of_any_two_cases_differ() -> None:
    run = paths.run_folder(ROOT, RUN)
    assert paths.probability(run, "mv01") != paths.prediction(run, "mv01")


def test_logs_are_in_folders_of_their_step() -> None:
    assert paths.log(ROOT, "folds").as_posix() == "results/demo/logs/folds.log"
    assert paths.log(ROOT, "train", "a-b").as_posix() == "results/demo/logs/train/a-b.log"
    assert paths.log(ROOT, "train", "a.b").as_posix() == "results/demo/logs/train/a.b.log"


def test_an_experiment_has_its_folder() -> None:
    assert paths.experiment_folder("a") == Path("results/a") != paths.experiment_folder("b")
