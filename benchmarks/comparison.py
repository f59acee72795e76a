"""nnU-Net's own trainer and loss against this project's default: same folds, steps and patches.

    just bench comparison [key=value ...] [--name NAME] [--epochs 20] [--write]

Without more it runs on the phantom; `data.source=csv data.path=cases.csv` and other keys of the
configuration choose other volumes. This project's side is an experiment like any other, in
results/comparison_NAME; nnU-Net plans, trains and predicts on the same volumes and folds. It
trains on all cases that a fold does not hold out, and predicts with its last weights; this project
keeps a part of them for choosing the weights, unless `--selection 0` has it do the same. What is
done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nnunet
import page
from sides import child

from minivess import output, paths, provenance
from minivess.config.schema import FoldsConfig
from minivess.data.folds import read_folds
from minivess.environment import choose_kernels, prepare_environment

if TYPE_CHECKING:
    import polars as pl

    from minivess.types import Array

METRICS = {"dice": "Dice", "cldice": "clDice", "masd_um": "MASD, µm"}
LOSSES = ("cbdice_cldice", "dice_ce")
THEIRS = ("nnunet", "own")
PACKAGES = ["torch", "monai", "nnunetv2", "numpy"]
CACHE = Path(".cache") / "comparison"
DEFAULT_SELECTION = FoldsConfig().selection_fraction
RECIPES = {
    "own": "otherwise with its defaults",
    "sgd": "with deep supervision and `presets: {training: sgd}`, otherwise with its defaults",
}


@dataclass(frozen=True)
class Place:
    """Where a comparison is: results of the experiment, and nnU-Net's folder."""

    name: str
    variant: str = ""

    @property
    def results(self) -> Path:
        """Results of this project's side."""
        return paths.experiment_folder(f"{self.name}{self.variant}")

    @property
    def folder(self) -> Path:
        """Files of nnU-Net's side."""
        return CACHE / self.name

    def mask(self, case: str) -> Path:
        """nnU-Net's mask of a held-out case."""
        return self.folder / "masks" / f"{case}.npy"


def config(given: argparse.Namespace) -> dict[str, Any]:
    """Return this project's side as an experiment file."""
    sgd = given.recipe == "sgd"
    return {
        "presets": {"training": "sgd"} if sgd else {},
        "losses": list(LOSSES),
        "folds": {"n_folds": given.folds, "selection_fraction": given.selection},
        "patches": {
            "patch_size": list(given.patch),
            "batch_size": given.batch,
            "patches_per_epoch": given.steps * given.batch,
        },
        "models": {"dynunet": {"filters": list(given.filters), "deep_supervision": sgd}},
        "training": {"epochs": given.epochs},
        "compute": {"profile": given.profile},
    }


def train_ours(given: argparse.Namespace, place: Place) -> None:
    """Run this project's side; Snakemake goes on where it stopped."""
    import yaml

    place.folder.mkdir(parents=True, exist_ok=True)
    file = place.folder / f"{place.results.name}.yaml"
    output.write_text(yaml.safe_dump(config(given), sort_keys=False), file)
    command = [sys.executable, "-m", "minivess", "experiment", str(file), *given.keys]
    _check_keys(file, given.keys)
    if status := subprocess.run(command, check=False).returncode:
        raise SystemExit(status)


def _check_keys(file: Path, keys: list[str]) -> None:
    """Keys choose the data; what both sides must have in common has options.

    What nnU-Net does in its own way, this project does with its defaults, as the page says.
    """
    from minivess.config.load import resolve
    from minivess.flows.snakemake import request_without_lock

    asked = request_without_lock(str(file), keys, "1")
    own, theirs = resolve(str(file), asked.overrides), resolve(str(file))
    same = ("patches", "models", "losses", "seeds", "training", "compute")
    same += ("augment", "loss", "preprocess", "inference")
    other = [name for name in same if getattr(own, name) != getattr(theirs, name)]
    keys = ("n_folds", "selection_fraction")
    other += [f"folds.{k}" for k in keys if getattr(own.folds, k) != getattr(theirs.folds, k)]
    if other or asked.targets:
        raise SystemExit(
            f"{', '.join(other) or asked.targets}: both sides have to have the same, keys choose "
            "the volumes alone; --patch, --batch, --steps, --epochs, --filters, --folds, --profile "
            "are for both, --selection and --recipe for this project's side"
        )


