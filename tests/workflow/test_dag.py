"""The real DAG on a tiny phantom: complete, and minimal in what it repeats."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from workbench import TINY, Workbench, copy_project, kill_group, planned_rules

from minivess import paths
from minivess.config.schema import FoldsConfig
from minivess.data.folds import make_folds
from minivess.data.manifest import read_manifest
from minivess.types import RunKey

pytestmark = pytest.mark.dag

DOWNSTREAM = {
    "track",
    "export",
    "compare",
    "champion",
    "calibrate",
    "coverage",
    "figure",
    "digests",
    "report",
}
PLANNED_LATER = "is planned only then: the same call goes on with it."
RUNS = [RunKey("tiny", loss, 0, fold) for loss in ("dice_ce", "cbdice") for fold in (0, 1)]


@pytest.fixture
def copied(finished: Workbench, tmp_path: Path) -> Workbench:
    """A finished experiment of one's own to change."""
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    return Workbench(tmp_path / "work")


@pytest.fixture
def own_project(copied: Workbench, tmp_path: Path) -> Workbench:
    """The same, with a copy of the project's code to change."""
    return Workbench(copied.folder, copy_project(copied.project, tmp_path / "project"))


def test_everything_is_made(finished: Workbench) -> None:
    root = finished.root
    summary = json.loads((root / "tables" / "summary.json").read_text(encoding="utf-8"))
    assert summary["n_cases"] == TINY["phantom"]["n_cases"]
    assert [arm["loss"] for arm in summary["arms"]] == TINY["losses"]
    cases = pl.read_parquet(root / "tables" / "cases.parquet")
    # Every case is held out once for each loss.
    assert cases.filter(pl.col("metric") == "dice").height == 2 * summary["n_cases"]
    champions = json.loads((root / "champions.json").read_text(encoding="utf-8"))["champions"]
    assert set(champions) == {"overlap", "topology", "balanced"}
    assert {one["loss"] for one in champions.values()} <= set(TINY["losses"])
    for name in ("loss_comparison", "paired_cases", "fold_heatmap", "qualitative"):
        assert (root / "figures" / f"{name}.svg").stat().st_size > 1000
    report = (root / "report.html").read_text(encoding="utf-8")
    assert "loss_comparison" in report


