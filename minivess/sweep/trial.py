"""One trial: an experiment of its own, trained through Snakemake and judged by selection cases."""

from __future__ import annotations

import statistics as stdlib_statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minivess import output, paths, provenance
from minivess.config.load import as_yaml, step_values, write_step_files
from minivess.config.sweep import Choices
from minivess.config.training import own_name
from minivess.data.folds import read_folds
from minivess.data.preprocess import CASE, FOREGROUND, IMAGE, LABEL
from minivess.errors import MinivessError
from minivess.flows import snakemake
from minivess.losses import needs_of
from minivess.losses.needs import SKELETON
from minivess.losses.own import is_own, source_file
from minivess.models.pretrained import weight_files
from minivess.statistics import tables
from minivess.sweep.space import Sweep
from minivess.tracking.address import tracking_uri
from minivess.tracking.mlflow_log import tag_runs
from minivess.training.selection import best_epoch, training_code
from minivess.training.warm_start import warm_start_file
from minivess.workflow import Plan

# Trainings end here: no held-out case is predicted, so none can decide.
TARGET = "trained_runs"
# What a trial's values can be the cause of. Whatever else fails would fail other trials as well.
OF_VALUES = frozenset(
    {
        "MV-CONFIG-002",
        "MV-CONFIG-004",
        "MV-PATCH-001",
        "MV-PATCH-002",
        "MV-SYSTEM-006",
        "MV-TRAIN-001",
        "MV-TRAIN-003",
    }
)
DATA_TARGET, SKELETON_TARGET = "prepared_cases", "skeletons"
SWEEP_TAG, TRIAL_TAG = "minivess.sweep", "minivess.trial"


@dataclass(frozen=True)
class Trial:
    """A trial that is over.

    Attributes:
        number: from 0.
        values: what its config keys were.
        runs: value of the metric on the selection cases, by run; none of a failed trial.
        error: code and text of what failed.
    """

    number: int
    values: Mapping[str, Any]
    runs: Mapping[str, float] = field(default_factory=dict)
    error: Mapping[str, str] | None = None

    @property
    def value(self) -> float | None:
        """Mean over the runs, which are all folds and seeds; None where it failed."""
        return None if self.error else stdlib_statistics.fmean(self.runs.values())


class SweepStopped(Exception):  # noqa: N818
    """Something failed that has nothing to do with the trial; the sweep can go on later."""

    def __init__(self, outcome: snakemake.Outcome) -> None:
        self.status = outcome.status
        texts = [failure["text"] for failure in outcome.failures]
        super().__init__("\n".join([*texts, f"the sweep was stopped, status {outcome.status}"]))


def sweep_name(sweep: Sweep) -> str:
    """Name of the experiment whose folder has the data that all trials share, and the results."""
    return f"{sweep.name}-sweep"


def trial_name(sweep: Sweep, number: int) -> str:
    """Name of a trial's experiment."""
    return f"{sweep.name}-trial-{number:03d}"


def sweep_root(sweep: Sweep) -> Path:
    """Results folder of a sweep."""
    return paths.experiment_folder(sweep_name(sweep))


def write_experiment(sweep: Sweep, name: str, changed: Mapping[str, Any], note: str = "") -> Path:
    """Write the experiment file of a trial; one that would not change is not touched."""
    path = paths.sweep_experiment(sweep_root(sweep), name)
    lines = "".join(f"# {line}\n" for line in note.splitlines())
    text = lines + as_yaml(sweep.values(name, changed))
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        output.write_text(text, path)
    return path


def prepare_data(sweep: Sweep, cores: str) -> Plan:
    """Prepare the cases and folds that all trials share, and the skeletons where one needs them.

    Raises:
        MinivessError: whatever is wrong with config or source.
        SweepStopped: Snakemake failed.
    """
    path = str(write_experiment(sweep, sweep_name(sweep), {}))
    on_skeletons = any(SKELETON in needs_of(loss) for loss in losses_of(sweep))
    targets = [DATA_TARGET, *[SKELETON_TARGET] * on_skeletons]
    asked = snakemake.request(path, targets, cores, False)
    outcome = snakemake.attempt(asked, log=paths.log(sweep_root(sweep), "sweep", "data"))
    if outcome.status != 0:
        raise SweepStopped(outcome)
    return snakemake.planned(path, [])