def prepare(given: argparse.Namespace, place: Place) -> None:
    """Give nnU-Net the volumes and folds of this project's side, and nothing of an earlier run."""
    import shutil

    import polars as pl

    from minivess.data.manifest import read_image
    from minivess.data.preprocess import open_case

    for name in ("raw", "preprocessed", "results", "masks"):
        shutil.rmtree(place.folder / name, ignore_errors=True)
    folds = read_folds(paths.folds(place.results)).folds
    used = {case for fold in folds for case in fold.validation}
    cases = []
    for row in pl.read_parquet(paths.manifest(place.results)).iter_rows(named=True):
        if row["case"] in used:
            ours = open_case(paths.preprocessed_case(place.results, row["case"]))
            cases.append(nnunet.Case(row["case"], read_image(row), ours.label, ours.spacing_um))
    nnunet.prepare(place.folder, cases, splits(place))


def splits(place: Place) -> list[dict[str, list[str]]]:
    """Return what nnU-Net trains on and does not see of each fold; nothing selects its weights."""
    return [
        {"train": sorted((*fold.train, *fold.selection)), "val": list(fold.validation)}
        for fold in read_folds(paths.folds(place.results)).folds
    ]


def topology(given: argparse.Namespace, place: Place, number: int) -> dict[str, Any]:
    """Return the network of this project's side of a fold, as nnU-Net's plan names it.

    Its kernels follow from the spacing of the cases that it trains on, without those that select.
    """
    from minivess.data.preprocess import open_case
    from minivess.models.dynunet import kernels_and_strides
    from minivess.training.run import typical_spacing

    train = read_folds(paths.folds(place.results)).folds[number].train
    opened = [open_case(paths.preprocessed_case(place.results, case)) for case in train]
    shapes = kernels_and_strides(typical_spacing(opened), len(given.filters))
    return nnunet.planned_like(given.filters, *shapes)


def train_theirs(given: argparse.Namespace, place: Place) -> None:
    """Train nnU-Net on one fold and predict what it holds out."""
    nnunet.environment(place.folder)
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - nnU-Net draws from the global generators
    random.seed(0)
    fold = read_folds(paths.folds(place.results)).folds[given.fold]
    trainer = nnunet.trainer(
        place.folder,
        nnunet.Budget(tuple(given.patch), given.batch, given.epochs, given.steps),
        given.fold,
        topology=topology(given, place, given.fold),
    )
    trainer.run_training()
    for case in fold.validation:
        mask = nnunet.segment(trainer, _raw(place, case), mirroring=given.mirroring)
        with output.replacing(place.mask(case)) as temporary, temporary.open("wb") as file:
            np.save(file, mask.astype(np.uint8))


def _raw(place: Place, case: str) -> nnunet.Case:
    """The volume of a case as it is in its file."""
    import polars as pl

    from minivess.data.manifest import read_image
    from minivess.data.preprocess import open_case

    manifest = pl.read_parquet(paths.manifest(place.results))
    row = manifest.row(by_predicate=pl.col("case") == case, named=True)
    ours = open_case(paths.preprocessed_case(place.results, case))
    return nnunet.Case(case, read_image(row), ours.label, ours.spacing_um)


def measured(place: Place) -> pl.DataFrame:
    """Return the table `cases` of both sides, in the compared metrics."""
    import numpy as np
    import polars as pl

    from minivess.config.schema import EvaluationConfig
    from minivess.data.preprocess import open_case
    from minivess.metrics.evaluate import case_rows, evaluate_case
    from minivess.statistics import tables
    from minivess.types import RunKey

    tolerances = EvaluationConfig()
    rows: list[dict[str, object]] = []
    for number, fold in enumerate(read_folds(paths.folds(place.results)).folds):
        for case in fold.validation:
            opened = open_case(paths.preprocessed_case(place.results, case))
            mask: Array = np.load(place.mask(case)).astype(bool)
            values = evaluate_case(
                mask,
                np.asarray(opened.label) > 0,
                mask.astype(np.float32),
                opened.spacing_um,
                tolerances.nsd_tolerance_um,
                tolerances.junction_tolerance_um,
            )
            rows += case_rows(place.name, RunKey(*THEIRS, 0, number), case, values)
    ours = tables.read("cases", paths.table(place.results, "cases"))
    both = pl.concat([ours, tables.from_rows("cases", rows)])
    return both.filter(pl.col("metric").is_in(list(METRICS)))


