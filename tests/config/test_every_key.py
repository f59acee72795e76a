"""Every configuration key reaches what it names: each one is changed, and what it names changes.

Each check goes the whole way: an override, the resolved experiment, the file of the step that
reads the key, and the real code of that step, on volumes of 16 x 16 x 8 voxels.
"""

from __future__ import annotations

import inspect
import json
import multiprocessing
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import save_file
from small_bundle import small_network

from minivess import paths, provenance
from minivess.config.ensembles import EnsemblesConfig
from minivess.config.keys import keys
from minivess.config.load import load_step, resolve, write_step_files
from minivess.config.schema import DataConfig, Experiment, FiguresConfig
from minivess.data.augment import training_patch
from minivess.data.folds import read_folds
from minivess.data.manifest import read_manifest
from minivess.data.patches import extract, locate_patch
from minivess.data.phantom import make_phantom
from minivess.data.preprocess import open_case
from minivess.data.sources import list_cases
from minivess.data.validate import validate
from minivess.deploy.champions import Winner, described
from minivess.deploy.model_card import CardFacts, front_matter
from minivess.deploy.parity import check_parity
from minivess.errors import MinivessError
from minivess.figures import FIGURES
from minivess.inference.device import cpu_has_bfloat16, prepare_torch
from minivess.inference.predict import (
    TrainedNetwork,
    load_network,
    predict_case,
    write_prediction,
)
from minivess.models import ADAPTERS, build_adapter
from minivess.models.adapter import ModelAdapter
from minivess.models.dynunet import DynUNetAdapter
from minivess.models.weights import weights_of
from minivess.reproducibility.digests import ensemble_volumes
from minivess.seeding import torch_seeded
from minivess.statistics import tables
from minivess.statistics.compare import adjusted
from minivess.steps import analyze, calibrate, data, deploy, report
from minivess.steps import ensembles as steps_ensembles
from minivess.steps.evaluated import case_set
from minivess.training.distributed import Team
from minivess.training.loading import batches
from minivess.training.run import PlannedRun, plan_run, write_run
from minivess.training.targets import targets
from minivess.training.trainer import (
    TrainingResult,
    TrainingTask,
    fit,
    selection_scores,
    train_epoch,
)
from minivess.types import RunKey
from minivess.workflow import (
    Plan,
    check_uses,
    forget_incomplete_ensembles,
    job_threads,
    plan_experiment,
)

SHAPE = (16, 16, 8)
CASES = [f"phantom_{number:03d}" for number in range(1, 7)]
RUN = RunKey("dynunet", "cbdice_cldice", 0, 0)
TINY: dict[str, Any] = {
    "presets": {"augment": "none"},
    "models": {"dynunet": {"filters": [4, 8, 8]}},
    "phantom": {"n_cases": 6, "phantom_shape": list(SHAPE)},
    "patches": {"patch_size": [8, 8, 4], "batch_size": 2, "patches_per_epoch": 4},
    "training": {"epochs": 1, "warmup_fraction": 0},
    "compute": {"device": "cpu"},
    "statistics": {
        "bootstrap_resamples": 99,
        "permutation_resamples": 99,
        "posterior_samples": 99,
    },
}


