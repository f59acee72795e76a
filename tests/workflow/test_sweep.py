"""A sweep of two trials over the tiny experiment, trained by the real DAG."""

from __future__ import annotations

import json

import polars as pl
import pytest
import yaml
from workbench import TINY, Workbench

pytestmark = pytest.mark.dag

SWEEP = {
    "experiment": "tiny.yaml",
    "overrides": {"losses": ["dice_ce"], "training.epochs": 1},
    "space": {"training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}},
}


def test_two_trials_and_a_stop_between(bench: Workbench) -> None:
    bench.write_config(phantom={**TINY["phantom"], "phantom_shape": [16, 16, 8]})
    (bench.folder / "rates.yaml").write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    results = bench.folder / "results"
    # As if it had been stopped after the first trial.
    first = bench.minivess("sweep", "rates.yaml", "--trials", "1", "--cores", "2")
    assert first.returncode == 0, first.stdout + first.stderr
    records = results / "rates-sweep" / "trials"
    before = (records / "000.json").read_bytes()
    done = bench.minivess("sweep", "rates.yaml", "--trials", "2", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (records / "000.json").read_bytes() == before
    assert "Job stats" not in done.stderr, "what Snakemake prints is in a log"
    log = results / "rates-sweep" / "logs" / "sweep" / "trial-001.log"
    assert "train tiny dice_ce seed 0 fold 1" in log.read_text(encoding="utf-8")
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
        assert "preprocess" not in (root / "logs" / "jobs.jsonl").read_text(encoding="utf-8")

    assert json.loads(before)["experiment"] == "rates-trial-000"
    assert tags_of(bench, "rates-trial-001") == [("rates", "1")] * 2


def tags_of(bench: Workbench, experiment: str) -> list[tuple[str, str]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{bench.folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    return [(run.data.tags["minivess.sweep"], run.data.tags["minivess.trial"]) for run in runs]