def test_the_digests_are_complete_and_what_coreutils_reads(finished: Workbench) -> None:
    # The config of a step is an input of the DAG, the phantom's list of cases is for people; all
    # else that is there is listed.
    others = ("config/", "data/phantom/cases.csv")
    there = {
        name: digest for name, digest in finished.digests().items() if not name.startswith(others)
    }
    assert finished.recorded() == there
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("the program sha256sum is missing")
    done = subprocess.run(
        [program, "--check", "--strict", "SHA256SUMS"],
        cwd=finished.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK") == len(there)


def test_second_call_does_nothing(finished: Workbench) -> None:
    assert finished.planned() == set()
    assert "Nothing to be done" in finished.complete()


def test_mlflow_has_every_run_once_and_finished(finished: Workbench) -> None:
    from minivess.tracking.export import export_tables

    uri = f"sqlite:///{finished.folder}/mlflow.db"
    tables = export_tables(uri, "tiny", RUNS)
    assert tables["runs"]["status"].to_list() == ["FINISHED"] * 4
    assert tables["history"].filter(pl.col("name") == "train/loss").height == 4 * 2
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 4
    for run in runs:
        assert run.data.tags["minivess.git_commit"]
        assert run.data.params["sys_torch"]


def test_predictions_have_the_geometry_of_their_source(finished: Workbench) -> None:
    import nibabel
    import numpy as np

    for fold, run in enumerate(RUNS[:2]):
        folder = finished.root / "runs" / str(run) / "predictions"
        masks = [path for path in folder.iterdir() if "probability" not in path.name]
        assert len(masks) == 2, fold
        for path in masks:
            mask = nibabel.load(path)
            source = nibabel.load(finished.root / "data" / "phantom" / "images" / path.name)
            assert mask.shape == source.shape
            assert np.array_equal(mask.affine, source.affine)
            assert mask.header.get_xyzt_units()[0] == "micron"


def test_a_colour_remakes_only_its_figure(copied: Workbench) -> None:
    copied.write_config(figures={"paired_cases": {"colors": ["#112233", "#445566"]}})
    assert copied.planned() == {"figure", "digests", "report"}
    before = copied.digests()
    copied.complete()
    after = copied.digests()
    changed = {name for name in after if after[name] != before.get(name)}
    allowed = {f"figures/paired_cases.{suffix}" for suffix in ("svg", "pdf", "png")}
    assert allowed <= changed
    configs = {"config/figure-paired_cases.yaml", "config/experiment.yaml"}
    assert changed <= allowed | configs | {"SHA256SUMS"}


def test_another_analysis_file_only_repeats_the_statistics(copied: Workbench) -> None:
    default = copied.project / "configs" / "analysis" / "default.yaml"
    text = default.read_text(encoding="utf-8").replace("alpha: 0.05", "alpha: 0.01")
    (copied.folder / "strict.yaml").write_text(text, encoding="utf-8")
    copied.write_config(statistics={**TINY["statistics"], "plan": "strict.yaml"})
    # Intervals of the coverage are at the file's alpha too.
    expected = {"compare", "coverage", "champion", "figure", "digests", "report"}
    assert copied.planned() == expected


def test_code_of_a_figure_remakes_only_that_figure(own_project: Workbench) -> None:
    assert own_project.planned() == set()
    edit(own_project.project / "minivess" / "figures" / "fold_heatmap.py")
    text = own_project.complete(dry=True)
    assert planned_rules(text) == {"figure", "digests", "report"}
    assert PLANNED_LATER not in text
    assert "figure fold_heatmap" in text
    assert "figure paired_cases" not in text


def test_editing_the_trainer_trains_again(own_project: Workbench) -> None:
    edit(own_project.project / "minivess" / "training" / "trainer.py")
    planned = own_project.planned()
    assert {"train", "predict", "evaluate"} <= planned
    assert not planned & {"phantom", "manifest", "preprocess", "folds", "baseline"}


def test_ensembles_need_the_runs_of_all_seeds_and_train_nothing_twice(copied: Workbench) -> None:
    ensembles = {"kinds": ["mean", "greedy_soup"]}
    copied.write_config(seeds=[0, 1], ensembles=ensembles)
    text = copied.complete(dry=True)
    assert planned_rules(text) == {"train", "predict", "evaluate", "ensembles"} | DOWNSTREAM
    for loss in ("dice_ce", "cbdice"):
        assert f"train tiny {loss} seed 1 fold 0" in text
        assert f"train tiny {loss} seed 0" not in text
        assert f"ensembles of tiny {loss} fold 1" in text


def test_a_loss_on_skeletons_adds_one_job_and_trains_no_other_loss_anew(copied: Workbench) -> None:
    copied.write_config(losses=[*TINY["losses"], "dice_ce_skeleton_recall"])
    assert copied.planned() == {"skeletons", "train", "predict", "evaluate"} | DOWNSTREAM
    weights = "results/tiny/runs/tiny/dice_ce_skeleton_recall/seed0/fold0/weights.safetensors"
    before = copied.digests()
    text = copied.complete(weights)
    assert text.count("tubed skeletons of the labels") == 1
    assert "train tiny cbdice" not in text
    added = {name for name in copied.digests() if name not in before}
    made = {Path(name).name for name in added}
    record = "skeletons.json"
    assert made == {
        "label_skeleton.npy",
        record,
        "weights.safetensors",
        "run.json",
        "history.parquet",
    }
    assert all(
        one["components"] >= one["without_skeleton"]
        for one in json.loads((copied.root / "data" / record).read_text(encoding="utf-8")).values()
    )
    assert sum(name.endswith("label_skeleton.npy") for name in added) == TINY["phantom"]["n_cases"]
    assert copied.planned(weights) == set()
    # The other losses' results are as they were.
    after = copied.digests()
    assert {name for name in before if after[name] != before[name]} <= {"config/experiment.yaml"}


def test_editing_a_metric_only_evaluates_again(own_project: Workbench) -> None:
    edit(own_project.project / "minivess" / "metrics" / "surface.py")
    planned = own_project.planned()
    assert "evaluate" in planned
    assert not planned & {"train", "predict"}


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")


def test_a_deleted_prediction_is_remade_with_what_follows(copied: Workbench) -> None:
    before = copied.digests()
    prediction = next((copied.root / "runs" / str(RUNS[0]) / "predictions").glob("*_00?.nii.gz"))
    prediction.unlink()
    planned = copied.planned()
    assert {"predict", "evaluate"} <= planned <= {"predict", "evaluate"} | DOWNSTREAM
    # To the statistics: that figures have the same bytes again is tested where all is made again.
    name = prediction.relative_to(copied.folder).as_posix()
    copied.complete(name, "results/tiny/tables/comparison.parquet")
    assert copied.digests() == before


def test_another_patch_and_more_folds_train_again_at_the_first_call(copied: Workbench) -> None:
    """Data are validated for both, which must not keep Snakemake from seeing what else changed."""
    patches = {**TINY["patches"], "patch_size": [16, 16, 4]}
    copied.write_config(folds={"n_folds": 3}, patches=patches, losses=["dice_ce"])
    # A plan cannot show that, and says so.
    text = copied.complete(dry=True)
    assert "folds" not in planned_rules(text)
    assert f"What comes after accept {PLANNED_LATER}" in text
    runs = [paths.run_folder(copied.root, RunKey("tiny", "dice_ce", 0, fold)) for fold in (0, 2)]
    copied.complete(*(str(paths.run_record(run).relative_to(copied.folder)) for run in runs))
    folds = json.loads(paths.folds(copied.root).read_text(encoding="utf-8"))["folds"]
    assert len(folds) == 3
    for run, fold in zip(runs, (folds[0], folds[2]), strict=True):
        record = json.loads(paths.run_record(run).read_text(encoding="utf-8"))
        assert record["network"]["patch_size"] == [16, 16, 4]
        assert record["cases"] == fold


def test_other_folds_leave_no_case_of_the_old_ones(copied: Workbench) -> None:
    """Nor, where none is kept for selection, anything that such cases decide."""
    held_out = copied.root / "folds.json"
    before = json.loads(held_out.read_text(encoding="utf-8"))["folds"]
    manifest = read_manifest(paths.manifest(copied.root))
    for seed in range(1, 50):
        folds = FoldsConfig(n_folds=2, folds_seed=seed)
        held = {*make_folds(manifest, folds).folds[0].validation}
        if held not in [{*fold["validation"]} for fold in before]:
            break
    folds = {"n_folds": 2, "folds_seed": seed, "selection_fraction": 0}
    copied.write_config(folds=folds, losses=["dice_ce"])
    made = (
        "tables/cases.parquet",
        "tables/coverage.parquet",
        "champions.json",
        "summary.txt",
    )
    copied.complete(*(f"results/tiny/{name}" for name in made))
    after = json.loads(held_out.read_text(encoding="utf-8"))["folds"]
    assert {*after[0]["validation"]} == held
    cases = pl.read_parquet(copied.root / "tables" / "cases.parquet")
    dice = cases.filter(pl.col("metric") == "dice")
    assert dice.height == dice["case"].n_unique() == 4
    for row in dice.iter_rows(named=True):
        assert row["case"] in after[row["fold"]]["validation"]
    assert [fold["selection"] for fold in after] == [[], []]
    runs = pl.read_parquet(copied.root / "tables" / "runs.parquet")
    assert runs.select("best_epoch", "best_selection_dice").rows() == [(2, None)] * 2
    calibration = pl.read_parquet(copied.root / "tables" / "calibration.parquet")
    assert set(calibration["calibrator"]) == {"none"}
    text = paths.summary_text(copied.root).read_text(encoding="utf-8")
    assert "No case was kept for selection" in text
    told = copied.minivess("champion", "explain", "-e", "tiny").stdout
    assert "seed0/fold0 (lowest seed and fold: no case was kept to choose by)" in told


def test_a_stopped_training_is_marked_killed(copied: Workbench) -> None:
    bench = copied
    (bench.folder / "mlflow.db").unlink()
    shutil.rmtree(bench.root / ".state")
    bench.write_config(training={**TINY["training"], "epochs": 400}, losses=["dice_ce"])
    bench.look_like_the_project()
    process = subprocess.Popen(
        [sys.executable, "-m", "minivess", "experiment", "tiny.yaml"],
        cwd=bench.folder,
        env=bench.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bench.wait_for("checkpoint.safetensors")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{bench.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    statuses = [run.info.status for run in client.search_runs([experiment.experiment_id])]
    assert statuses
    assert set(statuses) == {"KILLED"}
    assert not leftovers(bench.folder)


def leftovers(folder: Path) -> list[int]:
    """Processes that still work in a folder."""
    import psutil

    time.sleep(0.5)
    running = psutil.process_iter(["cwd", "cmdline"])
    return [p.pid for p in running if p.info["cwd"] == str(folder) and p.info["cmdline"]]


def test_two_at_once_is_an_error_that_names_the_other(bench: Workbench) -> None:
    process = bench.start()
    try:
        bench.wait_for(".lock")
        time.sleep(0.2)
        second = bench.run()
        assert second.returncode != 0
        assert "MV-STATE-004" in second.stdout + second.stderr
    finally:
        kill_group(process)
