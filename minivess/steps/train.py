"""The steps that need torch: train one run, predict one case."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from minivess import output, paths, provenance
from minivess.config.load import load_step
from minivess.errors import MinivessError
from minivess.logs import say
from minivess.signals import STOPS, signals_later
from minivess.types import RunKey

if TYPE_CHECKING:
    from minivess.config.schema import Experiment
    from minivess.inference.device import Decision
    from minivess.tracking.mlflow_log import OpenRun
    from minivess.training.distributed import Team
    from minivess.training.run import PlannedRun


def train(root: Path, key: RunKey, progress: str) -> None:
    """Train a run from its last checkpoint on; write weights, history and record.

    MLflow sees it live. Its status is FINISHED, FAILED or KILLED when the process ends, whatever
    ended it short of SIGKILL; after that the next start goes on with the same MLflow run.

    Where several devices share the training, a process is started for each; one that torchrun has
    started takes its part.
    """
    from minivess.inference.device import check_devices, choose_device, prepare_torch
    from minivess.training.distributed import ALONE, check_shares, check_team, joined, team_of
    from minivess.training.launch import reporting, start_team

    team = team_of(os.environ)
    with reporting(team):
        experiment = load_step(paths.step_config(root, f"train-{key.model}"))
        compute = experiment.compute
        prepare_torch(compute)
        if compute.devices > 1 and team == ALONE:
            check_shares(experiment.patches, compute.devices)
            check_devices(compute)
            start_team(compute, _command(root, key, progress))
            return
        check_team(compute, team)
        with joined(team, choose_device(compute, team.device_number)[0]):
            _train_here(experiment, root, key, team, progress)


def _command(root: Path, key: RunKey, progress: str) -> list[str]:
    """Arguments of the `minivess` that takes part in this training."""
    below = root.is_relative_to(paths.RESULTS)
    experiment = root.relative_to(paths.RESULTS) if below else root.resolve()
    words = ["train", "--experiment", str(experiment), "--model", key.model, "--loss", key.loss]
    return [*words, "--seed", str(key.seed), "--fold", str(key.fold), "--progress", progress]


def _train_here(experiment: Experiment, root: Path, key: RunKey, team: Team, progress: str) -> None:
    """The training in this process; of a team only one writes and speaks.

    Where memory runs out and the profile allows it, it begins again with smaller batches.
    """
    from minivess.data.folds import read_folds
    from minivess.inference.memory import is_out_of_memory, release
    from minivess.training.memory import smaller_batches
    from minivess.training.run import plan_run
    from minivess.training.trainer import fit

    folds = read_folds(paths.folds(root))
    decided: tuple[Decision, ...] = ()
    while True:
        plan = plan_run(experiment, key, folds, root, team).with_decisions(decided)
        try:
            if team.leads:
                _train_planned(experiment, plan, root, progress)
            else:
                fit(plan.task, paths.training_state(root, plan.state_key), lambda row: None)
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            experiment, lowered = smaller_batches(experiment, plan.task.patches, error)
            # Its patches are no longer `auto`: why they are what they are is told by the first try.
            decided = (*(d for d in plan.decisions if d.name.startswith("data_")), lowered)
        release()
        say(f"{lowered.reason}; the training begins again")


def _train_planned(experiment: Experiment, plan: PlannedRun, root: Path, progress: str) -> None:
    """Train a planned run and write what came of it; MLflow sees it live."""
    from minivess.tracking import mlflow_log
    from minivess.training.progress import EpochRow, progress_table
    from minivess.training.run import write_run
    from minivess.training.trainer import fit

    key, state = plan.key, paths.training_state(root, plan.state_key)
    for decision in plan.decisions:
        say(f"{decision.name} = {decision.value} ({decision.reason})")
    run = paths.run_folder(root, key)
    machine = {d.name: d.value for d in plan.decisions if d.name.startswith("sys_")}
    machine |= provenance.system_facts(plan.task.adapter.libraries)
    git = {f"minivess.{name}": value for name, value in provenance.git_state().items()}
    decisions = [vars(decision) for decision in plan.decisions]
    facts = {"params": machine, "tags": git, "decisions": decisions}
    output.write_json(facts, paths.run_provenance(root, key))
    tags = {"minivess.config_digest": plan.config_digest, "minivess.run_folder": str(run)}
    handle: OpenRun | None = None
    try:
        # Told to end while the run is opened, it would stay RUNNING in MLflow.
        with signals_later():
            handle = opened = mlflow_log.open_run(
                mlflow_log.tracking_uri(),
                experiment.name,
                key,
                plan.run_digest,
                {**plan.params, **machine},
                {**git, **tags},
            )
        with progress_table(progress, str(key)) as show:

            def on_epoch(row: EpochRow) -> None:
                values = {"train/loss": row.train_loss, "train/learning_rate": row.learning_rate}
                values |= {f"selection/{name}": value for name, value in row.selection.items()}
                # What is stopped while it writes to SQLite keeps the database locked, also for the
                # writing of its status.
                with signals_later():
                    mlflow_log.log_epoch(opened, row.epoch, values)
                show(row)

            result = fit(plan.task, state, on_epoch)
        write_run(experiment, plan, result, run)
    except BaseException as error:
        if handle is not None:
            _end_unfinished(handle, error)
        raise
    mlflow_log.close_run(opened, "FINISHED")
    if result.best_dice is None:
        say(f"{key}: the weights of epoch {result.best_epoch}, the last one, predict")
    else:
        say(f"{key}: best epoch {result.best_epoch}, selection Dice {result.best_dice:.4f}")


def _end_unfinished(handle: OpenRun, error: BaseException) -> None:
    """FAILED after an error, KILLED after a signal; what stopped the training stays the error.

    No later signal cuts this short: where one process of a team is lost, this one meets that error
    and is then told to end, while it writes.
    """
    from minivess.tracking.mlflow_log import close_run

    before = {n: signal.signal(n, signal.SIG_IGN) for n in STOPS}
    try:
        close_run(handle, "FAILED" if isinstance(error, Exception) else "KILLED")
    except MinivessError as second:
        say(f"its status could not be written to MLflow either: {second}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def predict(root: Path, key: RunKey, case: str) -> None:
    """Predict one case; write its probability and mask.

    Where memory runs out and the profile allows it, with less at once; both files then say so.
    """
    from minivess.data.preprocess import open_case
    from minivess.inference.device import prepare_torch
    from minivess.inference.predict import load_network, predict_within_memory, write_prediction

    config = load_step(paths.step_config(root, "predict"))
    prepare_torch(config.compute)
    run = paths.run_folder(root, key)
    prepared = open_case(paths.preprocessed_case(root, case))
    probability, mask, note = predict_within_memory(
        load_network(run), prepared, config.inference, config.compute
    )
    write_prediction(run, prepared, probability, mask, note)
    say(f"{key} {case}: {mask.mean():.2%} of the volume is vessel")
