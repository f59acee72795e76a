"""Ensembles that predict anew: soups, dropout, averaged weights, snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess import paths, seeding
from minivess.inference.averages import read_averages, snapshots, swa_weights, swag_sample
from minivess.inference.device import prepare_torch
from minivess.inference.ensemble import Member, check_distinct
from minivess.inference.memory import within_memory
from minivess.inference.predict import (
    TrainedNetwork,
    load_network,
    predict_case,
    predict_within_memory,
    write_prediction,
)
from minivess.inference.soup import check_averageable, greedy_soup, uniform_soup
from minivess.metrics.overlap import dice
from minivess.models.weights import load_weights, weights_of
from minivess.steps.ensemble_work import FoldWork, write_members

if TYPE_CHECKING:
    import torch

    from minivess.config.schema import InferenceConfig
    from minivess.data.preprocess import PreparedCase
    from minivess.types import BoolArray, Float32Array

    type Weights = dict[str, torch.Tensor]


def predict(work: FoldWork, kind: str, seed: int) -> dict[str, Any]:
    """Write the volumes of one ensemble; what is to be recorded of how it was made.

    Raises:
        MinivessError: MV-CONFIG-004 a network whose weights cannot be averaged, MV-STATE-002 what
            a run should have kept is not there, MV-ENSEMBLE-001 equal snapshots.
    """
    prepare_torch(work.config.compute)
    make: dict[str, Callable[[FoldWork, int], dict[str, Any]]] = {
        "uniform_soup": _uniform_soup,
        "greedy_soup": _greedy_soup,
        "mc_dropout": _mc_dropout,
        "swa": _swa,
        "swag": _swag,
        "snapshot": _snapshot,
    }
    return make[kind](work, seed)


def _networks(work: FoldWork, kind: str) -> tuple[TrainedNetwork, list[Weights]]:
    """A network of the arm, and the weights of all seeds."""
    networks = [load_network(work.run_folder(member)) for member in work.runs]
    check_averageable(networks[0].network, kind)
    return networks[0], [weights_of(one.network) for one in networks]


def _uniform_soup(work: FoldWork, seed: int) -> dict[str, Any]:
    trained, weights = _networks(work, "uniform_soup")
    _predict_with(work, "uniform_soup", seed, trained, uniform_soup(weights))
    return {}


def _greedy_soup(work: FoldWork, seed: int) -> dict[str, Any]:
    trained, weights = _networks(work, "greedy_soup")

    def score(tried: Any) -> float:
        load_weights(trained.network, tried, "greedy_soup")
        return _selection_dice(work, trained)

    soup, runs = greedy_soup(weights, score), list(work.runs.values())
    _predict_with(work, "greedy_soup", seed, trained, soup.weights)
    ingredients = [str(runs[index]) for index in soup.ingredients]
    return {"ingredients": ingredients, "selection_dice": soup.score}


def _selection_dice(work: FoldWork, trained: TrainedNetwork) -> float:
    """Mean Dice of the selection cases, which no result is reported on."""
    scores = []
    for case in work.cases(work.fold.selection):
        _, mask, _ = _predicted(work, trained, case)
        scores.append(dice(mask, np.asarray(case.label) > 0))
    return float(np.mean(scores))


def _predicted(
    work: FoldWork, trained: TrainedNetwork, case: PreparedCase
) -> tuple[Float32Array, BoolArray, str]:
    """Probability and mask of a case, and what is to be noted of them."""
    return predict_within_memory(trained, case, work.config.inference, work.config.compute)


def _predict_with(
    work: FoldWork, kind: str, seed: int, trained: TrainedNetwork, weights: Weights
) -> None:
    """Predict the held-out cases with one network."""
    load_weights(trained.network, weights, kind)
    folder = paths.ensemble(work.folder, kind, seed)
    for case in work.cases(work.fold.validation):
        probability, mask, note = _predicted(work, trained, case)
        write_prediction(folder, case, probability, mask, note)


def _mc_dropout(work: FoldWork, seed: int) -> dict[str, Any]:
    """Source: Gal and Ghahramani 2016, Dropout as a Bayesian approximation, arXiv:1506.02142."""
    config, fold = work.config, work.runs[seed].fold
    trained = load_network(work.run_folder(seed))

    def one(case: PreparedCase, number: int, windows: InferenceConfig) -> Float32Array:
        with seeding.torch_seeded(seed, "mc-dropout", fold, case.case, number):
            return predict_case(trained, case, windows, config.compute, True)[0]

    def passes(case: PreparedCase) -> Iterator[tuple[Float32Array, str]]:
        for number in range(config.ensembles.mc_passes):
            yield within_memory(
                partial(one, case, number), config.inference, config.compute.profile
            )

    for case in work.cases(work.fold.validation):
        write_members(work, "mc_dropout", seed, case, passes(case))
    return {"passes": config.ensembles.mc_passes}


def _swa(work: FoldWork, seed: int) -> dict[str, Any]:
    trained, averages = load_network(work.run_folder(seed)), read_averages(work.run_folder(seed))
    check_averageable(trained.network, "swa")
    _predict_with(work, "swa", seed, trained, swa_weights(averages))
    return {"averaged_epochs": int(averages["count"])}


def _swag(work: FoldWork, seed: int) -> dict[str, Any]:
    averages = read_averages(work.run_folder(seed))
    samples, fold = work.config.ensembles.swag_samples, work.runs[seed].fold

    def draw(number: int) -> Weights:
        return swag_sample(averages, seeding.generator(seed, "swag", fold, number))

    _predict_members(work, "swag", seed, [partial(draw, n) for n in range(samples)])
    return {"averaged_epochs": int(averages["count"]), "samples": samples}


def _snapshot(work: FoldWork, seed: int) -> dict[str, Any]:
    found = snapshots(read_averages(work.run_folder(seed)))
    check_distinct([_as_member(weights, number) for number, weights in enumerate(found)])
    _predict_members(work, "snapshot", seed, [partial(dict, one) for one in found])
    return {"snapshots": len(found)}


def _as_member(weights: Weights, number: int) -> Member:
    import hashlib

    from safetensors.torch import save

    digest = hashlib.sha256(save(weights)).hexdigest()
    return Member(f"snapshot {number}", digest, frozenset())


def _predict_members(
    work: FoldWork, kind: str, seed: int, members: list[Callable[[], Weights]]
) -> None:
    """Predict the held-out cases with each of several networks, and write their mean."""
    trained = load_network(work.run_folder(seed))
    check_averageable(trained.network, kind)

    def probabilities(case: PreparedCase) -> Iterator[tuple[Float32Array, str]]:
        for member in members:
            load_weights(trained.network, member(), kind)
            probability, _, note = _predicted(work, trained, case)
            yield probability, note

    for case in work.cases(work.fold.validation):
        write_members(work, kind, seed, case, probabilities(case))
