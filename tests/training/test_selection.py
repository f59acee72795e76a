"""Which epoch is kept and when training stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess.config.schema import Experiment
from minivess.config.training import TrainingConfig
from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.metrics.evaluate import evaluate_case
from minivess.training.selection import (
    WITH_TOLERANCE,
    best_epoch,
    case_scores,
    check_selection,
    check_training,
    is_over,
    training_code,
)
from minivess.training.trainer import fit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.training.trainer import TrainingTask


def history(values: list[float], metric: str = "dice") -> list[dict[str, float]]:
    """Evaluated every second epoch."""
    found = []
    for index, value in enumerate(values):
        found += [{"epoch": 2.0 * index + 1}, {"epoch": 2.0 * index + 2}]
        found[-1][f"selection/{metric}"] = value
    return found


def test_the_first_of_the_best_epochs() -> None:
    assert best_epoch(history([0.2, 0.5, 0.5, 0.1]), "dice") == 4
    assert best_epoch(history([3.0, 2.0, 2.0, 9.0], "hd95_um"), "hd95_um") == 4
    assert best_epoch(history([]), "dice") == 0


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=8), st.integers(1, 4))
def test_patience_counts_evaluations_since_the_best(values: list[float], patience: int) -> None:
    training = TrainingConfig(patience=patience)
    best = values.index(max(values)) if values else 0
    since = len(values) - 1 - best if values else 0
    assert is_over(history(values), training) == (bool(values) and since >= patience)
    assert not is_over(history(values), TrainingConfig())


def test_scores_are_those_of_the_evaluation() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((9, 9, 5)).astype(np.float32)
    label = rng.random((9, 9, 5)) < 0.4
    spacing = (1.0, 1.0, 3.0)
    names = [name for name in METRICS if name not in WITH_TOLERANCE]
    scores = case_scores(probability, label, spacing, names)
    expected = evaluate_case(probability > 0.5, label, probability, spacing, 2.0, 0.01)
    for value in expected:
        if value.metric in names:
            assert scores[value.metric] == pytest.approx(value.value, rel=1e-9), value.metric
    # And those left out are all that depend on a tolerance.
    other = evaluate_case(probability > 0.5, label, probability, spacing, 9.0, 50.0)
    changed = {a.metric for a, b in zip(expected, other, strict=True) if a.value != b.value}
    assert changed == set(WITH_TOLERANCE)


def test_patience_ends_a_training(make_task: Callable[..., TrainingTask], tmp_path: Path) -> None:
    # Far too high a learning rate: nothing gets better for long.
    task = make_task(training={"epochs": 30, "learning_rate": 3.0, "patience": 2})
    result = fit(task, tmp_path, lambda row: None)
    assert len(result.history) < 30
    assert len(result.history) == result.best_epoch + 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"selection_metrics": ["n_branches"]}, "n_branches has no better direction"),
        ({"stopping_metric": "nsd"}, "nsd depends on a tolerance"),
        ({"checkpoint_metric": "cldice"}, "checkpoint_metric=cldice is no selection metric"),
        ({"patience": 1, "swa_start": 2}, "patience may end before swa_start"),
        ({"schedule": "constant", "snapshot_cycles": 2}, "the schedule is constant"),
    ],
)
def test_contradictions_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(MinivessError, match=message) as caught:
        check_training(Experiment.model_validate({"name": "x", "training": keys}))
    assert caught.value.code == "MV-CONFIG-004"


def test_the_code_of_metrics_counts_where_they_select() -> None:
    assert len(training_code(TrainingConfig())) == 1
    assert len(training_code(TrainingConfig(selection_metrics=("cldice",)))) == 2


def without_selection(**keys: Any) -> Experiment:
    return Experiment.model_validate({"name": "x", "folds": {"selection_fraction": 0}, **keys})


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"training": {"patience": 3}}, "training.patience=3"),
        ({"training": {"stopping_metric": "brier"}}, "training.stopping_metric=brier"),
        ({"training": {"checkpoint_metric": "dice"}}, "training.checkpoint_metric=dice"),
        ({"training": {"selection_metrics": ["cldice"]}}, "training.selection_metrics="),
        ({"ensembles": {"kinds": ["mean", "greedy_soup"]}}, "greedy_soup in ensembles.kinds"),
        ({"deploy": {"variants": ["int8"]}}, "int8 in deploy.variants"),
    ],
)
def test_what_needs_selection_cases_is_refused_without_them(
    keys: dict[str, Any], found: str
) -> None:
    check_selection(Experiment.model_validate({"name": "x", **keys}))
    with pytest.raises(MinivessError) as caught:
        check_selection(without_selection(**keys))
    assert caught.value.code == "MV-CONFIG-004"
    assert caught.value.found.startswith(found)
    assert "folds.selection_fraction above 0 (default: 0.2)" in caught.value.fix


def test_all_that_needs_selection_cases_is_named_at_once() -> None:
    keys: dict[str, Any] = {"training": {"patience": 3, "checkpoint_metric": "dice"}}
    with pytest.raises(MinivessError) as caught:
        check_selection(without_selection(**keys, deploy={"variants": ["int8"]}))
    assert caught.value.found.count(";") == 2


def test_what_needs_no_selection_cases_is_allowed_without_them() -> None:
    averaged = {"swa_start": 2, "ema_decay": 0.9, "selection_every": 1}
    kinds = ["mean", "vote", "uniform_soup", "swa"]
    check_selection(
        without_selection(
            training=averaged, ensembles={"kinds": kinds}, deploy={"variants": ["fp16"]}
        )
    )
