"""The step that makes and evaluates all ensembles of one network, loss and fold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess import output, paths, provenance
from minivess.config.ensembles import SEED_KINDS, ensemble_model
from minivess.config.load import load_step
from minivess.config.schema import Experiment
from minivess.inference.ensemble import (
    check_distinct,
    check_unseen,
    mean_probability,
    read_member,
    vote_fraction,
)
from minivess.inference.uncertainty import uncertainty
from minivess.logs import say
from minivess.types import RunKey

if TYPE_CHECKING:
    from minivess.data.folds import Fold
    from minivess.data.preprocess import PreparedCase
    from minivess.inference.predict import TrainedNetwork
    from minivess.types import BoolArray, Float32Array


@dataclass(frozen=True)
class Kitchen:
    """What the ensembles of one network, loss and fold are made from.

    Attributes:
        root: results folder of the experiment.
        config: sections ensembles, inference, evaluation and compute.
        runs: the run of each seed, in the order of the seeds.
        fold: its cases.
        folder: where the ensembles go.
    """

    root: Path
    config: Experiment
    runs: Mapping[int, RunKey]
    fold: Fold
    folder: Path

    def run_folder(self, seed: int) -> Path:
        """Folder of the run of a seed."""
        return paths.run_folder(self.root, self.runs[seed])

    def cases(self, names: tuple[str, ...]) -> Iterator[PreparedCase]:
        """Prepared cases, opened one after the other."""
        from minivess.data.preprocess import open_case

        return (open_case(paths.preprocessed_case(self.root, name)) for name in names)


def ensembles(root: Path, model: str, loss: str, fold: int) -> None:
    """Predict and evaluate the held-out cases of a fold with every ensemble of the config.

    Raises:
        MinivessError: MV-STATE-002 a member is not trained, MV-ENSEMBLE-001 members that are the
            same, MV-ENSEMBLE-002 a case that a member has seen, MV-SYSTEM-... from writing.
    """
    from minivess.data.folds import read_folds
    from minivess.statistics import tables

    config = load_step(paths.step_config(root, "ensembles"))
    seeds = sorted(load_step(paths.step_config(root, "experiment")).seeds)
    folder = paths.ensembles(root, model, loss, fold)
    runs = {seed: RunKey(model, loss, seed, fold) for seed in seeds}
    kitchen = Kitchen(root, config, runs, read_folds(paths.folds(root)).folds[fold], folder)
    members = {seed: read_member(kitchen.run_folder(seed), str(run)) for seed, run in runs.items()}
    check_distinct(list(members.values()))
    check_unseen(list(members.values()), kitchen.fold.validation)
    # What other kinds or folds have left would not be told from what is made now.
    if folder.exists():
        shutil.rmtree(folder)
    entries, rows = [], []
    for kind, seed in config.ensembles.made(seeds):
        facts = _predict(kitchen, kind, seed)
        own = members.values() if kind in SEED_KINDS else [members[seed]]
        entries.append({"kind": kind, "seed": seed, "members": _listed(own), **facts})
        rows += _evaluate(kitchen, RunKey(ensemble_model(model, kind), loss, seed, fold), kind)
    output.write_parquet(tables.from_rows("ensembles", rows), paths.ensembles_metrics(folder))
    volumes = sorted(folder.glob("*/seed*/predictions/*.nii.gz"))
    files = {path.relative_to(folder).as_posix(): provenance.file_sha256(path) for path in volumes}
    record = {"experiment": config.name, "model": model, "loss": loss, "fold": fold}
    output.write_json(
        {**record, "ensembles": entries, "files": files}, paths.ensembles_record(folder)
    )


def _listed(members: Any) -> list[dict[str, str]]:
    return [{"run": member.name, "weights_sha256": member.digest} for member in members]


def _predict(kitchen: Kitchen, kind: str, seed: int) -> dict[str, Any]:
    """Write the volumes of one ensemble; what is to be recorded of how it was made."""
    if kind == "mean":
        return _predict_mean(kitchen, seed)
    if kind == "vote":
        return _predict_vote(kitchen, seed)
    return _predict_soup(kitchen, kind, seed)


def _member_probabilities(kitchen: Kitchen, case: str) -> Iterator[Float32Array]:
    """The probabilities that the runs have predicted, seed by seed."""
    from minivess.data.volume import read_volume

    for seed in kitchen.runs:
        path = paths.probability(kitchen.run_folder(seed), case)
        yield read_volume(path).array.astype(np.float32)


def _predict_mean(kitchen: Kitchen, seed: int) -> dict[str, Any]:
    for case in kitchen.cases(kitchen.fold.validation):
        _write_members(kitchen, "mean", seed, case, _member_probabilities(kitchen, case.case))
    return {}


def _write_members(
    kitchen: Kitchen,
    kind: str,
    seed: int,
    case: PreparedCase,
    probabilities: Iterator[Float32Array],
) -> None:
    """Write the mean of members' probabilities, its mask and, where wanted, the maps."""
    from minivess.data.volume import write_volume
    from minivess.inference.predict import write_prediction

    folder = paths.ensemble(kitchen.folder, kind, seed)
    maps = kitchen.config.ensembles.maps(kind)
    if maps:
        found = uncertainty(probabilities)
        mean = found.probability
        for name in maps:
            path = paths.uncertainty(folder, case.case, name)
            write_volume(getattr(found, name), path, case.geometry)
    else:
        mean = mean_probability(probabilities)
    mask = mean > kitchen.config.inference.probability_threshold
    write_prediction(folder, case, mean, mask)