def losses_of(sweep: Sweep) -> list[str]:
    """Names of all losses that its trials may train with, sorted."""
    varied = sweep.search.space.get("losses")
    names = sweep.experiment.losses
    if isinstance(varied, Choices):
        names = tuple(own_name(loss) for choice in varied.choices for loss in choice)
    return sorted(set(names))


def shared_files(base: Plan, trial: Plan) -> dict[Path, Path]:
    """Files of prepared data that a trial need not make again: its own, and whose they are.

    Those of each step whose config is the same; the order is that in which the steps make them.
    """
    ours, theirs = step_values(base.experiment), step_values(trial.experiment)
    folds = read_folds(paths.folds(base.root)).folds
    tubed = [case for case in base.unlocked() if paths.label_skeleton(base.root, case).exists()]
    cases = sorted({*tubed, *(case for fold in folds for case in fold.validation)})
    found = dict(zip(trial.made_files, base.made_files, strict=True))

    def made(root: Path) -> dict[str, list[Path]]:
        prepared = [paths.preprocessed_case(root, case) for case in cases]
        arrays = [case / name for case in prepared for name in (IMAGE, LABEL, FOREGROUND, CASE)]
        # Tubes follow from the labels alone, which the same preprocessing makes.
        arrays += [paths.label_skeleton(root, case) for case in tubed]
        arrays += [paths.skeletons_record(root)] * bool(tubed)
        checked = [paths.validation_table(root), paths.validation_page(root)]
        return {
            "manifest": [paths.manifest(root)],
            "validate": [*checked, paths.validation_accepted(root)],
            "preprocess": arrays,
            "folds": [paths.folds(root)],
        }

    own = made(base.root)
    for step, files in made(trial.root).items():
        if {**ours[step], "name": ""} == {**theirs[step], "name": ""}:
            found |= dict(zip(files, own[step], strict=True))
    return found


def link_files(files: Mapping[Path, Path]) -> None:
    """Symbolic links, so that no volume is there twice.

    They are links to files, not folders: where a step of the trial makes its file all the same, it
    replaces its link and leaves the file of the others alone.

    Raises:
        MinivessError: MV-SYSTEM-001 or -002 a link cannot be made.
    """
    for link, target in files.items():
        if link.exists() or link.is_symlink():
            continue
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target.absolute().relative_to(link.parent.absolute(), walk_up=True))
        except OSError as error:
            raise output.os_error(error, link) from error


def trial_digest(sweep: Sweep, number: int, values: Mapping[str, Any], data: Plan) -> str:
    """Digest of all that a trial's value depends on."""
    config = sweep.values(trial_name(sweep, number), values)
    losses = [own_name(loss) for loss in config.get("losses") or sweep.experiment.losses]
    training = sweep.experiment.training
    begin = values.get("training.warm_start", training.warm_start)
    training = training.model_copy(update={"warm_start": begin})
    files = [paths.folds(data.root), *(source_file(loss) for loss in losses if is_own(loss))]
    files += [warm_start_file(training, fold) or Path() for fold in range(data.n_folds)]
    weights = [
        values.get(f"models.{name}.weights", model.weights)
        for name, model in sweep.experiment.models.items()
    ]
    files += [file for path in weights if path is not None for file in weight_files(path)]
    digests = {str(file): provenance.file_sha256(file) for file in files if file.is_file()}
    return provenance.json_sha256([sweep.identity(), config, training_code(training), digests])


