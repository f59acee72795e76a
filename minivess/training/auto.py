"""Compute `auto`: patch and batch from data and a network's profile, workers from the machine.

Patch and batch decide the trained bytes, so the machine has no say in them: the memory that they
may take is the budget in the profile, wherever the training runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minivess.config.schema import ComputeConfig, Experiment, PatchConfig, PatchKeys
from minivess.config.training import LossConfig
from minivess.data.preprocess import PreparedCase
from minivess.inference.device import Decision
from minivess.machine import look
from minivess.models.adapter import ModelAdapter
from minivess.training.shared_memory import free_bytes, needed_bytes
from minivess.types import Shape

# Shared memory is not this training's alone.
SHARED_PART = 0.5


def loss_bytes(loss: LossConfig, voxels: float) -> float:
    """Memory of a loss: the soft skeleton of clDice keeps 26 maps in each iteration.

    Args:
        loss: its iterations count.
        voxels: of all patches of a batch.
    """
    return 4.0 * 26 * (loss.skeleton_iterations + 1) * voxels


def decide(
    experiment: Experiment,
    model: str,
    adapter: ModelAdapter,
    cases: Sequence[PreparedCase],
    on_gpu: bool,
) -> tuple[Experiment, tuple[Decision, ...]]:
    """The experiment with values in place of `auto`, and what was decided why.

    The profile has no part in the result: a run is known by what was decided, not from what.

    Args:
        experiment: the train step's config.
        model: name of the network.
        adapter: the network.
        cases: training and selection cases.
        on_gpu: whether it is trained on a GPU.
    """
    devices = experiment.compute.devices
    patches, of_patches = choose_patches(
        experiment.patches, adapter, experiment.loss, cases, devices
    )
    compute = experiment.compute
    of_workers: tuple[Decision, ...] = ()
    if compute.workers == "auto":
        cores, free = look().cores, free_bytes()
        compute, of_workers = choose_workers(compute, patches, on_gpu, cores, free)
    plain = adapter.config.model_copy(update={"profile": None})
    models = {**experiment.models, model: plain}
    update = {"patches": patches, "compute": compute, "models": models}
    return experiment.model_copy(update=update), (*of_patches, *of_workers)


def choose_patches(
    keys: PatchKeys,
    adapter: ModelAdapter,
    loss: LossConfig,
    cases: Sequence[PreparedCase],
    devices: int = 1,
) -> tuple[PatchConfig, tuple[Decision, ...]]:
    """Size and number of the patches, and why, where they are `auto`.

    No axis is longer than the smallest volume or the profile's largest patch; each is a multiple of
    what the network needs. Then the axis that is longest in um is shortened until a batch is within
    the profile's budget. A volume thinner than the network's divisor is mirrored up to it.

    Args:
        keys: the config's.
        adapter: the network, with its profile.
        loss: for the memory of a step.
        cases: training and selection cases.
        devices: that share a batch.
    """
    profile = adapter.config.profile
    if profile is None or "auto" not in (keys.patch_size, keys.batch_size):
        return PatchConfig.model_validate(keys.model_dump()), ()
    batch = profile.batch_size if keys.batch_size == "auto" else keys.batch_size
    batch = max(devices, batch // devices * devices)

    def megabytes(size: Shape, batch: int) -> float:
        voxels = math.ceil(batch / devices) * math.prod(size)
        return (adapter.training_bytes(voxels) + loss_bytes(loss, voxels)) / 1e6

    decisions = []
    smallest = _smallest(cases)
    divisor = adapter.patch_divisor()
    if keys.patch_size == "auto":
        size = _largest(smallest, profile.largest_patch, divisor)
        while megabytes(size, batch) > profile.budget_mb and (less := _shorter(size, adapter)):
            size = less
        reason = f"auto: smallest volume {_text(smallest)}, at most {_text(profile.largest_patch)}"
        reason += f", multiples of {_text(divisor)}"
        thin = [axis for axis in range(3) if size[axis] > smallest[axis]]
        if thin:
            reason += f"; thinner volumes are mirrored along {' '.join('xyz'[a] for a in thin)}"
        decisions.append(Decision("data_patch_size", _text(size), reason))
    else:
        size = keys.patch_size
    if keys.batch_size == "auto":
        while megabytes(size, batch) > profile.budget_mb and batch > devices:
            batch -= devices
        need, budget = megabytes(size, batch), profile.budget_mb
        reason = f"auto: a step takes {need:.0f} MB, the profile's budget is {budget:.0f} MB"
        decisions.append(Decision("data_batch_size", str(batch), reason))
    padded = keys.pad_thin or any(a > b for a, b in zip(size, smallest, strict=True))
    update = {"patch_size": size, "batch_size": batch, "pad_thin": padded}
    return PatchConfig.model_validate({**keys.model_dump(), **update}), tuple(decisions)


def _smallest(cases: Sequence[PreparedCase]) -> Shape:
    x, y, z = np.min([case.shape for case in cases], axis=0)
    return int(x), int(y), int(z)


def _largest(smallest: Shape, largest: Shape, divisor: Shape) -> Shape:
    """The largest patch that volumes and profile allow, at least a voxel at the coarsest level.

    >>> _largest((512, 500, 5), (128, 128, 32), (8, 8, 2))
    (128, 128, 4)
    >>> _largest((512, 512, 5), (128, 128, 128), (16, 16, 16))
    (128, 128, 16)
    """
    x, y, z = (
        max(step, min(length, limit) // step * step)
        for length, limit, step in zip(smallest, largest, divisor, strict=True)
    )
    # A single voxel has no statistics.
    return (2 * x, y, z) if (x, y, z) == divisor and max(divisor) > 1 else (x, y, z)


def _shorter(size: Shape, adapter: ModelAdapter) -> Shape | None:
    """A patch shorter by a step along its axis longest in um; none where all are shortest."""
    divisor, spacing = adapter.patch_divisor(), adapter.spacing_um
    order = sorted(range(3), key=lambda axis: -size[axis] * spacing[axis])
    for axis in order:
        less = list(size)
        less[axis] -= divisor[axis]
        if less[axis] >= divisor[axis] and tuple(less) != divisor:
            return less[0], less[1], less[2]
    return None


def choose_workers(
    compute: ComputeConfig, patches: PatchConfig, on_gpu: bool, cores: float, free: int
) -> tuple[ComputeConfig, tuple[Decision, ...]]:
    """The number of processes that prepare patches, and why.

    It changes no byte: which patch is the i-th of an epoch does not depend on who reads it.

    Args:
        compute: the config's.
        patches: what they hand over.
        on_gpu: whether the network computes on a GPU, and not on the cores itself.
        cores: that this process may use.
        free: bytes of shared memory.
    """
    if not on_gpu:
        number, reason = 0, "auto: the other cores are for other trainings"
    else:
        number = int(max(0, min(compute.most_workers, cores / compute.devices - compute.threads)))
        reason = f"auto: {cores:g} cores, at most {compute.most_workers} of them"
        while number and needed_bytes(patches, number, compute.devices) > SHARED_PART * free:
            number -= 1
            reason = f"auto: what fits into half of {free / 1e6:.0f} MB of shared memory"
    decided = compute.model_copy(update={"workers": number})
    return decided, (Decision("sys_workers", str(number), reason),)


def _text(shape: Sequence[int]) -> str:
    return " ".join(map(str, shape))
