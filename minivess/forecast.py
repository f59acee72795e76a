"""What an experiment will need, step by step, before any of it runs: memory, time, disk.

The estimates are those that a cluster is asked for, without their margins. Measured against them:
docs/how-to/check-before-you-run.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

from minivess.losses import needs_of
from minivess.losses.needs import SKELETON
from minivess.models import build_adapter
from minivess.resources import PLANNED_SPACING, TORCH_SECONDS, case_shape, estimate
from minivess.workflow import Plan, job_threads

# Until a process computes, with compiled bytecode: of torch and MONAI, of those and MLflow, of
# neither. Measured.
TORCH_STARTS_S, TRAINING_STARTS_S, STARTS_S = 4.0, 8.0, 2.5
# Steps of seconds: accept, folds, track, export, compare, champion, coverage, digests, report.
SMALL_JOBS, SMALL_MB = 9, 300.0
FIGURES = 8
# Bytes for each voxel, measured: a phantom's volumes, a preprocessed case, a prediction.
PHANTOM_BYTES, PREPARED_BYTES, PREDICTED_BYTES = 0.6, 5.2, 3.5
SKELETON_BYTES = 1.0
# A run's weights, and its checkpoint: weights, the best ones, AdamW's two moments.
WEIGHT_BYTES, CHECKPOINT_BYTES = 4, 16
# Report, figures, logs, the tracking database.
REPORT_MB = 7.0


@dataclass(frozen=True)
class Step:
    """The jobs of one step: how many, how many at once, and what they need."""

    name: str
    jobs: int
    at_once: int
    job_mb: float  # memory of the largest
    job_seconds: float
    disk_mb: float

    @property
    def mb(self) -> float:
        """Memory of those that run at once."""
        return min(self.jobs, self.at_once) * self.job_mb

    @property
    def seconds(self) -> float:
        """From the start of the first to the end of the last."""
        return math.ceil(self.jobs / self.at_once) * self.job_seconds


def forecast(plan: Plan, cores: int) -> list[Step]:
    """The steps of an experiment in their order.

    Args:
        plan: the experiment.
        cores: that Snakemake may use.
    """
    return [step for step in _steps(plan, max(1, cores)) if step.jobs]


def _steps(plan: Plan, cores: int) -> Iterator[Step]:
    experiment, voxels = plan.experiment, math.prod(case_shape(plan, None))
    n_cases, mega = len(plan.cases), voxels / 1e6
    job = _jobs(plan)
    if experiment.data.source == "phantom":
        yield Step("phantom", 1, 1, *job("phantom"), n_cases * PHANTOM_BYTES * mega)
    elif plan.made_files:
        yield Step("unpack", 1, 1, *job("unpack"), n_cases * PREPARED_BYTES * mega)
    for name in ("manifest", "validate"):
        yield Step(name, 1, 1, *job(name), 0.0)
    yield Step("preprocess", n_cases, cores, *job("preprocess"), n_cases * PREPARED_BYTES * mega)
    if any(SKELETON in needs_of(loss) for loss in experiment.losses):
        yield Step("skeletons", 1, 1, *job("skeletons"), n_cases * SKELETON_BYTES * mega)
    arms = len(experiment.losses) * len(experiment.seeds)
    runs = arms * plan.n_folds
    processes = experiment.compute.devices
    training = max(1, cores // job_threads(experiment, cores, processes))
    computing = max(1, cores // job_threads(experiment, cores))
    for model, config in experiment.models.items():
        weights = build_adapter(config, PLANNED_SPACING).parameters()
        disk = runs * (WEIGHT_BYTES + CHECKPOINT_BYTES) * weights / 1e6
        yield Step(f"train {model}", runs, training, *job("train", model), disk)
        predicted = arms * n_cases
        disk = predicted * PREDICTED_BYTES * mega
        yield Step(f"predict {model}", predicted, computing, *job("predict", model), disk)
        yield Step(f"evaluate {model}", predicted, cores, *job("evaluate", model), 0.0)
        yield Step(f"calibrate {model}", runs, computing, *job("calibrate", model), 0.0)
        if kinds := len(experiment.ensembles.kinds):
            made = len(experiment.losses) * plan.n_folds
            disk = len(experiment.losses) * n_cases * kinds * PREDICTED_BYTES * mega
            yield Step(f"ensembles {model}", made, computing, *job("ensembles", model), disk)
    yield Step("baseline", 1, 1, *job("baseline"), 0.0)
    yield Step(
        "tables, figures", SMALL_JOBS + FIGURES, min(2, cores), SMALL_MB, STARTS_S, REPORT_MB
    )


def _jobs(plan: Plan) -> Callable[..., tuple[float, float]]:
    """Memory in MB and seconds of one job of a rule, for the largest case."""

    def job(rule: str, model: str = "") -> tuple[float, float]:
        wildcards = SimpleNamespace(model=model, case=None, set="")
        mb, seconds = estimate(rule, plan, wildcards)
        if rule == "train":
            seconds += TRAINING_STARTS_S - TORCH_SECONDS
        elif rule in ("predict", "calibrate", "ensembles"):
            seconds += TORCH_STARTS_S - TORCH_SECONDS
        return mb, seconds

    return job