def section(given: argparse.Namespace, place: Place, cases: pl.DataFrame) -> str:
    """Return the outcome as a section of the page."""
    patch, filters = (" x ".join(map(str, values)) for values in (given.patch, given.filters))
    mirroring = "with mirroring of its own" if given.mirroring else "without mirroring"
    what = (
        f"Each of {len(splits(place))} folds: {given.epochs * given.steps} optimiser steps with "
        f"{given.batch} patches of {patch} voxels, a U-Net with {filters.replace(' x ', ', ')} "
        f"filters, windows that overlap by half. This project {RECIPES[given.recipe]} "
        f"({_precision(place)}), once with its default loss and once with nnU-Net's kind of loss; "
        f"nnU-Net with its own trainer, loss, deep supervision, augmentation and resampling "
        f"(float32), predicting {mirroring}. {_selection(given)}"
    )
    command = " ".join(["just bench comparison", *_special(given)])
    title = f"## Comparison with nnU-Net on {given.name}: `{command}`"
    lines = [title, "", what, "", _limits(place), "", *_differences(cases), ""]
    lines += [*_by_case(cases), ""]
    return "\n".join([*lines, f"Machine: {page.machine(PACKAGES)}."])


def _precision(place: Place) -> str:
    """Return what this project's side was trained in, which the profile fast asks the device."""
    from minivess.steps.runs import experiment_runs

    files = [paths.run_provenance(place.results, run) for run in experiment_runs(place.results)]
    facts = [output.read_json(file, "params")["params"] for file in files]
    return " and ".join(sorted({fact["sys_precision"] for fact in facts}))


def _special(given: argparse.Namespace) -> list[str]:
    """Return the options that make this project's side another one."""
    options = [] if given.selection == DEFAULT_SELECTION else [f"--selection {given.selection:g}"]
    return options if given.recipe == "own" else [*options, f"--recipe {given.recipe}"]


def _variant(given: argparse.Namespace) -> str:
    """Return the same as part of a name, so that no variant undoes what another has made."""
    return "".join(f"_{option.removeprefix('--')}" for option in _special(given)).replace(" ", "")


def _selection(given: argparse.Namespace) -> str:
    """Return which weights predict, and what that costs."""
    if given.selection == 0:
        return (
            "Both sides train on all cases that a fold does not hold out, and take their last "
            "weights."
        )
    return (
        f"Cases that choose the weights ({given.selection:g} of those to train on, at least one) "
        "are lost to this project's training; nnU-Net trains on them and takes its last weights."
    )


def _limits(place: Place) -> str:
    """What the numbers do not show."""
    network, patch = nnunet.planned(place.folder)
    return (
        f"Read with care: nnU-Net's own plan for these volumes, {network} with patches of "
        f"{patch} voxels, is replaced by the network and patch above, and the 250,000 steps that "
        "its learning rates are made for by these few. One training seed on each side; the "
        "intervals are of the cases alone, p-values are not corrected. A difference that cannot be "
        "told from none does not show that there is none."
    )


def _arms(cases: pl.DataFrame) -> list[tuple[str, str]]:
    """The arms, nnU-Net's last."""
    from minivess.statistics.compare import arms_of

    return [*(arm for arm in arms_of(cases) if arm != THEIRS), THEIRS]


