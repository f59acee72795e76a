"""What a sweep proposes: inside its space, never twice, and the same after a stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.sweep import Choices, Range
from minivess.sweep.proposals import STARTUP, Search, Tried, best_of, propose
from minivess.sweep.run import tried_all
from minivess.sweep.trial import Trial

SPACE = {
    "training.learning_rate": Range(low=1e-4, high=1e-1, log=True),
    "patches.batch_size": Range(low=1, high=8, integer=True),
    "augment.noise_std": Range(low=0.0, high=0.5, step=0.1),
    "losses": Choices(choices=(["dice_ce"], ["cbdice"])),
}
FIRST = {
    "training.learning_rate": 1e-3,
    "patches.batch_size": 2,
    "augment.noise_std": 0.2,
    "losses": ["dice_ce"],
}
SEARCH = Search(SPACE, "maximize", 3, FIRST)


def objective(number: int, values: Mapping[str, Any]) -> Trial:
    """Best at a rate of 0.01 with batches of 6; every seventh trial fails."""
    if number % 7 == 5:
        return Trial(number, values, {}, {"code": "MV-TRAIN-001", "text": "no longer finite"})
    rate = -((math.log10(values["training.learning_rate"]) + 2) ** 2)
    batch = -(((values["patches.batch_size"] - 6) / 8) ** 2)
    return Trial(number, values, {"a/b/seed0/fold0": rate + batch})


class Killed(BaseException):
    """The process is gone."""


def test_a_stopped_sweep_goes_on_as_one_that_was_not() -> None:
    n = STARTUP + 8
    whole = tried_all(SEARCH, n, objective, lambda trials: None)
    kept: dict[int, Trial] = {}

    def interrupted(number: int, values: Mapping[str, Any]) -> Trial:
        if number in kept:
            assert kept[number].values == values
            return kept[number]
        if number in stops:
            stops.remove(number)
            raise Killed
        kept[number] = objective(number, values)
        return kept[number]

    stops = [0, 4, STARTUP + 1, STARTUP + 5]
    while True:
        try:
            again = tried_all(SEARCH, n, interrupted, lambda trials: None)
            break
        except Killed:
            continue
    assert stops == []
    assert again == whole
    assert [trial.number for trial in whole] == list(range(n))
    assert sum(trial.error is not None for trial in whole) == 2, "failed ones are kept"
    assert whole[0].values == FIRST


def test_later_trials_are_nearer_to_the_best() -> None:
    trials = tried_all(SEARCH, 40, objective, lambda trials: None)
    found = [trial.value for trial in trials if trial.value is not None]
    early, late = found[1 : STARTUP - 1], found[-STARTUP:]
    assert sum(late) / len(late) > sum(early) / len(early)
    assert max(found) > -0.05


def test_another_seed_proposes_others() -> None:
    def second(seed: int) -> dict[str, Any] | None:
        return propose(Search(SPACE, "maximize", seed, FIRST), [Tried(FIRST, 0.5)])

    assert second(0) == second(0) != second(1)


def test_what_was_tried_is_not_proposed_again_until_nothing_is_left() -> None:
    space = {
        "training.optimizer": Choices(choices=("adamw", "sgd")),
        "seeds": Choices(choices=(1, 2)),
    }
    trials = tried_all(
        Search(space, "minimize", 0),
        20,
        lambda number, values: Trial(number, values, {"a": float(number)}),
        lambda trials: None,
    )
    assert len(trials) == 4
    assert len({str(trial.values) for trial in trials}) == 4


@pytest.mark.parametrize(
    "space",
    [
        {"a": Choices(choices=(1, 2, 3, 4)), "b": Choices(choices=("v", "w", "x", "y", "z"))},
        {"a": Range(low=1, high=20, integer=True)},
        {"a": Range(low=0.0, high=0.9, step=0.1), "b": Choices(choices=(True, False))},
    ],
)
def test_a_space_that_can_be_counted_is_tried_to_its_end(space: dict[str, Any]) -> None:
    trials = tried_all(
        Search(space, "maximize", 0),
        30,
        lambda number, values: Trial(number, values, {"a": float(number % 5)}),
        lambda trials: None,
    )
    assert len(trials) == len({str(trial.values) for trial in trials}) == 20


@settings(max_examples=15, deadline=None)
@given(
    low=st.floats(1e-6, 1.0),
    factor=st.floats(1.5, 1e4),
    log=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_proposal_is_in_its_range(low: float, factor: float, log: bool, seed: int) -> None:
    space = {
        "a": Range(low=low, high=low * factor, log=log),
        "b": Range(low=1, high=64, integer=True, log=log),
        "c": Range(low=0.0, high=0.3, step=0.1),
        "d": Choices(choices=(None, True, "x", [1, 2])),
    }
    tried: list[Tried] = []
    for number in range(STARTUP + 3):
        values = propose(Search(space, "maximize", seed), tried)
        assert values is not None
        assert low <= values["a"] <= low * factor
        assert isinstance(values["b"], int)
        assert 1 <= values["b"] <= 64
        assert values["c"] in (0.0, 0.1, 0.2, 0.3)
        assert values["d"] in (None, True, "x", [1, 2])
        tried.append(Tried(values, float(number % 4)))


@pytest.mark.parametrize(("direction", "best"), [("maximize", 2), ("minimize", 1)])
def test_the_best_is_the_first_of_equal_ones(direction: Any, best: int) -> None:
    values: Sequence[float | None] = (None, 0.1, 0.9, 0.9, 0.1)
    assert best_of(direction, [Tried({}, value) for value in values]) == best
    assert best_of(direction, [Tried({}, None)]) is None
