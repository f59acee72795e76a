"""A sweep from its first trial to its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minivess import output, paths
from minivess.config.sweep import Choices, Varied, read_sweep
from minivess.errors import MinivessError
from minivess.flows.snakemake import project_folder, request_without_lock
from minivess.logs import say
from minivess.sweep.figure import choice_text
from minivess.sweep.proposals import STARTUP, Search, Tried, propose
from minivess.sweep.results import (
    as_tried,
    best_trial,
    trial_line,
    values_text,
    write_best,
    write_results,
)
from minivess.sweep.space import Sweep, load_sweep, sweep_file
from minivess.sweep.trial import (
    SweepStopped,
    Trial,
    prepare_data,
    read_trial,
    run_trial,
    sweep_root,
)
from minivess.workflow import hold_lock

type Objective = Callable[[int, Mapping[str, Any]], Trial]


def tried_all(
    search: Search, planned: int, objective: Objective, told: Callable[[Sequence[Trial]], None]
) -> list[Trial]:
    """Propose and try, one trial after the other.

    Args:
        search: what is searched.
        planned: how many trials there are to be; fewer where the space has no more.
        objective: runs a trial, given its number and values, or knows what came of it.
        told: gets all trials so far after each one.
    """
    trials: list[Trial] = []
    while len(trials) < planned:
        values = propose(search, as_tried(trials))
        if values is None:
            say(f"the space has nothing new to try after {len(trials)} trials")
            break
        trials.append(objective(len(trials), values))
        told(trials)
    return trials


def run_sweep(name: str, arguments: Sequence[str], trials: int | None, cores: str) -> int:
    """Run a sweep, or go on where it stopped; the exit status.

    Args:
        name: name of a file in configs/sweep/, or a path.
        arguments: overrides and data for every trial, as `minivess experiment` takes them.
        trials: how many; none: what the file says. A sweep never forgets those it has.
        cores: number of cores or "all".

    Raises:
        MinivessError: see `load_sweep`; MV-STATE-001 the results are of another sweep of that name,
            MV-STATE-002 no trial has finished, MV-STATE-004 it is being run.
    """
    sweep = _loaded(name, arguments)
    root = sweep_root(sweep)
    hold_lock(paths.trial_record(root, 0).parent)
    _check_same(sweep)
    planned = _planned(sweep, trials)
    say(f"sweep {sweep.name}: {planned} trials of {sweep.base}, by {_aim(sweep)}")
    try:
        data = prepare_data(sweep, cores)

        def objective(number: int, values: Mapping[str, Any]) -> Trial:
            known = read_trial(sweep, number, values, data)
            return known or run_trial(sweep, number, values, data, cores)

        def told(found: Sequence[Trial]) -> None:
            say(trial_line(sweep, found, planned))

        done = tried_all(sweep.search, planned, objective, told)
    except SweepStopped as stopped:
        say(f"{stopped}; see {root / 'logs' / 'sweep'}. The same command goes on")
        return stopped.status
    best = best_trial(sweep, done)
    if best is not None:
        write_best(sweep, best, len(done))
    say("\n" + write_results(sweep, done))
    if best is None:
        raise MinivessError(
            "MV-STATE-002",
            what="no trial of the sweep has finished",
            where=str(paths.trials_csv(root)),
            found=(done[-1].error or {})["text"],
            fix="mend what the errors name, or the ranges",
        )
    return 0


def _loaded(name: str, arguments: Sequence[str]) -> Sweep:
    base = project_folder()
    overrides: dict[str, Any] = {}
    if arguments:
        config = read_sweep(sweep_file(name, base))
        asked = request_without_lock(config.experiment, arguments, "1")
        if asked.targets:
            raise MinivessError(
                "MV-CONFIG-004",
                what="a sweep has a target of its own: the trainings",
                found=" ".join(asked.targets),
                expected="overrides (key=value) or data",
            )
        overrides = asked.overrides
    return load_sweep(name, overrides, base)


def _check_same(sweep: Sweep) -> None:
    """Trials of another space, metric or experiment are not taken for those of this one."""
    path, identity = paths.sweep_record(sweep_root(sweep)), sweep.identity()
    if path.is_file():
        found = output.read_json(path)
        other = [key for key in identity if found.get(key) != identity[key]]
        if other:
            raise MinivessError(
                "MV-STATE-001",
                what="there are trials of another sweep of this name",
                where=str(path),
                found="another " + ", another ".join(other),
                fix=f"give the file of the sweep another name, or remove {path.parent}",
            )
    else:
        output.write_json(identity, path)


def _planned(sweep: Sweep, trials: int | None) -> int:
    """How many trials: those that there are already count as looks, whatever is asked for."""
    asked = trials or sweep.config.trials
    there = len(list(paths.trial_record(sweep_root(sweep), 0).parent.glob("*.json")))
    if there > asked:
        say(f"there are {there} trials already: all of them count")
    return max(asked, there)


def _aim(sweep: Sweep) -> str:
    word = "lowest" if sweep.search.direction == "minimize" else "highest"
    return f"the {word} {sweep.metric} of the selection cases, mean over folds and seeds"


def describe(name: str, arguments: Sequence[str], trials: int | None) -> str:
    """What a sweep would do: its space, what decides, the first proposals. Nothing is written.

    Raises:
        MinivessError: see `load_sweep`.
    """
    sweep = _loaded(name, arguments)
    planned = trials or sweep.config.trials
    lines = [f"Sweep {sweep.name}: at most {planned} trials of {sweep.base}", f"by {_aim(sweep)}"]
    lines += ["", "Space"]
    lines += [f"  {key}: {range_text(varied)}" for key, varied in sweep.search.space.items()]
    own = "trial 0 is the experiment as it is"
    if sweep.search.first is None:
        own = "the experiment's own values are not all in the space, so no trial has them"
    lines += ["", f"First proposals ({own})"]
    tried: list[Tried] = []
    # Until there are so many values none of them has a say in a proposal.
    while len(tried) < min(planned, STARTUP):
        values = propose(sweep.search, tried)
        if values is None:
            break
        lines.append(f"  {len(tried)}: {values_text(values)}")
        tried.append(Tried(values, 0.0))
    return "\n".join(lines)


def range_text(varied: Varied) -> str:
    """A range or choices in words.

    >>> from minivess.config.sweep import Range
    >>> range_text(Range(low=1, high=8, integer=True, log=True))
    '1 to 8, whole numbers, logarithmic'
    """
    if isinstance(varied, Choices):
        return " or ".join(choice_text(value) for value in varied.choices)
    low, high = varied.ends()
    words = [f"{low:g} to {high:g}"]
    words += ["whole numbers"] * varied.integer + ["logarithmic"] * varied.log
    words += [] if varied.step is None else [f"in steps of {varied.step:g}"]
    return ", ".join(words)
