"""Shared memory that the workers of a training pass batches through, checked before it starts.

Containers get 64 MB unless told otherwise. What does not fit ends a worker with a bus error, hours
later and without a word about the reason.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from minivess.config.schema import ComputeConfig, PatchConfig
from minivess.errors import MinivessError

FOLDER = Path("/dev/shm")  # noqa: S108  # where Linux keeps it, not a temporary file of ours
PAGE = 4096
MB = 1024**2  # as --shm-size and compose's shm_size understand "m"
# An image voxel is float32, a label voxel uint8: see `minivess.data.augment.training_patch`.
VOXEL_BYTES = (4, 1)
# Batches that torch's DataLoader lets every worker be ahead (its prefetch_factor), and beside
# those the one that the trainer computes with and the one that it has just been handed.
AHEAD, IN_HAND = 2, 2
# Locks of the queues between trainer and worker: a page each.
LOCKS = 8


def batch_bytes(patches: PatchConfig) -> int:
    """Bytes of one batch in shared memory, image and label, each in whole pages.

    >>> batch_bytes(PatchConfig(patch_size=(64, 64, 16), batch_size=2))
    655360
    """
    voxels = patches.batch_size * math.prod(patches.patch_size)
    return sum(math.ceil(voxels * size / PAGE) * PAGE for size in VOXEL_BYTES)


def needed_bytes(patches: PatchConfig, workers: int, devices: int = 1) -> int:
    """Most shared memory that one training has in use at once; none without workers.

    Each device's process has workers of its own, which pass its share of the batches.

    >>> needed_bytes(PatchConfig(patch_size=(64, 64, 16), batch_size=2), 0)
    0
    >>> needed_bytes(PatchConfig(patch_size=(64, 64, 16), batch_size=2), 4)
    6717440
    >>> needed_bytes(PatchConfig(patch_size=(64, 64, 16), batch_size=2), 4, devices=2)
    6881280
    """
    if workers == 0:
        return 0
    # However few batches an epoch has: workers go on to those of the next one.
    held = AHEAD * workers + IN_HAND
    share = patches.model_copy(update={"batch_size": math.ceil(patches.batch_size / devices)})
    return devices * (held * batch_bytes(share) + (workers + 1) * LOCKS * PAGE)


def free_bytes(folder: Path = FOLDER) -> int:
    """Free shared memory; 0 where there is none at all."""
    return shutil.disk_usage(folder).free if folder.is_dir() else 0


def check_shared_memory(patches: PatchConfig, compute: ComputeConfig, free: int) -> None:
    """Raise where the workers' batches do not fit into the free shared memory.

    Args:
        patches: size and number of the patches.
        compute: number of workers and of devices.
        free: bytes, see `free_bytes`.

    Raises:
        MinivessError: MV-SYSTEM-005 too small; it says how much is needed and how to get it.
    """
    needed = needed_bytes(patches, compute.most_workers, compute.devices)
    if needed <= free:
        return
    size = " x ".join(str(length) for length in patches.patch_size)
    wanted = math.ceil(needed / MB)
    raise MinivessError(
        "MV-SYSTEM-005",
        what="the shared memory is too small for the workers of the training",
        where=f"{FOLDER}, config compute.workers={compute.workers}",
        found=f"{free / MB:.1f} MB free",
        expected=f"{needed / MB:.1f} MB for each training that runs at once: "
        f"{compute.workers} workers, batches of {patches.batch_size} patches of {size}",
        fix=f"start the container with --shm-size={wanted}m or more (compose: shm_size: {wanted}m; "
        "times the trainings that run at once), or set compute.workers=0",
    )
