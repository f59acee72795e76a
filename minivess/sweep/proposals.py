"""What the next trial of a sweep is: a function of seed, number and the trials before it.

Nothing is kept between two proposals. A sweep that was stopped and goes on proposes the same trials
as one that was not.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from minivess import seeding
from minivess.config.sweep import Choices, Varied

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

# Trials that are drawn at random before the estimator has a say: Optuna's own default.
STARTUP = 10
# Draws after which the estimator has nothing new to say, where each has been there before.
DRAWS = 64
# Of a space that can be counted: as many points as are listed to find one that is left.
MOST_POINTS = 100_000
# Of proposed numbers: more would only be harder to read.
DIGITS = 4

type Values = Mapping[str, Any]
type Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Search:
    """What is searched: the space, which direction is better, the seed, the values to begin with.

    Attributes:
        space: a range or choices for each key.
        direction: of the value.
        seed: of the proposals.
        first: values of trial 0, the experiment's own; none: they are not in the space.
    """

    space: Mapping[str, Varied]
    direction: Direction
    seed: int
    first: Values | None = None


@dataclass(frozen=True)
class Tried:
    """A trial that is over: its values, and what came of it; none: it failed."""

    values: Values
    value: float | None


def propose(search: Search, tried: Sequence[Tried]) -> dict[str, Any] | None:
    """Values of the next trial; None where nothing is left.

    The first trial is the experiment as it is, where the space holds it. What has been tried is
    drawn again: the same training gives the same bytes. Failed trials count as tried. Where the
    estimator only repeats itself, which it does in small spaces, the next trial is a random one.

    Args:
        search: what is searched.
        tried: all trials so far, in their order.

    Source: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization (tree-structured
        Parzen estimator), Optuna's multivariate one.

    >>> from minivess.config.sweep import Range
    >>> search = Search({"epochs": Range(low=1, high=2, integer=True)}, "maximize", 0)
    >>> first = propose(search, [])
    >>> second = propose(search, [Tried(first, 0.5)])
    >>> sorted([first["epochs"], second["epochs"]])
    [1, 2]
    >>> propose(search, [Tried(first, 0.5), Tried(second, None)]) is None
    True
    """
    import optuna

    if not tried and search.first is not None:
        return dict(search.first)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return _drawn(search, tried)
    finally:
        optuna.logging.set_verbosity(before)


def _drawn(search: Search, tried: Sequence[Tried]) -> dict[str, Any] | None:
    from optuna.samplers import RandomSampler, TPESampler

    known = [dict(one.values) for one in tried]
    space = list(search.space.values())
    counted = math.prod(count_points(varied) for varied in space)
    listed = counted <= MOST_POINTS
    for draw in range(DRAWS if listed else 2 * DRAWS):
        seed = seeding.derive_seed(search.seed, "sweep", len(tried), draw) % 2**32
        estimated = TPESampler(n_startup_trials=STARTUP, seed=seed)
        sampler = estimated if draw < DRAWS else RandomSampler(seed=seed)
        values = _asked(search, tried, sampler)
        if values not in known:
            return values
    if not listed:
        return None
    every = [
        dict(zip(search.space, values, strict=True))
        for values in itertools.product(*(points(varied) for varied in space))
    ]
    left = [values for values in every if values not in known]
    rng = seeding.generator(search.seed, "sweep", len(tried))
    return left[int(rng.integers(len(left)))] if left else None


def _asked(search: Search, tried: Sequence[Tried], sampler: BaseSampler) -> dict[str, Any]:
    """What a sampler proposes after these trials."""
    import optuna

    study = optuna.create_study(direction=search.direction, sampler=sampler)
    study.add_trials([_frozen(search, one) for one in tried])
    asked = study.ask({key: distribution(one) for key, one in search.space.items()})
    return {key: _value(search.space[key], asked.params[key]) for key in search.space}


def count_points(varied: Varied) -> float:
    """How many values a range or choices have; infinitely many between two numbers.

    >>> from minivess.config.sweep import Range
    >>> count_points(Range(low=1, high=8, integer=True)), count_points(Range(low=0.1, high=1))
    (8, inf)
    """
    if isinstance(varied, Choices):
        return len(varied.choices)
    low, high = varied.ends()
    step = varied.step or (1 if varied.integer else 0)
    return math.inf if step == 0 else int((high - low) / step + 1e-9) + 1


def points(varied: Varied) -> list[Any]:
    """All values of choices, or of a range with steps, in their order.

    >>> from minivess.config.sweep import Range
    >>> points(Range(low=0.0, high=0.3, step=0.1))
    [0.0, 0.1, 0.2, 0.3]
    """
    if isinstance(varied, Choices):
        return [json.loads(_text(choice)) for choice in varied.choices]
    low, step = varied.ends()[0], varied.step or 1
    found = [low + number * step for number in range(int(count_points(varied)))]
    return [_value(varied, one) for one in found]


def distribution(varied: Varied) -> BaseDistribution:
    """A range or choices as Optuna's distribution; choices are JSON texts there."""
    from optuna import distributions

    if isinstance(varied, Choices):
        return distributions.CategoricalDistribution([_text(value) for value in varied.choices])
    if varied.integer:
        low, high = (int(end) for end in varied.ends())
        step = 1 if varied.step is None else int(varied.step)
        return distributions.IntDistribution(low, high, log=varied.log, step=step)
    return distributions.FloatDistribution(
        varied.low, varied.high, log=varied.log, step=varied.step
    )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _value(varied: Varied, proposed: Any) -> Any:
    """What Optuna proposed as the config takes it, floats in a few digits."""
    if isinstance(varied, Choices):
        return json.loads(proposed)
    if varied.integer:
        return int(proposed)
    if varied.step is not None:
        return round(float(proposed), 12)
    short = float(f"{proposed:.{DIGITS - 1}e}")
    return min(max(short, varied.low), varied.high)


def _frozen(search: Search, one: Tried) -> FrozenTrial:
    """A trial as Optuna keeps it; it learns nothing from a failed one."""
    from optuna.trial import TrialState, create_trial

    params = {
        key: _text(one.values[key]) if isinstance(varied, Choices) else one.values[key]
        for key, varied in search.space.items()
    }
    kinds = {key: distribution(varied) for key, varied in search.space.items()}
    state = TrialState.FAIL if one.value is None else TrialState.COMPLETE
    return create_trial(state=state, params=params, distributions=kinds, value=one.value)


def best_of(direction: Direction, tried: Sequence[Tried]) -> int | None:
    """Number of the best trial, of equal ones the first; None where all have failed.

    >>> best_of("minimize", [Tried({}, None), Tried({}, 0.5), Tried({}, 0.25), Tried({}, 0.25)])
    2
    """
    sign = 1.0 if direction == "minimize" else -1.0
    found = [(sign * one.value, n) for n, one in enumerate(tried) if one.value is not None]
    return min(found)[1] if found else None
