"""Memory, time and GPUs that the jobs of a rule ask a cluster for, derived from the experiment.

Each estimate is a cost that was measured on one core of a 2-core x86-64 machine, with a margin
(`docs/how-to/run-on-a-cluster.md` has the measurements). A job that is killed for want of memory or
time asks for twice as much in its second attempt, three times in its third. On one machine nothing
of this limits anything, unless Snakemake is given limits (`--resources mem_mb=...`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from minivess import output, paths
from minivess.config.automatic import planned_patches
from minivess.config.models import ModelConfig
from minivess.config.schema import Experiment
from minivess.config.training import LossConfig, TrainingConfig
from minivess.models import build_adapter
from minivess.models.adapter import ModelAdapter
from minivess.training.auto import loss_bytes
from minivess.types import Shape, Spacing
from minivess.workflow import Plan, gpu_count

type Resource = Callable[[Any, int], int]

MEMORY_MARGIN = 1.5
TIME_MARGIN = 4.0
SHORTEST_MINUTES = 10
# Snakemake starts itself twice around the step of a cluster's job.
SNAKEMAKE_MB = 450
# Where the spacing decides how a network pools: that of most volumes of MiniVess.
PLANNED_SPACING: Spacing = (1.0, 1.0, 5.0)
# Of a training step on one core with the kernels of the profile strict.
SECONDS_PER_MULTIPLY_ADD = 1.2e-10
# Before a manifest tells the shapes: the largest volume of MiniVess.
LARGEST_SHAPE: Shape = (512, 512, 110)

# Without volumes and patches: a training, which also talks to MLflow; a prediction; each process
# that prepares patches.
TRAIN_MB, PREDICT_MB, WORKER_MB = 1050, 700, 200
# What a process of torch has in the machine's memory for the GPU: CUDA's context and libraries.
CUDA_MB = 3000
# A GPU is taken to be at least as fast as this many cores of a CPU.
GPU_SPEED = 10.0
TORCH_SECONDS = 30.0
# Of a calibration beside its predictions: memory without volumes, memory and time per voxel.
CALIBRATE_MB, CALIBRATE_BYTES, CALIBRATE_SECONDS = 200, 150, 6.0


@dataclass(frozen=True)
class Cost:
    """What a job costs: a part that no volume changes, and a part for each voxel."""

    mb: float
    bytes_per_voxel: float
    seconds: float
    seconds_per_megavoxel: float
    cases: Literal["one", "all"]  # one: that of its wildcard; all: one after the other


# Measured: volumes of 8 thousand and of 4 million voxels. Where imports had hidden what so few
# voxels need (all but the phantom and evaluate), 30 bytes and half a second are taken.
COSTS: dict[str, Cost] = {
    "phantom": Cost(90, 160, 1, 2, "all"),
    "unpack": Cost(90, 30, 1, 0.5, "all"),
    "manifest": Cost(210, 30, 2, 0.5, "all"),
    "validate": Cost(215, 30, 2, 0.5, "all"),
    "preprocess": Cost(190, 30, 2, 0.5, "one"),
    "skeletons": Cost(190, 30, 2, 0.5, "all"),
    # A prediction that is mostly wrong has more surface to measure: three times what was measured.
    "evaluate": Cost(140, 100, 2, 4, "one"),
    "baseline": Cost(95, 30, 1, 0.5, "all"),
    # Of three networks of the default size; the exporter keeps several graphs of each.
    "deploy_onnx": Cost(1500, 30, 120, 0.5, "all"),
    "deploy_parity": Cost(400, 100, 30, 30, "all"),
}


def rule_resources(rule: str, plan: Plan) -> dict[str, int | Resource]:
    """`mem_mb`, `runtime` (minutes) and, where one is needed, `gpu` of a rule's jobs.

    `gpu_turn` is 1 where jobs that share a submission may share its GPU, one after the other: the
    profile for SLURM has one turn per submission.

    Args:
        rule: one of `COSTS` or of `NETWORKS`.
        plan: the experiment.

    Raises:
        KeyError: no such rule.
    """
    memory, seconds = _estimates(rule)

    def mem_mb(wildcards: Any, attempt: int) -> int:
        step = MEMORY_MARGIN * memory(plan, wildcards)
        return attempt * math.ceil((SNAKEMAKE_MB + step) / 100) * 100

    def runtime(wildcards: Any, attempt: int) -> int:
        minutes = math.ceil(TIME_MARGIN * seconds(plan, wildcards) / 60)
        return attempt * max(SHORTEST_MINUTES, minutes)

    found: dict[str, int | Resource] = {"mem_mb": mem_mb, "runtime": runtime}
    if devices := gpus(rule, plan.experiment):
        found["gpu"] = devices
        if rule != "train":
            found["gpu_turn"] = 1
    return found


def estimate(rule: str, plan: Plan, wildcards: Any) -> tuple[float, float]:
    """Memory in MB and seconds of a rule's job, without a margin.

    Args:
        rule: one of `COSTS` or of `NETWORKS`.
        plan: the experiment.
        wildcards: those of the job; case None is the largest case.

    Raises:
        KeyError: no such rule.
    """
    memory, seconds = _estimates(rule)
    return memory(plan, wildcards), seconds(plan, wildcards)


def _estimates(rule: str) -> tuple[Estimate, Estimate]:
    return NETWORKS.get(rule) or _volumes(COSTS[rule])


def gpus(rule: str, experiment: Experiment) -> int:
    """GPUs of one job of a rule.

    With `compute.device: auto` there is one where the machine that Snakemake runs on has one: what
    those of a cluster have is not known there.
    """
    compute = experiment.compute
    wanted = compute.device.startswith("cuda") or (compute.device == "auto" and gpu_count() > 0)
    idle = rule == "ensembles" and not network_passes(experiment)
    if rule not in NETWORKS or idle or not wanted:
        return 0
    return compute.devices if rule == "train" else 1


@cache
def _manifest_shapes(manifest: Path, modified_ns: int) -> dict[str, Shape]:

    table = output.read_parquet(manifest)
    return {
        row["case"]: tuple(row["shape"])
        for row in table.iter_rows(named=True)
        if row["shape"] is not None and len(row["shape"]) == 3
    }


def case_shape(plan: Plan, case: str | None) -> Shape:
    """Voxels (x, y, z) of a case, or of the largest of all cases for None.

    The phantom's shape is in the config. Other volumes count as `LARGEST_SHAPE` until there is a
    manifest, and where it does not have theirs.
    """
    experiment = plan.experiment
    if experiment.data.source == "phantom":
        return experiment.phantom.phantom_shape
    manifest = paths.manifest(plan.root)
    if not manifest.exists():
        return LARGEST_SHAPE
    shapes = _manifest_shapes(manifest, manifest.stat().st_mtime_ns)
    if case is not None:
        return shapes.get(case, LARGEST_SHAPE)
    return max(shapes.values(), key=math.prod, default=LARGEST_SHAPE)


type Estimate = Callable[[Plan, Any], float]


def _volumes(cost: Cost) -> tuple[Estimate, Estimate]:
    """Memory in MB and seconds of a step that handles volumes one after the other."""

    def voxels(plan: Plan, wildcards: Any) -> int:
        return math.prod(case_shape(plan, wildcards.case if cost.cases == "one" else None))

    def memory(plan: Plan, wildcards: Any) -> float:
        return cost.mb + cost.bytes_per_voxel * voxels(plan, wildcards) / 1e6

    def seconds(plan: Plan, wildcards: Any) -> float:
        number = 1 if cost.cases == "one" else len(plan.cases)
        return cost.seconds + number * cost.seconds_per_megavoxel * voxels(plan, wildcards) / 1e6

    return memory, seconds


def _adapter(model: ModelConfig) -> ModelAdapter:
    return build_adapter(model, PLANNED_SPACING)


def training_mb(model: ModelConfig, loss: LossConfig, patch_voxels: int) -> float:
    """Memory of a training step in MB, beside that of torch: what its network and its loss keep.

    Args:
        model: see `ModelAdapter.training_bytes`.
        loss: see `loss_bytes`.
        patch_voxels: voxels of all patches of a batch.
    """
    return (_adapter(model).training_bytes(patch_voxels) + loss_bytes(loss, patch_voxels)) / 1e6


def averages_mb(model: ModelConfig, training: TrainingConfig) -> float:
    """Memory of the weights that a training keeps beside the best, and a copy while it writes them.

    >>> averages_mb(ModelConfig(), TrainingConfig())
    0.0
    """
    moments = 0 if training.swa_start is None else 1
    if training.swag_rank is not None:
        moments += 1 + training.swag_rank
    each = 8 * moments + 4 * (training.snapshot_cycles or 0) + 4 * len(training.other_metrics())
    each += 0 if training.ema_decay is None else 4
    return 2 * each * _adapter(model).parameters() / 1e6


def network_seconds(model: ModelConfig, voxels: float) -> float:
    """Seconds of one core for a training step over so many voxels; a prediction takes a third."""
    return voxels * (SECONDS_PER_MULTIPLY_ADD * _adapter(model).multiply_adds() + 2e-6)


def windowed_voxels(shape: Shape, window: Shape, overlap: float) -> float:
    """Voxels of all windows that cover a volume.

    >>> windowed_voxels((64, 64, 8), (32, 32, 8), 0.5)
    73728.0
    """
    count = 1
    for length, wide in zip(shape, window, strict=True):
        step = max(1, int(wide * (1 - overlap)))
        count *= 1 + max(0, math.ceil((length - wide) / step))
    return float(count * math.prod(window))


def _speed(experiment: Experiment, rule: str) -> float:
    """How much faster than one core; of more cores only half is counted on."""
    if gpus(rule, experiment):
        return GPU_SPEED
    return max(1.0, experiment.compute.threads / 2)


def _train_mb(plan: Plan, wildcards: Any) -> float:
    experiment = plan.experiment
    model = experiment.models[wildcards.model]
    patches = planned_patches(experiment.patches, model)
    batch = patches.batch_size * math.prod(patches.patch_size)
    # The selection cases are predicted between epochs.
    selects = experiment.folds.selection_fraction > 0
    largest = _prediction_mb(plan, case_shape(plan, None)) if selects else 0.0
    step = training_mb(model, experiment.loss, batch) + largest
    step += averages_mb(model, experiment.training)
    on_gpu = gpus("train", experiment) > 0
    device = CUDA_MB if on_gpu else 0
    workers = experiment.compute.workers_on(on_gpu) * WORKER_MB
    return experiment.compute.devices * (TRAIN_MB + step + device + workers)


def _train_seconds(plan: Plan, wildcards: Any) -> float:
    experiment = plan.experiment
    training, model = experiment.training, experiment.models[wildcards.model]
    patches = planned_patches(experiment.patches, model)
    steps = network_seconds(model, patches.patches_per_epoch * math.prod(patches.patch_size))
    share = experiment.folds.selection_fraction * (1 - 1 / plan.n_folds)
    selection = math.ceil(share * len(plan.cases)) * _window_seconds(
        model, case_shape(plan, None), patches.patch_size, training.selection_overlap
    )
    selections = math.ceil(training.epochs / training.selection_every)
    total = training.epochs * steps + selections * selection
    return TORCH_SECONDS + total / _speed(experiment, "train")


def _window_seconds(model: ModelConfig, shape: Shape, window: Shape, overlap: float) -> float:
    return network_seconds(model, windowed_voxels(shape, window, overlap)) / 3


def _window(experiment: Experiment) -> Shape:
    """The window, or the largest patch of any network."""
    patches = [planned_patches(experiment.patches, m) for m in experiment.models.values()]
    return experiment.inference.window_size or max((p.patch_size for p in patches), key=math.prod)


def _prediction_mb(plan: Plan, shape: Shape) -> float:
    """Memory of predicting a volume: 40 bytes for each of its voxels, and a batch of windows."""
    experiment = plan.experiment
    window = _window(experiment)
    voxels = experiment.inference.window_batch * math.prod(window)
    windows = max(_adapter(m).prediction_bytes(voxels) for m in experiment.models.values())
    return (40 * math.prod(shape) + windows) / 1e6


def _predict_mb(plan: Plan, wildcards: Any) -> float:
    device = CUDA_MB if gpus("predict", plan.experiment) else 0
    return PREDICT_MB + device + _prediction_mb(plan, case_shape(plan, wildcards.case))


def _external_mb(plan: Plan, wildcards: Any) -> float:
    """The shapes of an external set are not known: the largest volume of MiniVess."""
    device = CUDA_MB if gpus("evaluate_external", plan.experiment) else 0
    measured = COSTS["evaluate"].bytes_per_voxel * math.prod(LARGEST_SHAPE) / 1e6
    return PREDICT_MB + device + max(_prediction_mb(plan, LARGEST_SHAPE), measured)


def _external_seconds(plan: Plan, wildcards: Any) -> float:
    """Of each file, by all networks of the slowest arm; then measured."""
    experiment = plan.experiment
    window = _window(experiment)
    network = max(
        _window_seconds(model, LARGEST_SHAPE, window, experiment.inference.overlap)
        for model in experiment.models.values()
    )
    networks = plan.n_folds * len(experiment.seeds)
    measured = COSTS["evaluate"].seconds_per_megavoxel * math.prod(LARGEST_SHAPE) / 1e6
    case = networks * network / _speed(experiment, "evaluate_external") + measured
    n_cases = max(1, len(plan.external.get(wildcards.set, ())) // 2)
    return TORCH_SECONDS + n_cases * case


def _predict_seconds(plan: Plan, wildcards: Any) -> float:
    experiment = plan.experiment
    seconds = _window_seconds(
        experiment.models[wildcards.model],
        case_shape(plan, wildcards.case),
        _window(experiment),
        experiment.inference.overlap,
    )
    return TORCH_SECONDS + seconds / _speed(experiment, "predict")


def network_passes(experiment: Experiment) -> int:
    """How often the ensembles of an arm have a case predicted anew, at most.

    A greedy soup is tried on the selection cases, each seed alone and then added.
    """
    seeds = len(experiment.seeds)
    made, cycles = experiment.ensembles, experiment.training.snapshot_cycles or 0
    per_kind = {"uniform_soup": 1, "greedy_soup": 2 * seeds + 1, "swa": seeds}
    per_kind |= {"mc_dropout": seeds * made.mc_passes, "swag": seeds * made.swag_samples}
    per_kind["snapshot"] = seeds * cycles
    return sum(per_kind.get(kind, 0) for kind in experiment.ensembles.kinds)


def _ensembles_mb(plan: Plan, wildcards: Any) -> float:
    """Beside the network: sums in float64 and maps, or what the metrics need."""
    device = CUDA_MB if gpus("ensembles", plan.experiment) else 0
    voxels = math.prod(case_shape(plan, None))
    maps = COSTS["evaluate"].bytes_per_voxel * voxels / 1e6
    return PREDICT_MB + device + _prediction_mb(plan, case_shape(plan, None)) + maps


def _ensembles_seconds(plan: Plan, wildcards: Any) -> float:
    experiment = plan.experiment
    shape = case_shape(plan, None)
    window = _window(experiment)
    model = experiment.models[wildcards.model]
    once = _window_seconds(model, shape, window, experiment.inference.overlap)
    network = network_passes(experiment) * once / _speed(experiment, "ensembles")
    # Reading, writing and measuring each ensemble's volumes.
    cost = 2 * COSTS["evaluate"].seconds_per_megavoxel * math.prod(shape) / 1e6
    cases = math.ceil(len(plan.cases) / plan.n_folds)
    return TORCH_SECONDS + cases * (network + len(experiment.ensembles.kinds) * cost)


def _calibrate_mb(plan: Plan, wildcards: Any) -> float:
    """A prediction, then distances and the maps of the local temperature of a volume."""
    device = CUDA_MB if gpus("calibrate", plan.experiment) else 0
    shape = case_shape(plan, None)
    volume = CALIBRATE_BYTES * math.prod(shape) / 1e6
    return PREDICT_MB + CALIBRATE_MB + device + max(volume, _prediction_mb(plan, shape))


def _calibrate_seconds(plan: Plan, wildcards: Any) -> float:
    """Selection cases are predicted, held-out ones measured one after the other."""
    experiment = plan.experiment
    model, shape = experiment.models[wildcards.model], case_shape(plan, None)
    window = _window(experiment)
    held_out = math.ceil(len(plan.cases) / plan.n_folds)
    selection = math.ceil(experiment.folds.selection_fraction * (len(plan.cases) - held_out))
    predicted = selection * _window_seconds(model, shape, window, experiment.inference.overlap)
    measured = held_out * CALIBRATE_SECONDS * math.prod(shape) / 1e6
    return TORCH_SECONDS + predicted / _speed(experiment, "calibrate") + measured


# Rules that compute with networks.
NETWORKS: dict[str, tuple[Estimate, Estimate]] = {
    "train": (_train_mb, _train_seconds),
    "predict": (_predict_mb, _predict_seconds),
    "ensembles": (_ensembles_mb, _ensembles_seconds),
    "evaluate_external": (_external_mb, _external_seconds),
    "calibrate": (_calibrate_mb, _calibrate_seconds),
}
