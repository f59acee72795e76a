"""The step that makes and evaluates all ensembles of one network, loss and fold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess import output, paths, provenance
from minivess.config.ensembles import SEED_KINDS, ensemble_model
from minivess.config.load import load_step
from minivess.inference.ensemble import check_distinct, check_unseen, read_member, vote_fraction
from minivess.inference.memory import note_of_members
from minivess.logs import say
from minivess.steps.ensemble_work import FoldWork, write_members
from minivess.types import RunKey

if TYPE_CHECKING:
    from minivess.types import Float32Array


def ensembles(root: Path, model: str, loss: str, fold: int) -> None:
    """Predict and evaluate the held-out cases of a fold with every ensemble of the config.

    Raises:
        MinivessError: MV-STATE-002 a member is not trained, MV-ENSEMBLE-001 members that are the
            same, MV-ENSEMBLE-002 a case that a member has seen, MV-SYSTEM-... from writing.
    """
    from minivess.data.folds import read_folds
    from minivess.data.volume import read_note
    from minivess.statistics import tables

    config = load_step(paths.step_config(root, "ensembles"))
    seeds = sorted(load_step(paths.step_config(root, "experiment")).seeds)
    folder = paths.ensembles(root, model, loss, fold)
    runs = {seed: RunKey(model, loss, seed, fold) for seed in seeds}
    work = FoldWork(root, config, runs, read_folds(paths.folds(root)).folds[fold], folder)
    members = {seed: read_member(work.run_folder(seed), str(run)) for seed, run in runs.items()}
    check_distinct(list(members.values()))
    check_unseen(list(members.values()), work.fold.validation)
    # What other kinds or folds have left would not be told from what is made now.
    if folder.exists():
        shutil.rmtree(folder)
    entries, rows = [], []
    for kind, seed in config.ensembles.made(seeds):
        facts = _predict(work, kind, seed)
        own = members.values() if kind in SEED_KINDS else [members[seed]]
        entries.append({"kind": kind, "seed": seed, "members": _listed(own), **facts})
        rows += _evaluate(work, RunKey(ensemble_model(model, kind), loss, seed, fold), kind)
    output.write_parquet(tables.from_rows("ensembles", rows), paths.ensembles_metrics(folder))
    volumes = sorted(folder.glob("*/seed*/predictions/*.nii.gz"))
    files = {path.relative_to(folder).as_posix(): provenance.file_sha256(path) for path in volumes}
    noted = {name: note for name in files if (note := read_note(folder / name))}
    record = {"experiment": config.name, "model": model, "loss": loss, "fold": fold}
    output.write_json(
        {**record, "ensembles": entries, "files": files, **({"notes": noted} if noted else {})},
        paths.ensembles_record(folder),
    )


def _listed(members: Any) -> list[dict[str, str]]:
    return [{"run": member.name, "weights_sha256": member.digest} for member in members]


def _predict(work: FoldWork, kind: str, seed: int) -> dict[str, Any]:
    """Write the volumes of one ensemble; what is to be recorded of how it was made."""
    if kind == "mean":
        return _predict_mean(work, seed)
    if kind == "vote":
        return _predict_vote(work, seed)
    from minivess.steps import ensemble_networks

    return ensemble_networks.predict(work, kind, seed)


def _member_probabilities(work: FoldWork, case: str) -> Iterator[tuple[Float32Array, str]]:
    """The probabilities that the runs have predicted, seed by seed, with their notes."""
    from minivess.data.volume import read_made, read_note

    for seed in work.runs:
        path = paths.probability(work.run_folder(seed), case)
        yield read_made(path).astype(np.float32), read_note(path)


def _predict_mean(work: FoldWork, seed: int) -> dict[str, Any]:
    for case in work.cases(work.fold.validation):
        write_members(work, "mean", seed, case, _member_probabilities(work, case.case))
    return {}


def _predict_vote(work: FoldWork, seed: int) -> dict[str, Any]:
    from minivess.data.volume import read_made, read_note
    from minivess.inference.predict import write_prediction

    for case in work.cases(work.fold.validation):
        files = [paths.prediction(work.run_folder(member), case.case) for member in work.runs]
        fraction = vote_fraction(read_made(path) > 0 for path in files)
        note = note_of_members(read_note(path) for path in files)
        folder = paths.ensemble(work.folder, "vote", seed)
        write_prediction(folder, case, fraction, fraction > 0.5, note)
    return {}


def _evaluate(work: FoldWork, key: RunKey, kind: str) -> list[dict[str, object]]:
    """Rows of the table ensembles of one ensemble."""
    from minivess.data.volume import read_made
    from minivess.metrics.evaluate import case_rows, evaluate_case

    config, rows = work.config, []
    folder = paths.ensemble(work.folder, kind, key.seed)
    scores = []
    for case in work.cases(work.fold.validation):
        prediction = read_made(paths.prediction(folder, case.case)) > 0
        reference = np.asarray(case.label) > 0
        values = evaluate_case(
            prediction,
            reference,
            read_made(paths.probability(folder, case.case)),
            case.spacing_um,
            config.evaluation.nsd_tolerance_um,
            config.evaluation.junction_tolerance_um,
        )
        rows += case_rows(config.name, key, case.case, values)
        scores.append(next(value.value for value in values if value.metric == "dice"))
    say(f"{key}: mean Dice {np.mean(scores):.4g} over {len(scores)} cases")
    return rows
