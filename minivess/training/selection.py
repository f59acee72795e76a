"""Which epoch's weights are kept, and when to stop: decided on the selection cases alone.

Without such cases the last epoch's are, and nothing that needs them can be asked for.

Everything here is a function of the history, so that a resumed training decides as one that was
never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from minivess import stepcode
from minivess.config.schema import FoldsConfig
from minivess.config.training import TrainingConfig
from minivess.errors import MinivessError
from minivess.metrics import METRICS

if TYPE_CHECKING:
    from minivess.config.schema import Experiment
    from minivess.types import BoolArray, Float32Array, Spacing

    type History = Sequence[Mapping[str, float]]

# Keys that choose by selection cases.
SELECTING = ("selection_metrics", "checkpoint_metric", "patience", "stopping_metric")
# What the record of a run has in place of a metric where no case has selected its weights.
LAST_EPOCH = "last_epoch"
# Their values depend on a tolerance of the section `evaluation`, which no training reads.
WITH_TOLERANCE = ("nsd", "junction_f1", "boundary_ece")
_ANY_TOLERANCE_UM = 1.0


def case_scores(
    probability: Float32Array, label: BoolArray, spacing_um: Spacing, names: Iterable[str]
) -> dict[str, float]:
    """Metrics of one selection case at probability 0.5.

    Args:
        probability: vessel probability (x, y, z).
        label: reference of the same shape.
        spacing_um: spacing (x, y, z) in um.
        names: ids of the metrics; anything but Dice takes as long as a full evaluation.

    >>> import numpy as np
    >>> label = np.ones((2, 2, 2), dtype=bool)
    >>> case_scores(label.astype(np.float32), label, (1.0, 1.0, 5.0), ["dice"])
    {'dice': 1.0}
    """
    mask = probability > 0.5
    total = int(mask.sum()) + int(label.sum())
    scores = {"dice": 2.0 * int((mask & label).sum()) / total if total else 1.0}
    wanted = list(names)
    if set(wanted) - {"dice"}:
        from minivess.metrics.evaluate import evaluate_case

        tolerances = _ANY_TOLERANCE_UM, _ANY_TOLERANCE_UM
        values = evaluate_case(mask, label, probability, spacing_um, *tolerances)
        scores = {value.metric: value.value for value in values} | scores
    return {name: scores[name] for name in wanted}


def best_epoch(history: History, metric: str) -> int:
    """The first epoch with the best value of a selection metric; 0 where none was evaluated.

    >>> best_epoch([{"epoch": 1, "selection/dice": 0.5}, {"epoch": 2}], "dice")
    1
    """
    sign = -1.0 if METRICS[metric].better == "lower" else 1.0
    name = f"selection/{metric}"
    found = [(sign * entry[name], -int(entry["epoch"])) for entry in history if name in entry]
    return -max(found)[1] if found else 0


def is_over(history: History, training: TrainingConfig) -> bool:
    """Whether patience has run out."""
    if training.patience is None:
        return False
    metric = training.watched_metric
    name, best = f"selection/{metric}", best_epoch(history, metric)
    return sum(name in entry and entry["epoch"] > best for entry in history) >= training.patience


def training_code(training: TrainingConfig) -> list[str]:
    """Digests of the code behind a training: that of the metrics where they select."""
    steps = ["train", "evaluate"] if len(training.measured()) > 1 else ["train"]
    return [stepcode.step_digest(step) for step in steps]


def check_training(experiment: Experiment) -> None:
    """Raise for keys of a training that contradict each other.

    Raises:
        MinivessError: MV-CONFIG-004; it names all of them.
    """
    training, compute = experiment.training, experiment.compute
    names = training.measured()
    aimless = [name for name in names if METRICS[name].better == "neither"]
    problems = [f"{name} has no better direction" for name in aimless]
    problems += [f"{name} depends on a tolerance" for name in names if name in WITH_TOLERANCE]
    if training.predicting_metric not in training.selection_metrics:
        problems.append(f"checkpoint_metric={training.predicting_metric} is no selection metric")
    if training.patience is not None and training.keeps_weights():
        problems.append("patience may end before swa_start or the last of snapshot_cycles")
    if training.snapshot_cycles is not None and training.schedule != "cosine":
        problems.append(f"snapshot_cycles are cosine, the schedule is {training.schedule}")
    if compute.compile and compute.profile != "fast":
        problems.append("compute.compile makes code for one CPU, the profile strict for all")
    if problems:
        raise MinivessError(
            "MV-CONFIG-004",
            what="keys of the training contradict each other",
            where=f"experiment {experiment.name}, training and compute",
            found="; ".join(problems),
            fix="docs/how-to/tune-a-training.md says what each key needs",
        )


def check_selection(experiment: Experiment) -> None:
    """Raise for what needs selection cases where no fold keeps any.

    Raises:
        MinivessError: MV-CONFIG-004; it names all such keys.
    """
    if experiment.folds.selection_fraction > 0:
        return
    values, defaults = experiment.training.model_dump(), TrainingConfig().model_dump()
    asked = [f"training.{key}={values[key]}" for key in SELECTING if values[key] != defaults[key]]
    asked += ["greedy_soup in ensembles.kinds"] * ("greedy_soup" in experiment.ensembles.kinds)
    asked += ["int8 in deploy.variants"] * ("int8" in experiment.deploy.variants)
    if asked:
        raise MinivessError(
            "MV-CONFIG-004",
            what="the config asks for what needs selection cases, and no fold keeps any",
            where=f"experiment {experiment.name}, folds.selection_fraction=0",
            found="; ".join(asked),
            fix="leave those out, or set folds.selection_fraction above 0 "
            f"(default: {FoldsConfig().selection_fraction:g})",
        )