@dataclass(frozen=True)
class Lab:
    """A finished data part of a tiny experiment, of which each check takes a copy."""

    base: Path
    folder: Path

    def root(self, **overrides: Any) -> Path:
        """A copy of the results folder with the step files of other overrides.

        Dots of a key are written as two underscores.
        """
        root = self.folder / f"root{len(list(self.folder.iterdir()))}"
        shutil.copytree(self.base / "results", root)
        write_step_files(self.experiment(**overrides), root / "config")
        return root

    def experiment(self, **overrides: Any) -> Experiment:
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        return resolve(str(self.base / "configs" / "experiment" / "tiny.yaml"), dotted)

    def step(self, step: str, **overrides: Any) -> Experiment:
        """What the step reads, and nothing else."""
        return load_step(paths.step_config(self.root(**overrides), step))

    def planned(self, **overrides: Any) -> PlannedRun:
        root = self.root(**overrides)
        experiment = load_step(paths.step_config(root, "train-dynunet"))
        run = replace(RUN, loss=overrides.get("losses", [RUN.loss])[0])
        return plan_run(experiment, run, read_folds(paths.folds(root)), root)

    def task(self, **overrides: Any) -> TrainingTask:
        return self.planned(**overrides).task

    def fit(self, **overrides: Any) -> TrainingResult:
        state = self.folder / f"state{len(list(self.folder.iterdir()))}"
        return fit(self.task(**overrides), state, lambda row: None)

    def patch(self, **overrides: Any) -> tuple[np.ndarray, np.ndarray]:
        """The first patch of the first epoch, image and label (x, y, z)."""
        task = self.task(**overrides)
        image, label = training_patch(task.train, task.patches, task.augment, (0, 0, 1), 0)
        return image[0].numpy(), label[0].numpy()

    def plan_file(self, **changes: Any) -> Path:
        """An analysis file of two metrics, with some keys changed."""
        values = {
            "primary_metric": "dice",
            "secondary_metrics": [],
            "against": None,
            "alternative": "two_sided",
            "alpha": 0.05,
            "correction": "holm",
            "rope": {"dice": 0.01},
            "resampling": "cases_within_folds",
            "power": 0.8,
            **changes,
        }
        file = self.folder / f"plan{len(list(self.folder.iterdir()))}.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        return file

    def plan(self, monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> Plan:
        monkeypatch.chdir(self.folder)
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        return plan_experiment({"experiment": "tiny", **dotted}, self.base)

    @cached_property
    def cases(self) -> pl.DataFrame:
        """A table cases of two losses and fourteen cases."""
        random = np.random.default_rng(0)
        rows: list[dict[str, object]] = [
            {
                "experiment": "tiny",
                "model": "dynunet",
                "loss": loss,
                "seed": 0,
                "fold": index % 2,
                "case": case,
                "metric": metric,
                "value": float(random.random()) + 0.2 * (loss == "dice_ce"),
                "unit": "1",
                "status": "ok",
            }
            for loss in ("cbdice_cldice", "dice_ce")
            for index, case in enumerate(f"phantom_{number:03d}" for number in range(1, 15))
            for metric in ("dice", "cldice", "masd_um")
        ]
        return tables.from_rows("cases", rows)

    def compared(self, **overrides: Any) -> Path:
        """A root after the compare step."""
        overrides = {"statistics__plan": str(self.plan_file()), **overrides}
        root = self.root(losses=["cbdice_cldice", "dice_ce"], **overrides)
        made = read_manifest(paths.manifest(root))
        names = sorted(set(self.cases["case"]))
        # Cases of one fold, two by two, are a group; what else is in the rows has no part.
        rows = [
            made.row(0, named=True) | {"case": c, "group": f"g{i % 2}{i // 4}"}
            for i, c in enumerate(names)
        ]
        pl.DataFrame(rows, schema=made.schema).write_parquet(paths.manifest(root))
        paths.table(root, "cases").parent.mkdir()
        self.cases.write_parquet(paths.table(root, "cases"))
        baseline: list[dict[str, object]] = [
            {"case": case, "threshold": 0.5, "dice": 0.4} for case in self.cases["case"].unique()
        ]
        tables.from_rows("baseline", baseline).write_parquet(paths.baseline(root))
        analyze.compare_arms(root)
        return root


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tiny")
    file = base / "configs" / "experiment" / "tiny.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    root = base / "results"
    write_step_files(resolve(str(file)), root / "config")
    data.phantom(root)
    data.manifest(root)
    for case in read_manifest(paths.manifest(root))["case"]:
        data.preprocess(root, case)
    data.folds(root)
    return base


@pytest.fixture
def lab(base: Path, tmp_path: Path) -> Lab:
    return Lab(base, tmp_path)


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


class Recording(torch.nn.Module):
    """Logits from the intensity alone; remembers the shape of every batch it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.seen: list[tuple[int, ...]] = []
        self.autocast: list[bool] = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(batch.shape))
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        return torch.cat([-batch, batch], dim=1) * self.scale


# top level


def name(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lab.plan(monkeypatch).root == Path("results/tiny")
    assert lab.plan(monkeypatch, name="other").root == Path("results/other")


def losses(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {run.loss for run in lab.plan(monkeypatch).runs()} == {"cbdice_cldice"}
    runs = lab.plan(monkeypatch, losses=["dice_ce", "cbdice"]).runs()
    assert {run.loss for run in runs} == {"dice_ce", "cbdice"}
    root = lab.root(losses=["dice_ce", "cbdice"])
    arms = load_step(paths.step_config(root, "experiment")).arms()
    assert arms == (("dynunet", "dice_ce"), ("dynunet", "cbdice"))


def seeds(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = lab.plan(monkeypatch, seeds=[3, 5]).runs()
    assert sorted({run.seed for run in runs}) == [3, 5]
    assert len(runs) == 2 * len(lab.plan(monkeypatch).runs())
    root = lab.root()
    experiment, folds = load_step(paths.step_config(root, "train-dynunet")), paths.folds(root)
    first, second = (
        next(batches(plan_run(experiment, run, read_folds(folds), root).task, 1))[0]
        for run in (RunKey("dynunet", "dice_ce", seed, 0) for seed in (3, 5))
    )
    assert not torch.equal(first, second)


# data


def csv_source(lab: Lab, unit: int, label_value: int) -> Path:
    """A CSV of one case whose header says 2 x 2 x 3 of a NIfTI unit (0: none, 2: mm, 3: um)."""
    folder = lab.folder / f"csv{unit}{label_value}"
    folder.mkdir()
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[4:8] = label_value
    for stem, array in (("image", np.arange(label.size, dtype=np.int16)), ("label", label)):
        image = nib.nifti1.Nifti1Image(array.reshape(SHAPE), np.diag([2.0, 2.0, 3.0, 1.0]))
        image.header["xyzt_units"] = unit
        nib.save(image, folder / f"{stem}.nii")
    path = folder / "cases.csv"
    path.write_text("case,image,label\nmine,image.nii,label.nii\n", encoding="utf-8")
    return path


def manifest_row(lab: Lab, path: Path, **overrides: Any) -> dict[str, Any]:
    root = lab.root(data__source="csv", data__path=str(path), **overrides)
    data.manifest(root)
    return read_manifest(paths.manifest(root)).row(0, named=True)


def data_source(lab: Lab) -> None:
    path = csv_source(lab, 3, 1)
    assert manifest_row(lab, path)["case"] == "mine"
    phantom = list_cases(lab.step("manifest", data__source="phantom"), Path())
    assert phantom[0].case == "phantom_001"


def data_path(lab: Lab) -> None:
    first, second = csv_source(lab, 3, 1), csv_source(lab, 2, 1)
    assert manifest_row(lab, first)["image"].startswith(first.parent.as_posix())
    assert manifest_row(lab, second)["image"].startswith(second.parent.as_posix())


def data_spacing_um(lab: Lab) -> None:
    path = csv_source(lab, 0, 1)
    assert manifest_row(lab, path)["spacing_um"] is None
    row = manifest_row(lab, path, data__spacing_um=[0.5, 0.5, 4.0])
    assert row["spacing_um"] == [0.5, 0.5, 4.0]
    assert row["spacing_source"] == "config"


def data_spacing_unit(lab: Lab) -> None:
    path = csv_source(lab, 0, 1)
    assert manifest_row(lab, path, data__spacing_unit="um")["spacing_um"] == [2, 2, 3]
    assert manifest_row(lab, path, data__spacing_unit="mm")["spacing_um"] == [2000, 2000, 3000]


def data_vessel_labels(lab: Lab) -> None:
    path = csv_source(lab, 3, 255)
    assert manifest_row(lab, path)["vessel_fraction"] is None
    assert manifest_row(lab, path, data__vessel_labels=[255])["vessel_fraction"] == 0.25
    root = lab.root(data__source="csv", data__path=str(path), data__vessel_labels=[255])
    data.manifest(root)
    data.preprocess(root, "mine")
    assert open_case(paths.preprocessed_case(root, "mine")).label.mean() == 0.25


def data_exclude(lab: Lab) -> None:
    kept = list_cases(lab.step("manifest", data__exclude=["phantom_002"]), Path())
    assert [case.case[-1] for case in kept] == ["1", "3", "4", "5", "6"]


def data_origin(lab: Lab) -> None:
    path = csv_source(lab, 3, 1)
    assert manifest_row(lab, path)["origin"] is None
    assert manifest_row(lab, path, data__origin="our laboratory")["origin"] == "our laboratory"


def external(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv_source(lab, 3, 1)
    given = {"source": "csv", "path": str(path), "origin": "theirs"}
    assert lab.step("external-other", external={"other": given}).external["other"].path == str(path)
    given |= {"spacing_um": [1.0, 2.0, 3.0], "spacing_unit": "um", "vessel_labels": [2]}
    given["exclude"] = ["none"]
    cases = case_set("other", Path(), lab.experiment(), DataConfig.model_validate(given))
    # All that the manifest, the labels and the list of cases read.
    dumped = cases.experiment.data.model_dump(mode="json")
    assert dumped == given
    given["exclude"] = []
    files = lab.plan(monkeypatch, external={"other": given}).external["other"]
    assert {file.name for file in files} == {"cases.csv", "image.nii", "label.nii"}
    with pytest.raises(MinivessError, match="MV-CONFIG-001"):
        lab.experiment(external={"other": {"pth": "x"}})
    with pytest.raises(MinivessError, match="MV-CONFIG-002"):
        lab.experiment(external={"own": given})


# phantom


def phantom_n_cases(lab: Lab) -> None:
    root = lab.root(n_cases=3)
    shutil.rmtree(paths.phantom_folder(root))
    data.phantom(root)
    assert len(list((paths.phantom_folder(root) / "images").iterdir())) == 3
    assert len(list_cases(lab.step("manifest", n_cases=3), root)) == 3


def phantom_shape(lab: Lab) -> None:
    for shape in ((16, 12, 4), (8, 8, 8)):
        config = lab.step("phantom", phantom_shape=list(shape)).phantom
        assert make_phantom(config, 0).image.shape == shape


def phantom_spacing_um(lab: Lab) -> None:
    root = lab.root(phantom_spacing_um=[2.0, 2.0, 4.0], n_cases=1)
    data.phantom(root)
    data.manifest(root)
    assert read_manifest(paths.manifest(root))["spacing_um"].to_list() == [[2.0, 2.0, 4.0]]
    before = read_manifest(paths.manifest(lab.root()))["spacing_um"].to_list()
    assert before == [[1.0, 1.0, 5.0]] * 6


def phantom_n_trees(lab: Lab) -> None:
    for count in (1, 4):
        config = lab.step("phantom", n_trees=count).phantom
        assert {segment.tree for segment in make_phantom(config, 0).segments} == set(range(count))


def phantom_photons(lab: Lab) -> None:
    dim, bright = (
        make_phantom(lab.step("phantom", photons=photons).phantom, 0).image.mean()
        for photons in (5, 50)
    )
    assert 8 < bright / dim < 12


def phantom_seed(lab: Lab) -> None:
    first, again, other = (
        make_phantom(lab.step("phantom", phantom_seed=seed).phantom, 0).image for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# preprocess


def prepared(lab: Lab, **overrides: Any) -> np.ndarray:
    root = lab.root(**overrides)
    data.preprocess(root, "phantom_001")
    return np.asarray(open_case(paths.preprocessed_case(root, "phantom_001")).image)


def preprocess_normalisation(lab: Lab) -> None:
    zscore, minmax, none = (
        prepared(lab, normalisation=kind) for kind in ("zscore", "minmax", "none")
    )
    assert abs(zscore.mean()) < 1e-4
    assert zscore.std() == pytest.approx(1, abs=1e-4)
    assert (minmax.min(), minmax.max()) == (0, 1)
    assert none.max() > 10


def preprocess_clip_percentiles(lab: Lab) -> None:
    whole, upper_half_cut = (
        prepared(lab, normalisation="none", clip_percentiles=list(limits))
        for limits in ((0, 100), (0, 50))
    )
    assert upper_half_cut.max() == np.median(whole) < whole.max()


# folds


def made_folds(lab: Lab, **overrides: Any) -> Any:
    root = lab.root(**overrides)
    data.folds(root)
    return read_folds(paths.folds(root))


def folds_n_folds(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (2, 3):
        assert len(made_folds(lab, n_folds=count).folds) == count
        assert len(lab.plan(monkeypatch, folds__n_folds=count).runs()) == count


def folds_seed(lab: Lab) -> None:
    held_out = {
        tuple(fold.validation for fold in made_folds(lab, folds_seed=seed).folds)
        for seed in range(4)
    }
    assert len(held_out) > 1


def folds_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = CASES
    file = lab.folder / "folds.json"
    sides = [{"train": cases[:4], "validation": cases[4:]}, {"train": cases[2:], "val": cases[:2]}]
    sides += [{"train": cases[:2] + cases[4:], "val": cases[2:4]}]
    file.write_text(json.dumps({"folds": sides}), encoding="utf-8")
    made = made_folds(lab, folds_file=str(file))
    assert [fold.validation for fold in made.folds] == [
        tuple(cases[4:]),
        tuple(cases[:2]),
        tuple(cases[2:4]),
    ]
    assert len(lab.plan(monkeypatch, folds__folds_file=str(file), n_folds=2).runs()) == 3


def folds_selection_fraction(lab: Lab) -> None:
    few, many = (
        made_folds(lab, selection_fraction=fraction).folds[0].selection for fraction in (0.25, 0.75)
    )
    assert (len(few), len(many)) == (1, 3)
    assert {fold.selection for fold in made_folds(lab, selection_fraction=0).folds} == {()}
    assert lab.step("folds", selection_fraction=0).folds.selection_fraction == 0
    with pytest.raises(MinivessError, match="needs selection cases"):
        check_uses(lab.experiment(selection_fraction=0, patience=3))


def folds_test_cases(lab: Lab) -> None:
    made = made_folds(lab, test_cases=["phantom_003"])
    assert made.test == ("phantom_003",)
    used = {case for f in made.folds for case in (*f.train, *f.selection, *f.validation)}
    assert used == {f"phantom_{number:03d}" for number in (1, 2, 4, 5, 6)}
    for step in ("phantom", "manifest"):
        assert lab.step(step, test_cases=["phantom_003"]).folds.test_cases == ("phantom_003",)
    root = lab.root(test_cases=["phantom_003"])
    data.manifest(root)
    locked = read_manifest(paths.manifest(root)).filter(pl.col("locked"))
    assert locked["case"].to_list() == ["phantom_003"]


# patches


def patches_patch_size(lab: Lab) -> None:
    for size in ((8, 8, 4), (16, 12, 8)):
        image, label = lab.patch(patch_size=list(size))
        assert image.shape == label.shape == size
    patches_auto(lab)


def patches_batch_size(lab: Lab) -> None:
    sizes = [len(images) for images, _ in batches(lab.task(batch_size=3), 1)]
    assert sizes == [3, 1]
    assert [len(images) for images, _ in batches(lab.task(batch_size=1), 1)] == [1] * 4


def patches_auto(lab: Lab) -> None:
    """Both as the volumes (16 x 16 x 8) and the network's profile say."""
    decided = lab.task(patch_size="auto", batch_size="auto").patches
    assert (decided.patch_size, decided.batch_size) == ((16, 16, 8), 2)


def patches_pad_thin(lab: Lab) -> None:
    with pytest.raises(MinivessError, match="MV-PATCH-001"):
        lab.fit(patch_size=[8, 8, 12])
    images, _ = next(batches(lab.task(patch_size=[8, 8, 12], pad_thin=True), 1))
    assert images.shape[2:] == (8, 8, 12)
    lab.fit(patch_size=[8, 8, 12], pad_thin=True)
    manifest = read_manifest(paths.manifest(lab.base / "results"))
    for pad, said in ((False, True), (True, False)):
        checked = lab.step("validate", patch_size=[8, 8, 12], pad_thin=pad)
        assert ("MV-PATCH-001" in validate(manifest, checked)["code"].to_list()) is said


def model_profile(lab: Lab) -> None:
    """A smaller budget makes smaller patches."""
    sizes = []
    for budget in (4000, 0.2):
        text = Path("configs/model_profiles/dynunet.yaml").read_text(encoding="utf-8")
        file = lab.folder / f"{budget}.yaml"
        file.write_text(text.replace("budget_mb: 4000", f"budget_mb: {budget}"), encoding="utf-8")
        task = lab.task(patch_size="auto", models__dynunet__profile=str(file))
        sizes.append(np.prod(task.patches.patch_size))
    assert sizes[1] < sizes[0]


def patches_patches_per_epoch(lab: Lab) -> None:
    for count in (2, 6):
        shown = batches(lab.task(patches_per_epoch=count), 1)
        assert sum(len(images) for images, _ in shown) == count


def patches_foreground_fraction(lab: Lab) -> None:
    """With all patches centred on vessels every one has vessel voxels; without, some have none."""
    vessels = []
    for fraction in (0, 1):
        task = lab.task(foreground_fraction=fraction, patch_size=[4, 4, 1])
        places = [locate_patch(task.train, task.patches, (0, 0, 1), index) for index in range(40)]
        labels = [extract(task.train[p.case].label, p.start, (4, 4, 1)) for p in places]
        vessels.append(sum(int(label.any()) for label in labels))
    assert vessels[0] < vessels[1] == 40


# augment


def augment_flip_probability(lab: Lab) -> None:
    (image, label), (flipped, flipped_label) = (
        lab.patch(flip_probability=probability) for probability in (0, 1)
    )
    assert np.array_equal(np.flip(image), flipped)
    assert np.array_equal(np.flip(label), flipped_label)


def augment_affine_probability(lab: Lab) -> None:
    still, moved = (lab.patch(affine_probability=probability)[0] for probability in (0, 1))
    assert not np.allclose(still, moved)


def geometry_changes(lab: Lab, key: str, value: float) -> None:
    still: dict[str, Any] = {"affine_probability": 1, "rotation_degrees": 0, "zoom": 0}
    untouched, _ = lab.patch()
    assert np.allclose(lab.patch(**still)[0], untouched, atol=1e-3)
    assert not np.allclose(lab.patch(**{**still, key: value})[0], untouched, atol=1e-3)


def augment_rotation_degrees(lab: Lab) -> None:
    geometry_changes(lab, "rotation_degrees", 90)


def augment_zoom(lab: Lab) -> None:
    geometry_changes(lab, "zoom", 0.5)


def intensity_changes(
    lab: Lab, probability: str, strength: str, none: float = 0, some: float = 2
) -> None:
    """Neither probability 0 nor no strength touches a patch; with both its intensities change."""
    untouched, label = lab.patch()
    for chance, amount, changed in ((0, some, False), (1, none, False), (1, some, True)):
        image, same_label = lab.patch(**{probability: chance, strength: amount})
        assert np.allclose(image, untouched, atol=1e-6) is not changed
        assert np.array_equal(label, same_label)


def augment_noise(lab: Lab) -> None:
    intensity_changes(lab, "noise_probability", "noise_std")


def augment_gamma(lab: Lab) -> None:
    intensity_changes(lab, "gamma_probability", "gamma_log_range")


def augment_blur(lab: Lab) -> None:
    intensity_changes(lab, "blur_probability", "blur_sigma_um")


def augment_low_resolution(lab: Lab) -> None:
    intensity_changes(lab, "low_resolution_probability", "low_resolution_factor", none=1)


def augment_brightness(lab: Lab) -> None:
    intensity_changes(lab, "brightness_probability", "brightness_range", some=0.5)


def augment_contrast(lab: Lab) -> None:
    intensity_changes(lab, "contrast_probability", "contrast_range", some=0.5)


def augment_gamma_method(lab: Lab) -> None:
    images = [
        lab.patch(gamma_probability=1, gamma_log_range=1, **keys)[0]
        for keys in (
            {"gamma_method": "signed"},
            {"gamma_method": "range"},
            {"gamma_method": "range", "gamma_invert_probability": 1},
        )
    ]
    for one, other in ((0, 1), (1, 2)):
        assert not np.allclose(images[one], images[other], atol=1e-2)


# models


class Wide(DynUNetAdapter):
    """Another architecture."""


def model_architecture(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "wide", Wide)
    assert type(lab.task().adapter) is DynUNetAdapter
    assert type(other_adapter(lab, architecture="wide")) is Wide


def model_filters(lab: Lab) -> None:
    for filters in ((4, 8, 8), (6, 8, 8, 10)):
        task = lab.task(models__dynunet__filters=list(filters), patches__patch_size=[8, 8, 4])
        widths = {tensor.shape[0] for tensor in task.adapter.build().state_dict().values()}
        assert set(filters) <= widths
        assert (6 in widths) is (6 in filters)


def model_deep_supervision(lab: Lab) -> None:
    counts = []
    for deep in (False, True):
        adapter = lab.task(
            models__dynunet__deep_supervision=deep, models__dynunet__filters=[4, 4, 4, 4]
        ).adapter
        network = adapter.build().train()
        counts.append(len(adapter.heads(network(torch.zeros(1, 1, 16, 16, 8)))))
    assert counts == [1, 3]


def model_dropout(lab: Lab) -> None:
    for dropout in (0.0, 0.25):
        network = lab.task(models__dynunet__dropout=dropout).adapter.build()
        layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Dropout)]
        assert {layer.p for layer in layers} == ({dropout} if dropout else set())


