"""A training that is told to end: its run in MLflow says so."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from minivess import paths
from minivess.config.load import write_step_files
from minivess.steps import train as steps
from minivess.tracking import mlflow_log
from minivess.types import RunKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.config.schema import Experiment


class Stopped(BaseException):
    """What SIGTERM raises here."""


def test_an_epoch_is_logged_whole_before_the_signal_is_answered(
    root: Path,
    make_experiment: Callable[..., Experiment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut short within SQLite it would keep the lock that the status needs."""
    folder = tmp_path / "results" / "demo"
    shutil.copytree(root, folder)
    write_step_files(make_experiment(training={"epochs": 3}), folder / "config")
    monkeypatch.chdir(tmp_path)
    log_epoch, logged = mlflow_log.log_epoch, []

    def told_meanwhile(handle: mlflow_log.OpenRun, epoch: int, values: dict[str, float]) -> None:
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        log_epoch(handle, epoch, values)
        logged.append(epoch)

    def stop(number: int, frame: Any) -> None:
        raise Stopped

    monkeypatch.setattr(mlflow_log, "log_epoch", told_meanwhile)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped):
            steps.train(folder, RunKey("dynunet", "dice_ce", 0, 0), "none")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert logged == [1, 2]
    assert not paths.weights(paths.run_folder(folder, RunKey("dynunet", "dice_ce", 0, 0))).exists()
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")] == [
        1,
        2,
    ]
