"""What a tired person does to the whole workflow: a clear error, its exit status, results kept."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from workbench import Workbench

from minivess.config.schema import PhantomConfig
from minivess.data.phantom import write_phantom

pytestmark = pytest.mark.dag


def experiment(bench: Workbench, *arguments: str) -> subprocess.CompletedProcess[str]:
    return bench.minivess("experiment", "tiny.yaml", *arguments)


def volumes(folder: Path) -> Path:
    """Four small volumes with labels and their cases.csv."""
    write_phantom(PhantomConfig(n_cases=4, phantom_shape=(24, 24, 8), n_trees=2), folder)
    return folder / "cases.csv"


def test_a_misspelt_key_names_the_nearest(bench: Workbench) -> None:
    done = experiment(bench, "epohcs=3")
    assert done.returncode == 2
    assert "MV-CONFIG-001" in done.stderr
    assert "epochs" in done.stderr
    assert not bench.root.exists()


def test_a_misspelt_key_for_snakemake_too(bench: Workbench) -> None:
    done = bench.run(config=("epohcs=3",))
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "MV-CONFIG-001" in text
    assert "did you mean epochs?" in text
    assert "Traceback" not in text


def test_an_override_reaches_the_step_and_only_it(bench: Workbench) -> None:
    changed = ("epochs=7", "patches={batch_size: 3}")
    text = bench.complete(config=changed, dry=True)
    assert "folds" in text
    assert not list((bench.root / "config").iterdir()), "a dry run leaves nothing"
    bench.complete("phantom", config=changed)
    train = (bench.root / "config" / "train-tiny.yaml").read_text(encoding="utf-8")
    assert "epochs: 7" in train
    assert "batch_size: 3" in train
    assert "epochs" not in (bench.root / "config" / "predict.yaml").read_text(encoding="utf-8")


def test_an_unknown_experiment(bench: Workbench) -> None:
    done = bench.minivess("experiment", "deno")
    assert done.returncode == 2
    assert "did you mean demo?" in done.stderr


def test_a_list_that_is_not_there(bench: Workbench) -> None:
    done = experiment(bench, "nowhere/cases.csv")
    assert done.returncode == 3
    assert "MV-DATA-001" in done.stderr


def test_all_problems_of_the_data_at_once(bench: Workbench) -> None:
    cases = volumes(bench.folder / "mine")
    image = bench.folder / "mine" / "images" / "phantom_001.nii.gz"
    image.write_bytes(image.read_bytes()[:-200])
    shutil.copy2(
        bench.folder / "mine" / "images" / "phantom_003.nii.gz",
        bench.folder / "mine" / "images" / "phantom_004.nii.gz",
    )
    label = bench.folder / "mine" / "labels" / "phantom_002.nii.gz"
    label.write_bytes(gzip.compress(b"this is no volume"))
    times_255(bench.folder / "mine" / "labels" / "phantom_003.nii.gz")
    done = experiment(bench, str(cases))
    assert done.returncode == 3
    for code, case in (
        ("MV-DATA-002", "phantom_001"),
        ("MV-DATA-002", "phantom_002"),
        ("MV-DATA-007", "phantom_003"),
        ("MV-DATA-012", "phantom_004"),
    ):
        assert f"{case}: {code}" in done.stderr
    # The page with pictures is there although the run stopped.
    assert (bench.root / "data" / "validation.html").exists()
    assert not (bench.root / "data" / "preprocessed").exists()


def times_255(label: Path) -> None:
    """Write a label as many tools do: 255 for vessel."""
    from minivess.data.geometry import Geometry
    from minivess.data.volume import read_volume, write_volume

    volume = read_volume(label)
    assert volume.affine is not None
    x, y, z = volume.array.shape
    write_volume(volume.array * 255, label, Geometry((x, y, z), volume.affine))


def test_a_group_on_both_sides_of_a_folds_file(bench: Workbench) -> None:
    cases = volumes(bench.folder / "mine")
    lines = cases.read_text(encoding="utf-8").splitlines()
    groups = ["group", "mouse1", "mouse1", "mouse2", "mouse3"]
    grouped = [f"{line},{group}" for line, group in zip(lines, groups, strict=True)]
    cases.write_text("\n".join(grouped) + "\n", encoding="utf-8")
    names = [f"phantom_00{number}" for number in (1, 2, 3, 4)]
    sides = [(names[1:], names[:1]), (names[:1], names[1:])]
    folds = {"folds": [{"train": train, "validation": held} for train, held in sides]}
    (bench.folder / "folds.json").write_text(json.dumps(folds), encoding="utf-8")
    done = experiment(bench, str(cases), "folds_file=folds.json")
    assert done.returncode == 3
    assert "MV-FOLDS-001" in done.stderr
    assert "mouse1" in done.stderr


def test_a_value_of_the_wrong_type(bench: Workbench) -> None:
    done = experiment(bench, "epochs=many", "batch_size=0")
    assert done.returncode == 2
    assert "MV-CONFIG-002" in done.stderr
    for key in ("training.epochs", "patches.batch_size"):
        assert key in done.stderr


def test_a_failure_leaves_earlier_results_alone(finished: Workbench, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    bench = Workbench(tmp_path / "work")
    before = {n: d for n, d in bench.digests().items() if n.startswith(("runs/", "tables/"))}
    # Validation refuses the patch after the manifest was read; nothing trained is touched.
    done = experiment(bench, "patch_size=[16, 16, 64]")
    assert done.returncode == 3
    assert before.items() <= bench.digests().items()
    assert experiment(bench, "trained_runs").returncode == 0
    assert before.items() <= bench.digests().items()


def test_a_results_folder_that_cannot_be_written(bench: Workbench) -> None:
    (bench.folder / "results").write_text("a file where a folder should be", encoding="utf-8")
    done = experiment(bench)
    assert done.returncode == 4
    assert "MV-SYSTEM-001" in done.stderr


def test_a_stale_mlruns_folder_does_not_matter(finished: Workbench, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    bench = Workbench(tmp_path / "work")
    (bench.folder / "mlflow.db").unlink()
    shutil.rmtree(bench.root / "runs")
    shutil.rmtree(bench.root / ".state")
    meta = bench.folder / "mlruns" / "0" / "meta.yaml"
    meta.parent.mkdir(parents=True)
    meta.write_text("artifact_location: mlruns/0\nexperiment_id: '0'\n", encoding="utf-8")
    bench.complete("results/tiny/runs/tiny/dice_ce/seed0/fold0/run.json")
    assert (bench.folder / "mlflow.db").exists()


def test_a_file_store_is_refused_before_training(bench: Workbench) -> None:
    bench.environment["MLFLOW_TRACKING_URI"] = f"file:{bench.folder}/mlruns"
    done = experiment(bench)
    assert done.returncode == 6
    assert "mlflow migrate-filestore" in done.stdout + done.stderr


def test_a_patch_larger_than_the_smallest_volume(bench: Workbench) -> None:
    done = experiment(bench, "patch_size=[16, 16, 64]")
    assert done.returncode == 3
    assert "MV-PATCH-001" in done.stderr
    assert "phantom_001" in done.stderr


def test_fewer_cases_than_folds(bench: Workbench) -> None:
    done = experiment(bench, "n_folds=5")
    assert done.returncode == 3
    assert "MV-FOLDS-002" in done.stderr