def read_trial(sweep: Sweep, number: int, values: Mapping[str, Any], data: Plan) -> Trial | None:
    """A trial that is over, from its record; None where it is to be run.

    It is run where values, code or data are others than the record's, or a history has changed;
    Snakemake then makes what is not up to date.
    """
    path = paths.trial_record(sweep_root(sweep), number)
    if not path.is_file():
        return None
    record = output.read_json(path)
    if record["digest"] != trial_digest(sweep, number, values, data):
        return None
    root = paths.experiment_folder(trial_name(sweep, number))
    for run, digest in record["histories"].items():
        history = paths.history(paths.run_folder(root, run))
        if not history.is_file() or provenance.file_sha256(history) != digest:
            return None
    return Trial(number, values, record["runs"], record["error"])


def run_trial(
    sweep: Sweep, number: int, values: Mapping[str, Any], data: Plan, cores: str
) -> Trial:
    """Train a trial's networks and keep what came of it, in its record and as tags in MLflow.

    What cannot be trained with these values is a failed trial, with its error.

    Raises:
        SweepStopped: it failed for another reason, which may be gone when the sweep goes on.
        MinivessError: the same, before anything ran.
    """
    name = trial_name(sweep, number)
    path, root = write_experiment(sweep, name, values), paths.experiment_folder(name)
    trial, keys = _trained(sweep, Trial(number, values), path, data, cores)
    tag_runs(tracking_uri(), name, {SWEEP_TAG: sweep.name, TRIAL_TAG: str(number)})
    histories = {run: paths.history(paths.run_folder(root, run)) for run in keys}
    if trial.error is None:
        kept = sweep.experiment.training.predicting_metric
        runs = {run: reached(path, sweep.metric, kept) for run, path in histories.items()}
        trial = Trial(number, values, runs)
    record = {
        "trial": number,
        "experiment": name,
        "values": dict(values),
        "runs": dict(trial.runs),
        "error": trial.error,
        "digest": trial_digest(sweep, number, values, data),
        "histories": {run: provenance.file_sha256(histories[run]) for run in trial.runs},
    }
    output.write_json(record, paths.trial_record(sweep_root(sweep), number))
    return trial


def _trained(
    sweep: Sweep, trial: Trial, path: Path, data: Plan, cores: str
) -> tuple[Trial, list[str]]:
    """The trial, with its error where it failed, and its runs."""
    try:
        asked = snakemake.request(str(path), [TARGET], cores, False)
    except MinivessError as error:
        if error.code not in OF_VALUES:
            raise
        return _failed(trial, error.code, str(error)), []
    plan = snakemake.planned(str(path), [])
    # Before the links: files that are older than their config would be made anew.
    write_step_files(plan.experiment, plan.root / "config")
    link_files(shared_files(data, plan))
    log = paths.log(sweep_root(sweep), "sweep", f"trial-{trial.number:03d}")
    outcome = snakemake.attempt(asked, log=log)
    if outcome.status == 0:
        return trial, [str(run) for run in plan.runs()]
    if outcome.failures and {failure["code"] for failure in outcome.failures} <= OF_VALUES:
        first = outcome.failures[0]
        return _failed(trial, first["code"], first["text"]), []
    if outcome.failed_jobs and not outcome.failures:
        return _failed(trial, "killed", f"a job was killed (out of memory?); see {log}"), []
    raise SweepStopped(outcome)


def _failed(trial: Trial, code: str, text: str) -> Trial:
    return Trial(trial.number, trial.values, {}, {"code": code, "text": text})


def reached(history: Path, metric: str, kept: str) -> float:
    """Mean of a metric over the selection cases with the weights that predict.

    Only this is read: rows of a history are of training patches and selection cases.

    Args:
        history: of a run.
        metric: what decides the sweep.
        kept: the selection metric whose best epoch's weights predict.
    """
    by_epoch: dict[int, dict[str, float]] = {}
    for row in tables.read("history", history).iter_rows(named=True):
        by_epoch.setdefault(row["epoch"], {"epoch": row["epoch"]})[row["name"]] = row["value"]
    epoch = best_epoch(list(by_epoch.values()), kept)
    return by_epoch[epoch][f"selection/{metric}"]
