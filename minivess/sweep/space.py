"""A sweep, checked: every key exists, varies nothing but trainings, and takes all its values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivess.config.files import read_yaml
from minivess.config.load import experiment_file, merge, placed, resolve, with_overrides
from minivess.config.schema import Experiment
from minivess.config.sweep import SWEEPS, Choices, Range, SweepConfig, Varied, read_sweep
from minivess.errors import MinivessError, nearest
from minivess.metrics import METRICS
from minivess.sweep.proposals import Direction, Search
from minivess.workflow import resolve_checked

# What a trial may change: how a network is trained, never on or by what it is judged.
SECTIONS = ("losses", "models", "preprocess", "patches", "augment", "loss", "training")
JUDGING = (
    "selection_metrics",
    "checkpoint_metric",
    "stopping_metric",
    "selection_every",
    "selection_overlap",
)


@dataclass(frozen=True)
class Sweep:
    """A sweep, and the experiment that it varies.

    Attributes:
        name: of its file.
        config: the file.
        base: name or path of the experiment's file.
        overrides: keys that are other than in that file, in every trial.
        experiment: that experiment, resolved, with those overrides.
        metric: metric of the selection cases that decides.
        search: what is proposed from.
        written: the experiment's file as it was read, with those overrides.
    """

    name: str
    config: SweepConfig
    base: str
    overrides: Mapping[str, Any]
    experiment: Experiment
    metric: str
    search: Search
    written: Mapping[str, Any]

    def values(self, name: str, changed: Mapping[str, Any]) -> dict[str, Any]:
        """The experiment's file with overrides and changed keys, under another name."""
        merged = dict(self.written)
        for key, value in changed.items():
            merged = merge(merged, placed(key, value))
        return {**merged, "name": name}

    def identity(self) -> dict[str, Any]:
        """All that the proposals and their values depend on, but code and data."""
        experiment = self.experiment.model_dump(mode="json")
        return {
            "sweep": self.name,
            "experiment": {key: value for key, value in experiment.items() if key != "name"},
            "space": {key: one.model_dump(mode="json") for key, one in self.search.space.items()},
            "seed": self.search.seed,
            "metric": self.metric,
        }


def sweep_file(name: str, base: Path) -> Path:
    """The file of a sweep, there or not.

    >>> sweep_file("demo", Path()).as_posix()
    'configs/sweep/demo.yaml'
    """
    return Path(name) if name.endswith((".yaml", ".yml")) else base / SWEEPS / f"{name}.yaml"


def load_sweep(name: str, overrides: Mapping[str, Any], base: Path) -> Sweep:
    """Read and check a sweep.

    Args:
        name: name of a file in configs/sweep/, or a path.
        overrides: keys that are other than in the experiment, over those of the file.
        base: the project's folder.

    Raises:
        MinivessError: MV-CONFIG-001 unknown key, -002 a value that a key does not take, -003 no
            such sweep, experiment or metric, -004 a key that no trial may change, more than one
            network and loss, or no selection cases.
    """
    path = sweep_file(name, base)
    config = read_sweep(path)
    projects = base / "configs" / "experiment"
    all_overrides = merge(_nested(config.overrides), _nested(overrides))
    experiment = resolve_checked({"experiment": config.experiment, **all_overrides}, base)
    _check_one_arm(experiment, path)
    if experiment.folds.selection_fraction == 0:
        raise _contradiction(
            path,
            "folds.selection_fraction=0: trials are judged by selection cases, and there are none",
            "set folds.selection_fraction in overrides, 0.2 for example, and train what was found "
            "without it",
        )
    metric = _metric(config, experiment, path)
    space: dict[str, Varied] = {}
    for key, varied in config.space.items():
        own = ".".join(_place(key, experiment, path))
        if own in space:
            raise _contradiction(path, f"{own} is there twice")
        space[own] = varied
        _check_values(own, varied, config.experiment, all_overrides, base, path)
    direction: Direction = "minimize" if METRICS[metric].better == "lower" else "maximize"
    first = _own_values(space, config.experiment, all_overrides, projects)
    search = Search(space, direction, config.seed, first)
    file = experiment_file(config.experiment, projects)
    written = with_overrides(read_yaml(file), all_overrides, str(file))
    return Sweep(
        path.stem, config, config.experiment, all_overrides, experiment, metric, search, written
    )


