"""A sweep of two trials over the tiny experiment, trained by the real DAG, and one killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import psutil
import pytest
import yaml
from chaos.processes import tree
from workbench import TINY, Workbench

pytestmark = pytest.mark.dag

# On skeletons, which the trials share as they do the volumes.
LOSS = "dice_ce_skeleton_recall"
SWEEP = {
    "experiment": "tiny.yaml",
    "overrides": {"losses": [LOSS], "training.epochs": 2},
    "space": {"training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}},
}


def test_two_trials_and_a_stop_between_and_a_kill_within(tmp_path: Path) -> None:
    bench = Workbench(tmp_path / "undisturbed")
    bench.folder.mkdir()
    bench.write_config(phantom={**TINY["phantom"], "phantom_shape": [16, 16, 8]})
    (bench.folder / "rates.yaml").write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    results = bench.folder / "results"
    # As if it had been stopped after the first trial.
    first = bench.minivess("sweep", "rates.yaml", "--trials", "1", "--cores", "2")
    assert first.returncode == 0, first.stdout + first.stderr
    records = results / "rates-sweep" / "trials"
    before = (records / "000.json").read_bytes()
    killed = Workbench(tmp_path / "killed", name="rates-trial-001")
    shutil.copytree(bench.folder, killed.folder, symlinks=True)
    kill_within_a_trial(killed)
    done = bench.minivess("sweep", "rates.yaml", "--trials", "2", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (records / "000.json").read_bytes() == before
    assert "Job stats" not in done.stderr, "what Snakemake prints is in a log"
    log = results / "rates-sweep" / "logs" / "sweep" / "trial-001.log"
    assert f"train tiny {LOSS} seed 0 fold 1" in log.read_text(encoding="utf-8")
    assert "trial 0 (1 of 2): selection dice" in done.stderr
    assert "trial 1 (2 of 2): selection dice" in done.stderr

    table = pl.read_parquet(results / "rates-sweep" / "tables" / "trials.parquet")
    assert table["training.learning_rate"][0] == TINY["training"]["learning_rate"]
    assert table["state"].to_list() == ["complete", "complete"]
    for number, value in enumerate(table["value"]):
        root = results / f"rates-trial-{number:03d}"
        histories = [pl.read_parquet(path) for path in sorted(root.rglob("history.parquet"))]
        reached = [one.filter(name="selection/dice")["value"].max() for one in histories]
        assert len(reached) == 2
        assert value == pytest.approx(sum(reached) / 2)  # type: ignore[arg-type]
        # Held-out cases were never predicted, and no volume is there twice.
        assert not list(root.rglob("predictions")) + list(root.rglob("metrics"))
        assert all(path.is_symlink() for path in (root / "data").rglob("*") if path.is_file())
        assert (root / "folds.json").is_symlink()
        jobs = (root / "logs" / "jobs.jsonl").read_text(encoding="utf-8")
        assert "preprocess" not in jobs
        assert "skeletons" not in jobs
        assert len(list(root.rglob("label_skeleton.npy"))) == TINY["phantom"]["n_cases"]

    assert json.loads(before)["experiment"] == "rates-trial-000"
    assert tags_of(bench, "rates-trial-001") == [("rates", "1")] * 2
    # Killed and run again: the same proposal, the same trainings, the same table.
    assert tags_of(killed, "rates-trial-001") == [("rates", "1")] * 2
    assert results_of(killed) == results_of(bench)


def kill_within_a_trial(bench: Workbench) -> None:
    """SIGKILL to a sweep and all that it has started while a trial trains; then to its end."""
    command = ["sweep", "rates.yaml", "--trials", "2", "--cores", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "minivess", *command],
        cwd=bench.folder,
        env=bench.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bench.wait_for("checkpoint.safetensors")
    running = tree(process.pid)
    for one in running:
        one.kill()
    psutil.wait_procs(running, timeout=10)
    process.wait()
    assert len(running) > 2, "the sweep, Snakemake and a training"
    assert not list(bench.root.rglob("run.json")), "it was killed before a training had ended"
    assert not (bench.folder / "results" / "rates-sweep" / "trials" / "001.json").exists()
    again = bench.minivess(*command)
    assert again.returncode == 0, again.stdout + again.stderr


def results_of(bench: Workbench) -> dict[str, bytes]:
    """What a sweep leaves, and the histories and weights of its trials."""
    kinds = ("trials/*.json", "tables/*", "figures/*", "experiments/*", "summary.txt")
    results = bench.folder / "results"
    found = [path for kind in kinds for path in (results / "rates-sweep").glob(kind)]
    found += [path for path in results.glob("rates-trial-*/runs/**/*") if path.is_file()]
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in found}


def tags_of(bench: Workbench, experiment: str) -> list[tuple[str, str]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{bench.folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    return [(run.data.tags["minivess.sweep"], run.data.tags["minivess.trial"]) for run in runs]