def _differences(cases: pl.DataFrame) -> list[str]:
    """Mean of each arm in each metric, and its paired difference to nnU-Net with interval."""
    from minivess.config.plan import AnalysisPlan
    from minivess.config.schema import StatisticsConfig
    from minivess.statistics.compare import case_values, compare

    first, *others = METRICS
    plan = AnalysisPlan(
        primary_metric=first, secondary_metrics=tuple(others), against="/".join(THEIRS), rope={}
    )
    table = compare(cases, StatisticsConfig(plan=plan))
    values = case_values(cases)
    lines = ["| | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for arm in _arms(cases):
        means = [f"{statistics.fmean(values[metric][arm].values()):.3f}" for metric in METRICS]
        lines.append(f"| {_title(arm)} | " + " | ".join(means) + " |")
    lines += [
        "",
        "| less nnU-Net, by case | difference [95 % BCa] | p, sign flips |",
        "|---|---|---|",
    ]
    for row in sorted(table.to_dicts(), key=lambda row: list(METRICS).index(row["metric"])):
        what = f"{_title((row['model_a'], row['loss_a']))}, {METRICS[row['metric']]}"
        low, high = row["ci_low"], row["ci_high"]
        span = "(no interval)" if low is None else f"[{low:+.3f}, {high:+.3f}]"
        lines.append(f"| {what} | {row['difference']:+.3f} {span} | {row['p_value']:.3f} |")
    return lines


def _by_case(cases: pl.DataFrame) -> list[str]:
    """The values of each held-out case."""
    import polars as pl

    arms = _arms(cases)
    value = {
        (row["case"], row["model"], row["loss"], row["metric"]): row["value"]
        for row in cases.iter_rows(named=True)
    }
    metrics = " / ".join(METRICS.values())
    heads = [f"{_title(arm)}: {metrics}" for arm in arms]
    lines = ["| fold | held-out case | " + " | ".join(heads) + " |", "|---" * (len(arms) + 2) + "|"]
    held = cases.select("fold", "case").unique().sort("fold", "case")
    for fold, case in held.select(pl.col("fold"), pl.col("case")).iter_rows():
        found = [" / ".join(f"{value[case, *arm, m]:.3f}" for m in METRICS) for arm in arms]
        lines.append(f"| {fold} | {case} | " + " | ".join(found) + " |")
    return lines


def _title(arm: tuple[str, str]) -> str:
    return "nnU-Net" if arm == THEIRS else f"`{arm[1]}`"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options; those without dashes are keys of the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("keys", nargs="*", metavar="key=value", help="keys of the experiment")
    parser.add_argument("--name", default="phantom", help="what the volumes are called")
    parser.add_argument("--patch", type=int, nargs=3, default=[96, 96, 8])
    parser.add_argument("--filters", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument(
        "--selection",
        type=float,
        default=DEFAULT_SELECTION,
        help="part of the cases to train on that chooses this project's weights; 0: the last ones",
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=16, help="of an epoch")
    parser.add_argument("--profile", choices=["strict", "fast"], default="fast")
    parser.add_argument("--recipe", choices=RECIPES, default="own", help="of this project's side")
    parser.add_argument("--mirroring", action="store_true", help="nnU-Net predicts 8 times")
    parser.add_argument("--write", type=Path, nargs="?", const=page.PAGE, help="the page to write")
    parser.add_argument("--part", choices=["prepare", "nnunet"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fold", type=int, help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args(arguments)
    if given.write is not None and "=" in given.write.name:
        parser.error(f"{given.write} is a key of the experiment: it belongs before the options")
    return given


def fingerprints(given: argparse.Namespace, place: Place) -> dict[str, str]:
    """Return a digest of what nnU-Net's masks of each fold depend on, and one of its volumes.

    What selects this project's weights is no part of them.
    """
    budget = {key: getattr(given, key) for key in ("patch", "filters", "batch", "epochs", "steps")}
    folds = splits(place)
    volumes = [read_folds(paths.folds(place.results)).manifest_digest, folds]
    found = {"volumes": provenance.json_sha256(volumes)}
    for number, fold in enumerate(folds):
        parts = [budget, given.mirroring, volumes, fold, topology(given, place, number)]
        found[str(number)] = provenance.json_sha256(parts)
    return found


def predict_theirs(given: argparse.Namespace, place: Place, arguments: list[str]) -> None:
    """Train nnU-Net and predict with it, where that is not done already."""
    file, wanted = place.folder / "done.json", fingerprints(given, place)
    done: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if done.get("volumes") != wanted["volumes"]:
        file.unlink(missing_ok=True)
        child(Path(__file__), "prepare", place.folder, arguments)
        done = {"volumes": wanted["volumes"]}
    for fold in range(len(splits(place))):  # of a folds file as many as it has
        if done.get(str(fold)) != wanted[str(fold)]:
            print(f"nnU-Net trains and predicts fold {fold}", flush=True)
            child(Path(__file__), "nnunet", place.folder, [*arguments, "--fold", str(fold)])
            done[str(fold)] = wanted[str(fold)]
            output.write_json(done, file)


def main(arguments: list[str]) -> int:
    """Run both sides, print the outcome; or be one part of that, for `--part`."""
    prepare_environment()
    given = parsed(arguments)
    choose_kernels("fast")
    place = Place(f"comparison_{given.name}", _variant(given))
    if given.part:
        {"prepare": prepare, "nnunet": train_theirs}[given.part](given, place)
        return 0
    train_ours(given, place)
    predict_theirs(given, place, arguments)
    body = section(given, place, measured(place))
    print(body)
    if given.write is not None:
        name = f"comparison-{given.name}{_variant(given)}"
        page.write_section(given.write, name, body, page.command("comparison", arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