def other_adapter(lab: Lab, **keys: Any) -> ModelAdapter:
    """The adapter of a second network, from the file of its training step."""
    root = lab.root(models__other=keys)
    config = load_step(paths.step_config(root, "train-other")).models["other"]
    return build_adapter(config, (1.0, 1.0, 5.0))


def model_init_filters(lab: Lab) -> None:
    for filters in (4, 6):
        made = other_adapter(lab, architecture="segresnet", init_filters=filters)
        assert {len(p) for p in made.build().parameters()} >= {filters * 2**n for n in range(4)}


def model_blocks_down(lab: Lab) -> None:
    for blocks in ([1, 1], [2, 1, 3]):
        keys = {"architecture": "segresnet", "init_filters": 2, "blocks_down": blocks}
        encoder = other_adapter(lab, **keys).build().get_submodule("encoder.layers")
        assert [len(level.get_submodule("blocks")) for level in encoder.children()] == blocks


def model_weights(lab: Lab) -> None:
    """The network starts from them, and another file is another run."""
    digests = set()
    root = lab.root(models__dynunet__filters=[4, 4, 4])
    experiment = load_step(paths.step_config(root, "train-dynunet"))
    for number in (0, 1):
        file = lab.folder / f"{number}.safetensors"
        keys = {"architecture": "vista3d", "embed_dim": 24, "weights": str(file)}
        made = other_adapter(lab, **keys)
        with torch_seeded(number, "test"):
            published = made.build()
        save_file(weights_of(published.get_submodule("network")), file)
        network = made.build()
        made.start(network)
        ours, theirs = weights_of(network), weights_of(published)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        config = experiment.models["dynunet"].model_copy(update={"weights": str(file)})
        with_weights = experiment.model_copy(update={"models": {"dynunet": config}})
        plan = plan_run(with_weights, RUN, read_folds(paths.folds(root)), root)
        digests.add(plan.run_digest)
    assert len(digests) == 2


def model_class_prompt(lab: Lab) -> None:
    for prompt in (25, 133):
        made = other_adapter(lab, architecture="vista3d", embed_dim=24, class_prompt=prompt)
        assert made.build().class_prompt == prompt


