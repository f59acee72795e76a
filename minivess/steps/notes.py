"""What the summary has to say of how results were computed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from minivess import output, paths
from minivess.config.load import load_step
from minivess.steps.runs import experiment_runs

if TYPE_CHECKING:
    from minivess.config.schema import Experiment


def memory_notes(root: Path) -> list[str]:
    """One line for each training and prediction that took less at once because memory ran out.

    Those of the experiment's own runs and ensembles.
    """
    from minivess.data.volume import read_note

    notes = []
    # Asked by name: other folders of runs are left from an earlier config.
    for name in experiment_runs(root):
        run = paths.run_folder(root, name)
        if not paths.run_record(run).exists():
            continue
        record = output.read_json(paths.run_record(run), "params", "cases")
        value = record["params"].get("out_of_memory")
        if value is not None:
            notes.append(f"Out of memory: {name} was trained with {value}.")
        for case in sorted(record["cases"]["validation"]):
            predicted = paths.prediction(run, case)
            note = read_note(predicted) if predicted.exists() else ""
            notes += [f"Prediction of {case} by {name}: {note}."] if note else []
    return notes + _of_ensembles(root)


def _of_ensembles(root: Path) -> list[str]:
    experiment = load_step(paths.step_config(root, "experiment"))
    if not experiment.ensembles.kinds:
        return []
    notes = []
    for run in experiment_runs(root):
        if run.seed != min(experiment.seeds):  # ensembles are of a fold's runs of all seeds
            continue
        folder = paths.ensembles(root, run.model, run.loss, run.fold)
        record = paths.ensembles_record(folder)
        found = output.read_json(record).get("notes", {}) if record.exists() else {}
        place = folder.relative_to(root).as_posix()
        notes += [f"{place}/{name}: {note}." for name, note in sorted(found.items())]
    return notes


def skeleton_notes(root: Path, losses: Iterable[str]) -> list[str]:
    """A line where vessels are missing in the tubed skeletons that a loss trains on.

    Args:
        root: results folder of the experiment.
        losses: of its runs.
    """
    from minivess.losses import needs_of
    from minivess.losses.needs import SKELETON

    on_them = [loss for loss in losses if SKELETON in needs_of(loss)]
    record = output.read_json(paths.skeletons_record(root)) if on_them else {}
    erased = {case: one for case, one in record.items() if one["without_skeleton"]}
    if not erased:
        return []
    lost = sum(one["without_skeleton"] for one in erased.values())
    total = sum(one["components"] for one in record.values())
    note = (
        f"Skeletons: {lost} of {total} vessel components, in {len(erased)} of {len(record)} cases, "
        f"have none for {', '.join(on_them)} to train on; see {paths.skeletons_record(root)}."
    )
    return [note]


def selection_notes(experiment: Experiment) -> list[str]:
    """What is to be said where no case was kept for selection."""
    if experiment.folds.selection_fraction > 0:
        return []
    note = (
        "No case was kept for selection (folds.selection_fraction: 0): the weights of the last "
        "epoch predict, and no probability was calibrated."
    )
    return [note]