def _check_values(
    key: str, varied: Varied, name: str, overrides: Mapping[str, Any], base: Path, path: Path
) -> None:
    """Raise for what the key does not take: a choice, an end of a range, or what is between."""
    for value in varied.ends():
        changed = merge(overrides, placed(key, value))
        _check_one_arm(_with(name, changed, base), path)
    between = varied.between()
    if between is None:
        return
    try:
        _with(name, merge(overrides, placed(key, between)), base)
    except MinivessError as error:
        if error.code == "MV-CONFIG-002":
            error.where = f"{path}, space.{key}"
            error.fix = f"add integer: true to space.{key} if it takes whole numbers alone"
        raise


def _with(name: str, changed: Mapping[str, Any], base: Path) -> Experiment:
    """The experiment with one of the values, checked as when it is run.

    What only contradicts other keys is left to the trials: with their values it may not.
    """
    try:
        return resolve_checked({"experiment": name, **changed}, base)
    except MinivessError as error:
        if error.code != "MV-CONFIG-004":
            raise
    return resolve(name, changed, base / "configs" / "experiment")


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides in their places, so that two spellings of a key are one."""
    merged: dict[str, Any] = {}
    for key, value in overrides.items():
        merged = merge(merged, placed(key, value))
    return merged


def _contradiction(path: Path, found: str, fix: str = "") -> MinivessError:
    return MinivessError(
        "MV-CONFIG-004",
        what="the sweep cannot be run",
        where=str(path),
        found=found,
        fix=fix or "docs/how-to/sweep.md says what may vary",
    )


def _check_one_arm(experiment: Experiment, path: Path) -> None:
    """One network and loss: the mean over several would hide which of them a value is good for."""
    arms = ["/".join(arm) for arm in experiment.arms()]
    if len(arms) > 1:
        raise _contradiction(
            path,
            f"{len(arms)} networks and losses in one trial: {', '.join(arms)}",
            "set losses and models to one each in overrides; "
            "losses: {choices: [[dice_ce], [cbdice]]} lets them vary",
        )


def _metric(config: SweepConfig, experiment: Experiment, path: Path) -> str:
    """The metric that decides: one that the trainings measure on their selection cases."""
    known = experiment.training.measured()
    metric = config.metric or experiment.training.predicting_metric
    if metric not in known:
        more = (
            f"; to measure {metric}: training.selection_metrics in overrides"
            if metric in METRICS
            else ""
        )
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"no training measures {metric} on its selection cases",
            where=f"{path}, metric",
            fix=nearest(metric, known) + more,
        )
    return metric


def _place(key: str, experiment: Experiment, path: Path) -> list[str]:
    """The key in its section, as a list; only keys of how a network is trained are allowed."""
    parts, inside = [], placed(key, None)
    while isinstance(inside, Mapping):
        ((part, inside),) = inside.items()
        parts.append(str(part))
    with_overrides({}, {key: 0} if len(parts) > 1 else {}, str(path))
    fixed = parts[0] == "training" and parts[-1] in JUDGING
    if parts[0] not in SECTIONS or fixed or (len(parts) == 1 and parts[0] != "losses"):
        raise _contradiction(
            path,
            f"{'.'.join(parts)} may not vary",
            f"what may: single keys of {', '.join(SECTIONS)}; not by what trials are judged",
        )
    if parts[0] == "models" and parts[1] not in experiment.models:
        raise MinivessError(
            "MV-CONFIG-001",
            what=f"the experiment has no network {parts[1]}",
            where=f"{path}, space.{key}",
            found=parts[1],
            fix=nearest(parts[1], experiment.models),
        )
    return parts


def _value_at(experiment: Experiment, key: str) -> Any:
    value: Any = experiment.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def _own_values(
    space: Mapping[str, Varied], base: str, overrides: Mapping[str, Any], projects: Path
) -> dict[str, Any] | None:
    """The experiment's own values, if the space holds all of them."""
    own = resolve(base, overrides, projects)
    found: dict[str, Any] = {}
    for key, varied in space.items():
        value = _value_at(own, key)
        if isinstance(varied, Choices):
            same = [
                choice
                for choice in varied.choices
                if _value_at(resolve(base, merge(overrides, placed(key, choice)), projects), key)
                == value
            ]
            if not same:
                return None
            found[key] = same[0]
        elif not _holds(varied, value):
            return None
        else:
            found[key] = int(value) if varied.integer else float(value)
    return found


def _holds(varied: Range, value: Any) -> bool:
    """Whether a range holds a value."""
    if not isinstance(value, int | float) or not varied.low <= value <= varied.high:
        return False
    steps = (value - varied.low) / (varied.step or 1.0)
    whole = varied.integer or varied.step is not None
    return not whole or math.isclose(steps, round(steps), abs_tol=1e-9)