# A matrix that LoRA adds to.
ADAPTED = "network.vision_encoder.layers.0.attn.qkv"


def model_embed_dim(lab: Lab) -> None:
    for channels in (24, 32):
        made = other_adapter(lab, architecture="vista3d", embed_dim=channels)
        assert made.levels()[0].channels == channels
        first = made.build().get_submodule("network.image_encoder.encoder.conv_init")
        assert len(first.weight) == channels


def tiny_sam(lab: Lab, **keys: Any) -> ModelAdapter:
    return other_adapter(lab, architecture="sam", encoder="tiny_random", **keys)


def model_encoder(lab: Lab) -> None:
    for encoder, hidden in (("tiny_random", 32), ("vit_l", 1024)):
        made = other_adapter(lab, architecture="sam", encoder=encoder)
        with torch.device("meta"):
            encoding = made.build().get_submodule("network.vision_encoder.patch_embed.projection")
        assert encoding.out_channels == hidden


def model_upscale(lab: Lab) -> None:
    for upscale in (2, 4):
        made = tiny_sam(lab, upscale=upscale)
        assert made.patch_divisor()[0] == 16 // upscale
        assert made.build().upscale == upscale


def model_lora_rank(lab: Lab) -> None:
    for rank in (2, 8):
        added = tiny_sam(lab, lora_rank=rank).build().get_submodule(f"{ADAPTED}.lora_A.default")
        assert len(added.weight) == rank


def model_lora_alpha(lab: Lab) -> None:
    for alpha in (4, 12):
        adapted = tiny_sam(lab, lora_alpha=alpha).build().get_submodule(ADAPTED)
        assert adapted.scaling["default"] == alpha / 4


# loss


def loss_value(lab: Lab, **overrides: Any) -> float:
    task = lab.task(**overrides)
    label = torch.zeros(task.patches.batch_size, 1, 16, 16, 8)
    label[..., 3:12, 3:12, 1:7] = 1
    logits = torch.cat([1 - 2 * label, 1.7 * label - 1], dim=1)
    label, needed = targets(task, label, (1, 0))
    return task.loss(logits, label, **needed).item()


def loss_skeleton_iterations(lab: Lab) -> None:
    assert loss_value(lab, skeleton_iterations=1) != loss_value(lab, skeleton_iterations=4)


def loss_smooth(lab: Lab) -> None:
    assert loss_value(lab, smooth=1e-5) > loss_value(lab, smooth=1000)


def loss_of(name: str, key: str) -> Callable[[Lab], None]:
    """The loss that a key belongs to has another value with another value of the key."""

    def check(lab: Lab) -> None:
        low, high = (loss_value(lab, losses=[name], **{key: value}) for value in (1, 3))
        assert low != high

    return check


# training


def training_epochs(lab: Lab) -> None:
    for epochs in (1, 3):
        history = lab.fit(epochs=epochs).history
        assert [entry["epoch"] for entry in history] == list(range(1, epochs + 1))


def training_learning_rate(lab: Lab) -> None:
    low, high = (
        lab.fit(learning_rate=rate).history[0]["train/learning_rate"] for rate in (1e-4, 1e-3)
    )
    assert high == pytest.approx(10 * low)


def norm(result: TrainingResult) -> float:
    return float(sum(tensor.square().sum() for tensor in result.weights.values()))


def training_weight_decay(lab: Lab) -> None:
    assert norm(lab.fit(weight_decay=100)) < 0.9 * norm(lab.fit(weight_decay=0))


def training_warmup_fraction(lab: Lab) -> None:
    rates = [
        lab.fit(warmup_fraction=part, epochs=2, patches_per_epoch=2).history[0] for part in (0, 0.9)
    ]
    assert rates[0]["train/learning_rate"] > 1.5 * rates[1]["train/learning_rate"]


def training_gradient_clip(lab: Lab) -> None:
    """AdamW forgets the size of gradients, but not of those far below its epsilon (1e-8)."""
    still, usual, clipped = (
        lab.fit(weight_decay=0, **change).weights
        for change in ({"learning_rate": 1e-12}, {}, {"gradient_clip": 1e-12})
    )

    def moved(weights: dict[str, torch.Tensor]) -> float:
        return max(float((weights[name] - still[name]).abs().max()) for name in still)

    assert moved(clipped) < 0.01 * moved(usual)


def training_selection_every(lab: Lab) -> None:
    for every, expected in ((1, [1, 2, 3]), (2, [2, 3])):
        history = lab.fit(selection_every=every, epochs=3, patches_per_epoch=1).history
        assert [entry["epoch"] for entry in history if "selection/dice" in entry] == expected


def training_selection_overlap(lab: Lab) -> None:
    windows = []
    for overlap in (0, 0.5):
        network = Recording()
        selection_scores(lab.task(selection_overlap=overlap), network)
        windows.append(sum(shape[0] for shape in network.seen))
    assert windows[0] == 2 * 2 * 2 * len(lab.task().selection)
    assert windows[1] > windows[0]


def training_swa_start(lab: Lab) -> None:
    for start, count in ((1, 2), (2, 1)):
        averages = lab.fit(epochs=2, patches_per_epoch=2, swa_start=start).averages
        assert averages["count"] == count
    assert lab.fit(epochs=1, patches_per_epoch=2).averages == {}


def training_swa_learning_rate(lab: Lab) -> None:
    for rate in (1e-4, 1e-5):
        history = lab.fit(patches_per_epoch=2, swa_start=1, swa_learning_rate=rate).history
        assert history[0]["train/learning_rate"] == rate


def training_swag_rank(lab: Lab) -> None:
    for rank in (2, 3):
        averages = lab.fit(epochs=3, patches_per_epoch=2, swa_start=1, swag_rank=rank).averages
        columns = {name.split(".")[1] for name in averages if name.startswith("deviation.")}
        assert columns == {str(number) for number in range(rank)}


def training_snapshot_cycles(lab: Lab) -> None:
    averages = lab.fit(epochs=4, patches_per_epoch=2, snapshot_cycles=2).averages
    assert {name.split(".")[1] for name in averages} == {"0", "1"}


def trained(lab: Lab, **change: Any) -> dict[str, bytes]:
    """Bytes of the weights that predict."""
    result = lab.fit(**{"patches_per_epoch": 4, "batch_size": 1, **change})
    return {name: tensor.numpy().tobytes() for name, tensor in result.weights.items()}


def changes_the_weights(key: str, value: Any, **always: Any) -> Callable[[Lab], None]:
    """A key with a value trains to other bytes than without it."""

    def check(lab: Lab) -> None:
        assert trained(lab, **always) != trained(lab, **always, **{key: value})

    return check


def training_warm_start(lab: Lab) -> None:
    from safetensors.torch import save_file

    path = lab.folder / "begin0.safetensors"
    save_file(lab.fit().weights, path)
    named = str(path).replace("begin0", "begin{fold}")
    assert trained(lab) != trained(lab, warm_start=named)
    (decision,) = [d for d in lab.planned(warm_start=named).decisions if d.name == "warm_start"]
    assert decision.value == path.as_posix()


def training_selection_metrics(lab: Lab) -> None:
    result = lab.fit(selection_metrics=["cldice", "hd95_um"])
    assert {"selection/dice", "selection/cldice", "selection/hd95_um"} < set(result.history[-1])
    assert set(result.others) == {"hd95_um"}


def training_checkpoint_metric(lab: Lab) -> None:
    change = {"epochs": 4, "selection_every": 1, "learning_rate": 0.05}
    metrics = ["dice", "volume_fraction_error"]
    found = [
        lab.fit(selection_metrics=metrics, checkpoint_metric=name, **change) for name in metrics
    ]
    for result, name in zip(found, metrics, strict=True):
        scores = [entry[f"selection/{name}"] for entry in result.history]
        best = max(scores) if name == "dice" else min(scores)
        assert result.best_epoch == 1 + scores.index(best)


def training_patience(lab: Lab) -> None:
    change = {"epochs": 6, "selection_every": 1, "learning_rate": 1e-9, "patches_per_epoch": 1}
    assert len(lab.fit(patience=1, **change).history) < 6
    assert len(lab.fit(**change).history) == 6


def training_stopping_metric(lab: Lab) -> None:
    history = lab.fit(stopping_metric="brier", patience=9).history
    assert "selection/brier" in history[-1]


# compute


def compute_compile(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda network: compiled.append(type(network).__name__)
    )
    digests = set()
    for on, expected in ((False, []), (True, ["DynUNet"])):
        digests.add(lab.planned(compute__compile=on, profile="fast").run_digest)
        lab.fit(compute__compile=on, profile="fast", patches_per_epoch=1)
        assert compiled == expected
    assert len(digests) == 2
    with pytest.raises(MinivessError, match=r"compute\.compile"):
        check_uses(lab.experiment(compute__compile=True, profile="strict"))


def compute_profile(lab: Lab) -> None:
    for profile in ("strict", "fast"):
        planned = lab.planned(profile=profile)
        (precision,) = [d for d in planned.decisions if d.name == "sys_precision"]
        assert precision.reason.startswith(f"profile {profile}")
        network = Recording()
        optimizer = torch.optim.AdamW(network.parameters())
        train_epoch(planned.task, network, optimizer, 1)
        predict_case(
            TrainedNetwork(network, (8, 8, 4), (1, 1, 1)),
            planned.task.train[0],
            lab.step("predict").inference,
            lab.step("predict", profile=profile).compute,
        )
        assert set(network.autocast) == {profile == "fast" and cpu_has_bfloat16()}


