"""What a sweep leaves: all trials, the best one as an experiment, and how far to trust it."""

from __future__ import annotations

import json
import statistics as stdlib_statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from minivess import output, paths
from minivess.figures import style
from minivess.sweep.figure import draw
from minivess.sweep.proposals import Tried, best_of
from minivess.sweep.space import Sweep
from minivess.sweep.trial import Trial, sweep_root, trial_name, write_experiment

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH = 100


def as_tried(trials: Sequence[Trial]) -> list[Tried]:
    """Trials as the next proposal sees them."""
    return [Tried(trial.values, trial.value) for trial in trials]


def best_trial(sweep: Sweep, trials: Sequence[Trial]) -> Trial | None:
    """The best one; None where all have failed."""
    number = best_of(sweep.search.direction, as_tried(trials))
    return None if number is None else trials[number]


def trials_table(sweep: Sweep, trials: Sequence[Trial]) -> pl.DataFrame:
    """One row for each trial, failed ones too: value, best so far, each run, each key, error.

    Values that are not numbers are JSON texts.
    """
    runs = sorted({_short(run) for trial in trials for run in trial.runs})
    rows = []
    for trial in trials:
        values, best = list(trial.runs.values()), best_trial(sweep, trials[: trial.number + 1])
        by_run = {_short(run): value for run, value in trial.runs.items()}
        rows.append(
            {
                "trial": trial.number,
                "experiment": trial_name(sweep, trial.number),
                "state": "failed" if trial.error else "complete",
                "metric": sweep.metric,
                "value": trial.value,
                "sd": stdlib_statistics.stdev(values) if len(values) > 1 else None,
                "best": None if best is None else best.value,
                **{run: by_run.get(run) for run in runs},
                **{key: as_cell(value) for key, value in trial.values.items()},
                "error": trial.error["code"] if trial.error else None,
            }
        )
    numbers = dict.fromkeys(("value", "sd", "best", *runs), pl.Float64())
    return pl.DataFrame(
        rows, schema_overrides={**numbers, "error": pl.String()}, infer_schema_length=None
    )


def _short(run: str) -> str:
    """Seed and fold of a run: a trial has one network and loss."""
    return "/".join(run.split("/")[-2:])


def as_cell(value: Any) -> float | int | str:
    """A value as a table holds it.

    >>> as_cell(0.5), as_cell(True), as_cell(["dice_ce"])
    (0.5, 'true', '["dice_ce"]')
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return value if isinstance(value, str) else json.dumps(value)


def values_text(values: Mapping[str, Any]) -> str:
    """Values as `minivess experiment` takes them.

    >>> values_text({"training.learning_rate": 0.001, "losses": ["dice_ce"]})
    'training.learning_rate=0.001 losses=["dice_ce"]'
    """
    return " ".join(f"{key}={as_cell(value)}" for key, value in values.items())


def trial_line(sweep: Sweep, trials: Sequence[Trial], planned: int) -> str:
    """The line that is printed when the last of these trials is over."""
    trial, best = trials[-1], best_trial(sweep, trials)
    if trial.error:
        what = f"failed, {trial.error['code']}"
    else:
        runs = ", ".join(f"{_short(run)} {value:.4f}" for run, value in trial.runs.items())
        what = f"selection {sweep.metric} {trial.value:.4f} ({runs})"
    mark = "" if best is None else f"; best: trial {best.number}, {best.value:.4f}"
    place = f"trial {trial.number} ({len(trials)} of {planned})"
    return f"{place}: {what}; {values_text(trial.values)}{mark}"


def write_results(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """Write table, figure, the best trial's experiment and the summary, which is returned."""
    root = sweep_root(sweep)
    table = trials_table(sweep, trials)
    output.write_parquet(table, paths.table(root, "trials"))
    output.write_text(table.write_csv(), paths.trials_csv(root))
    base = paths.figure(root, "sweep", "svg").with_suffix("")
    style.save(draw(sweep, trials), base, [paths.table(root, "trials")])
    best = best_trial(sweep, trials)
    text = summary(sweep, trials, best)
    output.write_text(text, paths.summary_text(root))
    return text


def write_best(sweep: Sweep, best: Trial, n_trials: int) -> Path:
    """The best trial as an experiment that `minivess experiment` runs to its end."""
    note = (
        f"Best of {n_trials} trials of the sweep {sweep.name}: {sweep.metric} of the selection "
        f"cases {best.value:.4f},\nthe best of that many looks and so too good by chance."
    )
    return write_experiment(sweep, f"{sweep.name}-best", best.values, note)


def summary(sweep: Sweep, trials: Sequence[Trial], best: Trial | None) -> str:
    """What came of a sweep, and how far to trust it."""
    failed = [trial for trial in trials if trial.error]
    root = sweep_root(sweep)
    count = f"{len(trials)} trials of {sweep.base}, {len(failed)} failed"
    aim = f"{sweep.metric} of the selection cases, mean over folds and seeds"
    lines = [f"Sweep {sweep.name}: {count}; {aim}."]
    lines += [f"Failed: trial {one.number}, {(one.error or {})['code']}." for one in failed]
    if best is None:
        lines.append("No trial has finished, so there is no best one.")
    else:
        lines += _about_best(sweep, trials, best)
    lines += [f"All trials: {paths.trials_csv(root)}"]
    lines += [f"Figure: {paths.figure(root, 'sweep', 'svg')}"]
    return (
        "\n".join(
            line for text in lines for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False)
        )
        + "\n"
    )


def _about_best(sweep: Sweep, trials: Sequence[Trial], best: Trial) -> list[str]:
    lines = [f"Best: trial {best.number}, {best.value:.4f}: {values_text(best.values)}"]
    first = trials[0]
    if sweep.search.first is not None and first.value is not None:
        lines.append(f"The experiment as it is (trial 0): {first.value:.4f}")
    looks = sum(len(trial.runs) for trial in trials)
    test_cases = sweep.experiment.folds.test_cases
    kept = f"the {len(test_cases)} locked test cases" if test_cases else "locked test cases"
    lines.append(
        f"The selection cases were looked at {looks} times; the best of {len(trials)} values is "
        "too good by chance. No held-out case was predicted: the experiment below does that, and "
        "gives the numbers to report. But the selection cases of one fold are held out in another, "
        f"where the choice has seen them; results on {kept} or on an external set are free of that."
    )
    if len(sweep.experiment.seeds) == 1:
        lines.append(
            "One training seed: differences between trials that another seed would turn round "
            "cannot be told from others. overrides: {seeds: [0, 1, 2]} averages over three."
        )
    path = paths.sweep_experiment(sweep_root(sweep), f"{sweep.name}-best")
    lines.append(f"Run it: minivess experiment {path}")
    return lines