def _predict_vote(kitchen: Kitchen, seed: int) -> dict[str, Any]:
    from minivess.data.volume import read_volume
    from minivess.inference.predict import write_prediction

    def masks(case: str) -> Iterator[BoolArray]:
        for member in kitchen.runs:
            yield read_volume(paths.prediction(kitchen.run_folder(member), case)).array > 0

    for case in kitchen.cases(kitchen.fold.validation):
        fraction = vote_fraction(masks(case.case))
        folder = paths.ensemble(kitchen.folder, "vote", seed)
        write_prediction(folder, case, fraction, fraction > 0.5)
    return {}


def _predict_soup(kitchen: Kitchen, kind: str, seed: int) -> dict[str, Any]:
    from minivess.inference.device import prepare_torch
    from minivess.inference.predict import load_network, predict_case, write_prediction
    from minivess.inference.soup import greedy_soup, uniform_soup
    from minivess.models.weights import load_weights, weights_of

    config = kitchen.config
    prepare_torch(config.compute)
    networks = [load_network(kitchen.run_folder(member)) for member in kitchen.runs]
    weights = [weights_of(one.network) for one in networks]
    trained = networks[0]
    facts: dict[str, Any] = {}
    if kind == "uniform_soup":
        soup = uniform_soup(weights)
    else:

        def score(tried: Any) -> float:
            load_weights(trained.network, tried, kind)
            return _selection_dice(kitchen, trained)

        greedy, names = greedy_soup(weights, score), [str(run) for run in kitchen.runs.values()]
        soup = greedy.weights
        facts["ingredients"] = [names[index] for index in greedy.ingredients]
        facts["selection_dice"] = greedy.score
    load_weights(trained.network, soup, kind)
    folder = paths.ensemble(kitchen.folder, kind, seed)
    for case in kitchen.cases(kitchen.fold.validation):
        probability, mask = predict_case(trained, case, config.inference, config.compute)
        write_prediction(folder, case, probability, mask)
    return facts


def _selection_dice(kitchen: Kitchen, trained: TrainedNetwork) -> float:
    """Mean Dice of the selection cases, which no result is reported on."""
    from minivess.inference.predict import predict_case
    from minivess.metrics.overlap import dice

    scores = []
    for case in kitchen.cases(kitchen.fold.selection):
        _, mask = predict_case(trained, case, kitchen.config.inference, kitchen.config.compute)
        scores.append(dice(mask, np.asarray(case.label) > 0))
    return float(np.mean(scores))


def _evaluate(kitchen: Kitchen, key: RunKey, kind: str) -> list[dict[str, object]]:
    """Rows of the table ensembles of one ensemble."""
    from minivess.data.volume import read_volume
    from minivess.metrics.evaluate import case_rows, evaluate_case

    config, rows = kitchen.config, []
    folder = paths.ensemble(kitchen.folder, kind, key.seed)
    scores = []
    for case in kitchen.cases(kitchen.fold.validation):
        prediction = read_volume(paths.prediction(folder, case.case)).array > 0
        reference = np.asarray(case.label) > 0
        tolerance = config.evaluation.nsd_tolerance_um
        values = evaluate_case(prediction, reference, case.spacing_um, tolerance)
        rows += case_rows(config.name, key, case.case, values)
        scores.append(next(value.value for value in values if value.metric == "dice"))
    say(f"{key}: mean Dice {np.mean(scores):.4g} over {len(scores)} cases")
    return rows