def compute_device(lab: Lab) -> None:
    (device,) = [d for d in lab.planned(device="cpu").decisions if d.name == "sys_device"]
    assert (device.value, device.reason) == ("cpu", "set in the config")
    (device,) = [d for d in lab.planned(device="auto").decisions if d.name == "sys_device"]
    assert device.reason.startswith("auto: ")
    with pytest.raises(MinivessError, match="cuda:99"):
        lab.planned(device="cuda:99")


def compute_threads(lab: Lab) -> None:
    for count in (1, 2):
        for step in ("train-dynunet", "predict"):
            prepare_torch(lab.step(step, threads=count).compute)
            assert torch.get_num_threads() == count
        assert job_threads(lab.experiment(threads=count), 8) == count


def compute_workers(lab: Lab) -> None:
    patches = []
    for count in (0, 1):
        loader = batches(lab.task(workers=count), 1)
        patches.append(next(loader)[0])
        assert len(multiprocessing.active_children()) == count
        del loader
    assert torch.equal(patches[0], patches[1])
    assert lab.task(workers="auto").compute.workers == 0, "on the CPU"


def compute_devices(lab: Lab) -> None:
    digests, shares = set(), []
    for count in (1, 2):
        root = lab.root(devices=count)
        experiment = load_step(paths.step_config(root, "train-dynunet"))
        team = Team(0, count, 0)
        planned = plan_run(experiment, RUN, read_folds(paths.folds(root)), root, team)
        digests.add(planned.run_digest)
        shares.append(next(batches(planned.task, 1))[0].shape[0])
    assert len(digests) == 2
    assert shares == [2, 1]
    with pytest.raises(MinivessError, match=r"compute\.devices=2"):
        lab.planned(devices=2)  # a process alone
    with pytest.raises(MinivessError, match=r"patches\.batch_size=3"):
        check_uses(lab.experiment(devices=3))  # said before anything runs


# inference


def predicted(lab: Lab, **overrides: Any) -> tuple[list[tuple[int, ...]], np.ndarray, np.ndarray]:
    """Shapes of the batches that the network saw, probability and mask."""
    network, root = Recording(), lab.root(**overrides)
    config = load_step(paths.step_config(root, "predict"))
    case = open_case(paths.preprocessed_case(root, "phantom_001"))
    trained = TrainedNetwork(network, (8, 8, 4), (1, 1, 1))
    probability, mask = predict_case(trained, case, config.inference, config.compute)
    return network.seen, probability, mask


def inference_window_size(lab: Lab) -> None:
    assert {shape[2:] for shape in predicted(lab)[0]} == {(8, 8, 4)}
    assert {shape[2:] for shape in predicted(lab, window_size=[16, 8, 8])[0]} == {(16, 8, 8)}


def inference_overlap(lab: Lab) -> None:
    counts = [sum(s[0] for s in predicted(lab, overlap=overlap)[0]) for overlap in (0, 0.5)]
    assert counts == [2 * 2 * 2, 3 * 3 * 3]


def inference_window_batch(lab: Lab) -> None:
    for size in (1, 4):
        assert {shape[0] for shape in predicted(lab, overlap=0, window_batch=size)[0]} == {size}


def inference_probability_threshold(lab: Lab) -> None:
    for threshold in (0.2, 0.8):
        _, probability, mask = predicted(lab, probability_threshold=threshold)
        assert np.array_equal(mask, probability > threshold)
        assert 0 < mask.mean() < 1


# evaluation


def evaluation_nsd_tolerance_um(lab: Lab) -> None:
    scores = []
    for tolerance in (0.1, 100):
        root = lab.root(nsd_tolerance_um=tolerance)
        case = open_case(paths.preprocessed_case(root, "phantom_001"))
        mask = np.roll(np.asarray(case.label) > 0, 2, axis=0)
        write_prediction(paths.run_folder(root, RUN), case, mask.astype(np.float32), mask)
        analyze.evaluate(root, RUN, "phantom_001")
        table = tables.read("cases", paths.case_metrics(paths.run_folder(root, RUN), case.case))
        scores.append(table.filter(table["metric"] == "nsd")["value"].item())
    assert scores[0] < scores[1] == 1


# ensembles


def cooked(lab: Lab, **overrides: Any) -> Path:
    """The folder of the ensembles of fold 0 of two seeds.

    Their networks are trained only where what a training keeps is needed.
    """
    root = lab.root(seeds=[0, 1], **overrides)
    config = load_step(paths.step_config(root, "predict"))
    fold = read_folds(paths.folds(root)).folds[0]
    for seed in (0, 1):
        run = RunKey(RUN.model, RUN.loss, seed, 0)
        experiment = load_step(paths.step_config(root, "train-dynunet"))
        plan = plan_run(experiment, run, read_folds(paths.folds(root)), root)
        with torch_seeded(seed, "test"):
            weights = weights_of(plan.task.adapter.build())
        result = TrainingResult(weights, 1, 0.5, [{"epoch": 1.0}])
        if plan.task.training.keeps_weights():
            result = fit(plan.task, root / f"state{seed}", lambda row: None)
        folder = paths.run_folder(root, run)
        write_run(experiment, plan, result, folder)
        for name in fold.validation:
            case, trained = open_case(paths.preprocessed_case(root, name)), load_network(folder)
            found = predict_case(trained, case, config.inference, config.compute)
            write_prediction(folder, case, *found)
    steps_ensembles.ensembles(root, RUN.model, RUN.loss, 0)
    return paths.ensembles(root, RUN.model, RUN.loss, 0)


def ensembles_kinds(lab: Lab) -> None:
    kinds = ["mean", "vote", "uniform_soup", "greedy_soup"]
    for chosen in (kinds[:1], kinds):
        folder = cooked(lab, kinds=chosen)
        table = tables.read("ensembles", paths.ensembles_metrics(folder))
        assert set(table["model"]) == {f"dynunet+{kind}" for kind in chosen}
        assert table.filter(table["metric"] == "dice").height == 2 * len(chosen)
        files = {path for path in folder.rglob("*") if path.is_file()}
        config = EnsemblesConfig.model_validate({"kinds": chosen})
        runs = [RunKey(RUN.model, RUN.loss, seed, 0) for seed in (0, 1)]
        cases = table["case"].unique().to_list()
        volumes = ensemble_volumes(folder.parents[3], runs, lambda fold: cases, config)  # noqa: B023
        record = paths.ensembles_record(folder)
        assert files == {*volumes, record, paths.ensembles_metrics(folder)}
        listed = json.loads(record.read_text(encoding="utf-8"))["files"]
        assert {folder / name for name in listed} == set(volumes)
        forget_incomplete_ensembles(folder.parents[3])
        assert record.exists()
        volumes[-1].unlink()
        forget_incomplete_ensembles(folder.parents[3])
        assert not record.exists()
    with pytest.raises(MinivessError, match="at least two") as caught:
        check_uses(lab.experiment(kinds=["mean"]))
    assert caught.value.code == "MV-CONFIG-004"


SWAG: dict[str, Any] = {"epochs": 2, "patches_per_epoch": 2, "swa_start": 1, "swag_rank": 2}


def ensembles_within_a_training(lab: Lab) -> None:
    folder = cooked(lab, kinds=["swa", "swag"], swag_samples=2, **SWAG)
    table = tables.read("ensembles", paths.ensembles_metrics(folder))
    dice = table.filter(table["metric"] == "dice")
    assert sorted(dice.select("model", "seed").unique().rows()) == [
        (f"dynunet+{kind}", seed) for kind in ("swa", "swag") for seed in (0, 1)
    ]
    assert len(list(folder.glob("swa/seed1/predictions/*.nii.gz"))) == 2 * 2
    assert len(list(folder.glob("swag/seed1/predictions/*.nii.gz"))) == 2 * 5
    folder = cooked(lab, kinds=["snapshot"], epochs=2, patches_per_epoch=2, snapshot_cycles=2)
    assert entries(folder)[1]["snapshots"] == 2


def entries(folder: Path) -> list[dict[str, Any]]:
    record = json.loads(paths.ensembles_record(folder).read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = record["ensembles"]
    return found


def spread(folder: Path, kind: str) -> float:
    """Sum of the mutual information of all cases of the first seed."""
    files = folder.glob(f"{kind}/seed0/predictions/*_mutual_information.nii.gz")
    return float(sum(nib.load(file).get_fdata().sum() for file in files))


def ensembles_mc_passes(lab: Lab) -> None:
    dropout = {"models__dynunet__dropout": 0.3, "kinds": ["mc_dropout"]}
    few, again, many = (cooked(lab, mc_passes=count, **dropout) for count in (2, 2, 4))
    assert [entry["passes"] for entry in entries(few) + entries(many)] == [2, 2, 4, 4]
    assert 0 < spread(few, "mc_dropout") == spread(again, "mc_dropout")
    assert spread(few, "mc_dropout") != spread(many, "mc_dropout")


def ensembles_swag_samples(lab: Lab) -> None:
    few, many = (cooked(lab, kinds=["swag"], swag_samples=n, **SWAG) for n in (2, 3))
    assert [entry["samples"] for entry in entries(few) + entries(many)] == [2, 2, 3, 3]
    assert spread(few, "swag") != spread(many, "swag")


def ensembles_kinds_and_within(lab: Lab) -> None:
    ensembles_kinds(lab)
    ensembles_within_a_training(lab)


def ensembles_uncertainty_maps(lab: Lab) -> None:
    for wanted, count in ((True, 3), (False, 0)):
        folder = cooked(lab, kinds=["mean"], uncertainty_maps=wanted)
        assert len(list(folder.glob("mean/seed0/predictions/*entropy.nii.gz"))) == 2 * (
            2 if wanted else 0
        )
        assert len(list(folder.glob("mean/seed0/predictions/*.nii.gz"))) == 2 * (2 + count)


def evaluation_junction_tolerance_um(lab: Lab) -> None:
    scores = []
    for tolerance in (0.5, 100):
        root = lab.root(junction_tolerance_um=tolerance)
        case = open_case(paths.preprocessed_case(root, "phantom_001"))
        fork = np.zeros(case.label.shape, dtype=bool)
        middle = [size // 2 for size in fork.shape]
        fork[1:-1, middle[1], middle[2]] = True
        fork[middle[0], 1 : middle[1], middle[2]] = True
        np.save(paths.preprocessed_case(root, case.case) / "label.npy", fork.astype(np.uint8))
        mask = np.roll(fork, 2, axis=0)
        write_prediction(paths.run_folder(root, RUN), case, mask.astype(np.float32), mask)
        analyze.evaluate(root, RUN, "phantom_001")
        table = tables.read("cases", paths.case_metrics(paths.run_folder(root, RUN), case.case))
        scores.append(table.filter(table["metric"] == "junction_f1")["value"].item())
    assert scores == [0, 1]


# statistics


def compared(lab: Lab, **overrides: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    root = lab.compared(**overrides)
    summary = tables.read("summary", paths.table(root, "summary"))
    return summary, tables.read("comparison", paths.table(root, "comparison"))


def statistics_plan(lab: Lab) -> None:
    file = lab.plan_file()
    for table in compared(lab, statistics__plan=str(file)):
        assert set(table["plan_sha256"]) == {provenance.file_sha256(file)}


def test_results_under_two_analysis_files_are_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(analyze, "say", told.append)
    first, second = lab.plan_file(), lab.plan_file(alpha=0.01)
    root = lab.compared(statistics__plan=str(first))
    analyze.note_plan(root, lab.experiment(statistics__plan=str(first)).statistics.plan)
    assert told == []
    analyze.note_plan(root, lab.experiment(statistics__plan=str(second)).statistics.plan)
    assert f"made with {first.stem} ({provenance.file_sha256(first)[:16]})" in told[0]
    kept = json.loads(paths.analysis_files(root).read_text(encoding="utf-8"))
    assert [entry["name"] for entry in kept] == [first.stem, second.stem]


def statistics_bootstrap_resamples(lab: Lab) -> None:
    few, many = (compared(lab, bootstrap_resamples=count) for count in (99, 199))
    assert not few[0].equals(many[0])
    assert few[1]["p_value"].equals(many[1]["p_value"])


def statistics_permutation_resamples(lab: Lab) -> None:
    """P-values are multiples of 1 in (resamples + 1), or of 1 in 2 ** 14 where all are done."""
    for resamples, steps in ((99, 100), (2**14, 2**14)):
        p_values = compared(lab, permutation_resamples=resamples)[1]["p_value"].to_numpy()
        assert np.allclose(p_values * steps, np.round(p_values * steps), atol=1e-6)
    assert not np.allclose(p_values * 100, np.round(p_values * 100), atol=1e-6)


def statistics_posterior_samples(lab: Lab) -> None:
    """Probabilities are multiples of one in the samples."""
    for samples in (7, 11):
        table = compared(lab, posterior_samples=samples)[1].filter(pl.col("metric") == "dice")
        times = samples * table.select("p_left", "p_rope", "p_right").to_numpy()
        assert np.allclose(times, np.round(times))


def statistics_seed(lab: Lab) -> None:
    first, again, other = (compared(lab, statistics_seed=seed) for seed in (0, 0, 1))
    assert first[0].equals(again[0])
    assert not first[0].equals(other[0])
    assert not first[1].equals(other[1])


# analysis


def planned(lab: Lab, **changes: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables summary and comparison under an analysis file with other keys."""
    return compared(lab, statistics__plan=str(lab.plan_file(**changes)))


def analysis_primary_metric(lab: Lab) -> None:
    shown: dict[str, list[bytes]] = {}
    metrics = {"dice": "differences in Dice", "cldice": "differences in clDice"}
    for metric, label in metrics.items():
        others = [name for name in metrics if name != metric]
        file = lab.plan_file(primary_metric=metric, secondary_metrics=others)
        root = lab.compared(statistics__plan=str(file))
        numbers = json.loads(paths.summary(root).read_text(encoding="utf-8"))
        assert numbers["primary_metric"] == metric
        assert label in paths.summary_text(root).read_text(encoding="utf-8")
        for figure in ("paired_cases", "critical_difference", "fold_heatmap", "qualitative"):
            drawn = draw(lab, figure, root, statistics__plan=str(file))
            shown.setdefault(figure, []).append(drawn)
    assert all(first != second for first, second in shown.values())


def analysis_secondary_metrics(lab: Lab) -> None:
    comparison = planned(lab, secondary_metrics=["masd_um"])[1]
    assert comparison["metric"].to_list() == ["dice", "masd_um"]


def analysis_against(lab: Lab) -> None:
    differences = {}
    for arm in ("dynunet/dice_ce", "dynunet/cbdice_cldice"):
        row = planned(lab, against=arm)[1].row(0, named=True)
        assert f"{row['model_b']}/{row['loss_b']}" == arm
        differences[arm] = row["difference"]
    assert sum(differences.values()) == pytest.approx(0)
    with pytest.raises(MinivessError, match="dice_cee"):
        check_uses(lab.experiment(statistics__plan=str(lab.plan_file(against="dynunet/dice_cee"))))


def analysis_alternative(lab: Lab) -> None:
    against = "dynunet/cbdice_cldice"
    (two, one), (two_distance, one_distance) = (
        [
            planned(lab, primary_metric=metric, against=against, alternative=kind, rope={})[1]
            .filter(pl.col("metric") == metric)
            .row(0, named=True)
            for kind in ("two_sided", "better")
        ]
        for metric in ("dice", "masd_um")
    )
    assert two["difference"] > 0
    assert two_distance["difference"] > 0
    assert one["p_wilcoxon"] < two["p_wilcoxon"]
    assert one["p_value"] < two["p_value"] + 0.05
    assert one_distance["p_value"] > 0.5  # a larger distance is worse
    assert one_distance["p_wilcoxon"] > 0.5


def analysis_alpha(lab: Lab) -> None:
    narrow, wide = (planned(lab, alpha=level)[0] for level in (0.5, 0.05))
    assert (narrow["ci_high"] < wide["ci_high"]).all()
    assert (narrow["ci_low"] > wide["ci_low"]).all()


def analysis_correction(lab: Lab) -> None:
    for correction, author in (("holm", "Holm"), ("benjamini_hochberg", "Benjamini")):
        root = lab.compared(statistics__plan=str(lab.plan_file(correction=correction)))
        assert f"after {author}" in paths.summary_text(root).read_text(encoding="utf-8")
    p_values = [0.01, 0.02, 0.03]
    assert adjusted(p_values, "holm") == pytest.approx([0.03, 0.04, 0.04])
    assert adjusted(p_values, "benjamini_hochberg") == pytest.approx([0.03, 0.03, 0.03])


def analysis_rope(lab: Lab) -> None:
    for width, inside in ((1e-6, False), (10.0, True)):
        row = planned(lab, rope={"dice": width})[1].filter(pl.col("metric") == "dice")
        assert row["rope"].item() == width
        assert (row["p_rope"].item() > 0.99) is inside


def analysis_power(lab: Lab) -> None:
    least = []
    for power in (0.5, 0.9):
        root = lab.compared(statistics__plan=str(lab.plan_file(power=power)))
        table = tables.read("power", paths.table(root, "power"))
        assert set(table["power"]) == {power}
        least.append(table["least_difference"][0])
    assert least[0] < least[1]


def analysis_resampling(lab: Lab) -> None:
    methods = set()
    ends = set()
    for kind in ("cases_within_folds", "groups_within_folds", "cases"):
        summary, comparison = planned(lab, resampling=kind)
        methods |= set(summary["ci_method"]) | set(comparison["ci_method"])
        ends.add(comparison["ci_low"][0])
    assert methods == {"BCa within folds", "hierarchical", "BCa"}
    assert len(ends) == 3


# calibration and conformal


def calibrated(lab: Lab, monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> Path:
    """A root after the calibrate step of a run whose network is too certain of each voxel."""
    small = {"conformal__alphas": [0.5], "n_folds": 2, "local_steps": 4}
    root = lab.root(**{**small, **overrides})
    data.folds(root)
    certain = Recording()
    torch.nn.init.constant_(certain.scale, 4.0)
    network = TrainedNetwork(certain, (8, 8, 4), (1, 1, 1))
    monkeypatch.setattr("minivess.inference.predict.load_network", lambda folder: network)
    config = load_step(paths.step_config(root, "predict"))
    for case in read_folds(paths.folds(root)).folds[RUN.fold].validation:
        prepared = open_case(paths.preprocessed_case(root, case))
        made = predict_case(network, prepared, config.inference, config.compute)
        write_prediction(paths.run_folder(root, RUN), prepared, *made)
    calibrate.calibrate(root, RUN)
    return root


def calibrators(lab: Lab, monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> dict[str, Any]:
    root = calibrated(lab, monkeypatch, **overrides)
    record = json.loads(paths.calibrators(paths.run_folder(root, RUN)).read_bytes())
    fitted = record["calibrators"]
    assert isinstance(fitted, dict)
    return fitted


def run_table(root: Path, name: str) -> pl.DataFrame:
    return tables.read(name, paths.run_table(paths.run_folder(root, RUN), name))


def calibration_methods(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for methods in (["isotonic"], ["temperature", "isotonic"]):
        root = calibrated(lab, monkeypatch, methods=methods)
        found = json.loads(paths.calibrators(paths.run_folder(root, RUN)).read_bytes())[
            "calibrators"
        ]
        assert set(found) == set(methods)
        for name in ("calibration", "reliability"):
            assert set(run_table(root, name)["calibrator"]) == {"none", *methods}


def test_without_selection_cases_no_calibrator_is_fitted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = calibrated(lab, monkeypatch, selection_fraction=0)
    record = json.loads(paths.calibrators(paths.run_folder(root, RUN)).read_bytes())
    assert record == {"fitted_on": [], "calibrators": {}}
    assert set(run_table(root, "calibration")["fitted_on"]) == {""}
    for name in ("calibration", "reliability"):
        assert set(run_table(root, name)["calibrator"]) == {"none"}
    assert set(run_table(root, "conformal")["status"]) == {"ok"}


def calibration_fitted_voxels(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    corners = [
        calibrators(lab, monkeypatch, fitted_voxels=count)["isotonic"]["probability"]
        for count in (20, 2000)
    ]
    assert len(corners[0]) <= 20 < len(corners[1])


def calibration_seed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (
        calibrators(lab, monkeypatch, fitted_voxels=200, calibration_seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert all(first[name] != other[name] for name in ("temperature", "isotonic"))


def local_weights(lab: Lab, monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> np.ndarray:
    return np.array(calibrators(lab, monkeypatch, **overrides)["local_temperature"]["weights"])


def calibration_local_steps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    one, three = (
        local_weights(lab, monkeypatch, local_steps=steps, local_learning_rate=0.0001)
        for steps in (1, 3)
    )
    assert 0 < np.abs(one).max() < np.abs(three).max()


def calibration_local_learning_rate(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = (
        local_weights(lab, monkeypatch, local_steps=1, local_learning_rate=rate)
        for rate in (0.0001, 0.0003)
    )
    assert np.abs(slow).max() > 0
    assert np.abs(fast).max() == pytest.approx(3 * np.abs(slow).max(), rel=0.01)


def calibration_reliability_bins(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = []
    for count in (5, 8):
        root = calibrated(lab, monkeypatch, reliability_bins=count)
        assert set(run_table(root, "reliability")["bin"]) == set(range(count))
        scores.append(run_table(root, "calibration"))
    assert scores[0].equals(scores[1])


def conformal_alphas(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    root = calibrated(lab, monkeypatch, conformal__alphas=[0.05, 0.7])
    table = run_table(root, "conformal")
    assert dict(table.select("alpha", "status").iter_rows()) == {0.05: "too_few_cases", 0.7: "ok"}


def conformal_covered_share(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    loose, tight = (
        run_table(calibrated(lab, monkeypatch, covered_share=share), "conformal")
        for share in (0.5, 1.0)
    )
    for method, changes in (("threshold", False), ("outer_margin", True), ("inner_margin", True)):
        levels = [one.filter(method=method)["level"].to_list() for one in (loose, tight)]
        assert (levels[0] != levels[1]) == changes, method


def conformal_seed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {
        tuple(
            run_table(calibrated(lab, monkeypatch, conformal_seed=seed), "conformal")[
                "calibrated_on"
            ]
        )
        for seed in range(4)
    }
    assert len(splits) > 1


# figures


def draw(lab: Lab, figure: str, tables_of: Path, **overrides: Any) -> bytes:
    """The SVG that the figure step makes of six cases and the tables of another root."""
    root = lab.root(losses=["cbdice_cldice", "dice_ce"], **overrides)
    shutil.copytree(tables_of / "tables", root / "tables")
    shown = lab.cases.filter(lab.cases["case"].is_in(CASES))
    shown.write_parquet(paths.table(root, "cases"))
    runs = shown.select("experiment", "model", "loss", "seed", "fold").unique().to_dicts()
    rows: list[dict[str, object]] = [
        {**run, "epoch": epoch, "name": name, "value": 1 / epoch}
        for run in runs
        for epoch in (1, 2, 3)
        for name in ("train/loss", "selection/dice")
    ]
    tables.from_rows("history", rows).write_parquet(paths.table(root, "history"))
    bins: list[dict[str, object]] = [
        {
            **run,
            "case": "phantom_001",
            "calibrator": "none",
            "bin": 0,
            "n_voxels": 9,
            "probability": 0.5,
            "observed": 0.4,
        }
        for run in runs
    ]
    tables.from_rows("reliability", bins).write_parquet(paths.table(root, "reliability"))
    for row in shown.filter(shown["metric"] == "dice").iter_rows(named=True):
        case = open_case(paths.preprocessed_case(root, row["case"]))
        mask = np.roll(np.asarray(case.label) > 0, 1, axis=0)
        run = RunKey(row["model"], row["loss"], row["seed"], row["fold"])
        write_prediction(paths.run_folder(root, run), case, mask.astype(np.float32), mask)
    report.figure(root, figure)
    return paths.figure(root, figure, "svg").read_bytes()


def figures_colors(lab: Lab) -> None:
    root, chosen = lab.compared(), ["#12ab34", "#ab1234"]
    for figure, keys_of in figure_keys().items():
        if "colors" in keys_of:
            drawn = draw(lab, figure, root, **{f"figures__{figure}__colors": chosen})
            if figure == "qualitative":  # its colours are in pixels
                assert drawn != draw(lab, figure, root)
            else:
                assert b"#12ab34" in drawn, figure


def figures_width_mm(lab: Lab) -> None:
    root = lab.compared()
    for figure in figure_keys():
        svg = draw(lab, figure, root, **{f"figures__{figure}__width_mm": 62.5})
        found = re.search(rb'width="([0-9.]+)pt"', svg)
        assert found is not None
        assert float(found[1]) == pytest.approx(62.5 / 25.4 * 72, abs=0.01), figure


def figure_keys() -> dict[str, set[str]]:
    """The keys of each figure's section."""
    looks: dict[str, Any] = {n: field.annotation for n, field in FiguresConfig.model_fields.items()}
    return {figure: set(look.model_fields) for figure, look in looks.items()}


# deploy


def measured(difference: float, dice: float) -> dict[str, Any]:
    """A parity report of one case."""
    found = {"max_difference": difference, "min_dice": dice}
    full = {**found, "cases": {"a": {"max_difference": difference}}}
    return {"run": str(RUN), "profile": "strict", "variants": {"float32": full}}


def deploy_parity_difference(lab: Lab) -> None:
    check_parity(measured(1e-4, 1.0), lab.step("deploy").deploy, "x")
    with pytest.raises(MinivessError, match="MV-DEPLOY-002"):
        check_parity(measured(1e-4, 1.0), lab.step("deploy", parity_difference=1e-5).deploy, "x")


def deploy_parity_dice(lab: Lab) -> None:
    check_parity(measured(0.0, 0.9999), lab.step("deploy").deploy, "x")
    with pytest.raises(MinivessError, match="MV-DEPLOY-002"):
        check_parity(measured(0.0, 0.9999), lab.step("deploy", parity_dice=1.0).deploy, "x")


def small_winner(root: Path) -> Winner:
    network = {"config": {"filters": [4, 8, 8]}, "spacing_um": [1, 1, 5], "patch_size": [16, 16, 8]}
    entry = {"weights_sha256": "0" * 64}
    record = {"network": network, "cases": {"selection": []}}
    return Winner(str(RUN), ("balanced",), {"balanced": entry}, paths.run_folder(root, RUN), record)


def deploy_licence(lab: Lab) -> None:
    root = lab.root(licence="cc-by-4.0")
    config = load_step(paths.step_config(root, "deploy"))
    made = described(root, small_winner(root), "balanced", config, (), config.deploy.licence)
    facts = CardFacts("", "", {"loss": "dice_ce"}, "phantom", [], {"manifest": "x"}, {}, {}, [])
    assert front_matter(made, facts)["license"] == "cc-by-4.0"


def deploy_variants(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lab.root(variants=["fp16"])
    trained = TrainedNetwork(torch.nn.Identity(), (16, 16, 8), (4, 4, 1), True)
    monkeypatch.setattr(deploy, "_winners", lambda root: [small_winner(root)])
    monkeypatch.setattr("minivess.inference.predict.load_network", lambda run: trained)
    monkeypatch.setattr("minivess.deploy.onnx.export_network", lambda *_: small_network())
    deploy.export(root)
    names = {file.name for file in paths.bundle(root, "balanced").iterdir()}
    assert names == {"model.onnx", "model.fp16.onnx"}


CHECKS: dict[tuple[str, str], Callable[..., None]] = {
    ("deploy", "licence"): deploy_licence,
    ("deploy", "parity_difference"): deploy_parity_difference,
    ("deploy", "parity_dice"): deploy_parity_dice,
    ("deploy", "variants"): deploy_variants,
    ("", "name"): name,
    ("", "losses"): losses,
    ("", "seeds"): seeds,
    ("data", "source"): data_source,
    ("data", "path"): data_path,
    ("data", "spacing_um"): data_spacing_um,
    ("data", "spacing_unit"): data_spacing_unit,
    ("data", "vessel_labels"): data_vessel_labels,
    ("data", "exclude"): data_exclude,
    ("data", "origin"): data_origin,
    ("phantom", "n_cases"): phantom_n_cases,
    ("phantom", "phantom_shape"): phantom_shape,
    ("phantom", "phantom_spacing_um"): phantom_spacing_um,
    ("phantom", "n_trees"): phantom_n_trees,
    ("phantom", "photons"): phantom_photons,
    ("phantom", "phantom_seed"): phantom_seed,
    ("preprocess", "normalisation"): preprocess_normalisation,
    ("preprocess", "clip_percentiles"): preprocess_clip_percentiles,
    ("folds", "n_folds"): folds_n_folds,
    ("folds", "folds_seed"): folds_seed,
    ("folds", "folds_file"): folds_file,
    ("folds", "selection_fraction"): folds_selection_fraction,
    ("folds", "test_cases"): folds_test_cases,
    ("patches", "patch_size"): patches_patch_size,
    ("patches", "batch_size"): patches_batch_size,
    ("patches", "patches_per_epoch"): patches_patches_per_epoch,
    ("patches", "foreground_fraction"): patches_foreground_fraction,
    ("augment", "flip_probability"): augment_flip_probability,
    ("augment", "affine_probability"): augment_affine_probability,
    ("augment", "rotation_degrees"): augment_rotation_degrees,
    ("augment", "zoom"): augment_zoom,
    ("augment", "blur_probability"): augment_blur,
    ("augment", "blur_sigma_um"): augment_blur,
    ("augment", "low_resolution_probability"): augment_low_resolution,
    ("augment", "low_resolution_factor"): augment_low_resolution,
    ("augment", "brightness_probability"): augment_brightness,
    ("augment", "brightness_range"): augment_brightness,
    ("augment", "contrast_probability"): augment_contrast,
    ("augment", "contrast_range"): augment_contrast,
    ("augment", "gamma_method"): augment_gamma_method,
    ("augment", "gamma_invert_probability"): augment_gamma_method,
    ("augment", "noise_probability"): augment_noise,
    ("augment", "noise_std"): augment_noise,
    ("augment", "gamma_probability"): augment_gamma,
    ("augment", "gamma_log_range"): augment_gamma,
    ("model", "architecture"): model_architecture,
    ("model", "filters"): model_filters,
    ("model", "deep_supervision"): model_deep_supervision,
    ("model", "dropout"): model_dropout,
    ("model", "profile"): model_profile,
    ("patches", "pad_thin"): patches_pad_thin,
    ("model", "init_filters"): model_init_filters,
    ("model", "blocks_down"): model_blocks_down,
    ("model", "weights"): model_weights,
    ("model", "class_prompt"): model_class_prompt,
    ("model", "embed_dim"): model_embed_dim,
    ("model", "encoder"): model_encoder,
    ("model", "upscale"): model_upscale,
    ("model", "lora_rank"): model_lora_rank,
    ("model", "lora_alpha"): model_lora_alpha,
    ("loss", "skeleton_iterations"): loss_skeleton_iterations,
    ("loss", "smooth"): loss_smooth,
    ("loss", "tversky_alpha"): loss_of("tversky", "loss__tversky_alpha"),
    ("loss", "tversky_beta"): loss_of("tversky", "loss__tversky_beta"),
    ("loss", "focal_gamma"): loss_of("focal", "loss__focal_gamma"),
    ("loss", "boundary_weight"): loss_of("generalized_dice_boundary", "loss__boundary_weight"),
    ("loss", "ace_weight"): loss_of("dice_ce_hl1ace", "loss__ace_weight"),
    ("loss", "ace_bins"): loss_of("dice_ce_hl1ace", "loss__ace_bins"),
    ("training", "epochs"): training_epochs,
    ("training", "learning_rate"): training_learning_rate,
    ("training", "weight_decay"): training_weight_decay,
    ("training", "warmup_fraction"): training_warmup_fraction,
    ("training", "gradient_clip"): training_gradient_clip,
    ("training", "selection_every"): training_selection_every,
    ("training", "selection_overlap"): training_selection_overlap,
    ("training", "optimizer"): changes_the_weights("optimizer", "sgd"),
    ("training", "momentum"): changes_the_weights("momentum", 0.5, optimizer="sgd"),
    ("training", "schedule"): changes_the_weights("schedule", "constant"),
    ("training", "accumulate"): changes_the_weights("accumulate", 2),
    ("training", "ema_decay"): changes_the_weights("ema_decay", 0.5),
    ("training", "warm_start"): training_warm_start,
    ("training", "selection_metrics"): training_selection_metrics,
    ("training", "checkpoint_metric"): training_checkpoint_metric,
    ("training", "patience"): training_patience,
    ("training", "stopping_metric"): training_stopping_metric,
    ("training", "swa_start"): training_swa_start,
    ("training", "swa_learning_rate"): training_swa_learning_rate,
    ("training", "swag_rank"): training_swag_rank,
    ("training", "snapshot_cycles"): training_snapshot_cycles,
    ("compute", "compile"): compute_compile,
    ("compute", "profile"): compute_profile,
    ("compute", "device"): compute_device,
    ("compute", "threads"): compute_threads,
    ("compute", "workers"): compute_workers,
    ("compute", "devices"): compute_devices,
    ("inference", "window_size"): inference_window_size,
    ("inference", "overlap"): inference_overlap,
    ("inference", "window_batch"): inference_window_batch,
    ("inference", "probability_threshold"): inference_probability_threshold,
    ("evaluation", "nsd_tolerance_um"): evaluation_nsd_tolerance_um,
    ("ensembles", "kinds"): ensembles_kinds_and_within,
    ("ensembles", "mc_passes"): ensembles_mc_passes,
    ("ensembles", "swag_samples"): ensembles_swag_samples,
    ("ensembles", "uncertainty_maps"): ensembles_uncertainty_maps,
    ("statistics", "plan"): statistics_plan,
    ("evaluation", "junction_tolerance_um"): evaluation_junction_tolerance_um,
    ("statistics", "bootstrap_resamples"): statistics_bootstrap_resamples,
    ("statistics", "permutation_resamples"): statistics_permutation_resamples,
    ("statistics", "statistics_seed"): statistics_seed,
    ("statistics", "posterior_samples"): statistics_posterior_samples,
    ("analysis", "primary_metric"): analysis_primary_metric,
    ("analysis", "secondary_metrics"): analysis_secondary_metrics,
    ("analysis", "against"): analysis_against,
    ("analysis", "alternative"): analysis_alternative,
    ("analysis", "alpha"): analysis_alpha,
    ("analysis", "correction"): analysis_correction,
    ("analysis", "rope"): analysis_rope,
    ("analysis", "resampling"): analysis_resampling,
    ("calibration", "methods"): calibration_methods,
    ("calibration", "fitted_voxels"): calibration_fitted_voxels,
    ("calibration", "calibration_seed"): calibration_seed,
    ("calibration", "local_steps"): calibration_local_steps,
    ("calibration", "local_learning_rate"): calibration_local_learning_rate,
    ("calibration", "reliability_bins"): calibration_reliability_bins,
    ("conformal", "alphas"): conformal_alphas,
    ("conformal", "covered_share"): conformal_covered_share,
    ("conformal", "conformal_seed"): conformal_seed,
    ("analysis", "power"): analysis_power,
    ("figures", "colors"): figures_colors,
    ("figures", "width_mm"): figures_width_mm,
    **{("external", key): external for key in DataConfig.model_fields},
}


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in keys()])
def test_the_key_reaches_what_it_names(
    section: str, key: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (section, key) in CHECKS, "a new key needs a check here that it reaches something"
    check = CHECKS[section, key]
    known = {"lab": lab, "monkeypatch": monkeypatch}
    check(**{name: known[name] for name in inspect.signature(check).parameters})


def test_every_check_is_of_a_key() -> None:
    assert set(CHECKS) <= {(section, key) for section, key, _ in keys()}


def test_every_network_of_the_experiment_is_trained(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"small": {"filters": [4, 4, 4]}, "large": {"filters": [8, 8, 8]}}
    plan = lab.plan(monkeypatch, models=models)
    assert {run.model for run in plan.runs()} == {"dynunet", "small", "large"}
    files = {path.stem for path in (plan.root / "config").glob("train-*.yaml")}
    assert files == {"train-dynunet", "train-small", "train-large"}


def test_every_figure_has_its_section_and_every_section_its_figure() -> None:
    assert set(figure_keys()) == set(FIGURES)
