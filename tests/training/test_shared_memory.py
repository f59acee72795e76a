"""The bytes that workers need, against what torch really takes, and the error before it starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.schema import ComputeConfig, PatchConfig
from minivess.errors import MinivessError
from minivess.training.loading import batches
from minivess.training.run import plan_run
from minivess.training.shared_memory import (
    PAGE,
    batch_bytes,
    check_shared_memory,
    free_bytes,
    needed_bytes,
)
from minivess.types import RunKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.config.schema import Experiment
    from minivess.data.folds import Folds
    from minivess.training.trainer import TrainingTask

KEY = RunKey("dynunet", "dice_ce", 0, 0)
# Patches whose batches fill whole pages: what is measured is what is computed.
BIG: dict[str, Any] = {"patch_size": (16, 16, 8), "batch_size": 8, "patches_per_epoch": 160}

# Mounts a memory of the size given over /dev/shm, in a namespace of its own, and trains there.
IN_SMALL_MEMORY = """
import json, os, sys, time
from pathlib import Path

import torch

from minivess.config.schema import Experiment
from minivess.data.folds import read_folds
from minivess import paths
from minivess.training.run import plan_run
from minivess.training.loading import batches
from minivess.types import RunKey

experiment = Experiment.model_validate(json.loads(sys.argv[1]))
root = Path(sys.argv[2])
torch.set_num_threads(1)
plan = plan_run(experiment, RunKey("dynunet", "dice_ce", 0, 0), read_folds(paths.folds(root)), root)
most = 0
for index, batch in enumerate(batches(plan.task, 1, plan.task.training.epochs)):
    # Longer than the workers need to be as far ahead as they are allowed to.
    time.sleep(0.2 if index < 8 else 0)
    shm = os.statvfs("/dev/shm")
    most = max(most, (shm.f_blocks - shm.f_bfree) * shm.f_frsize)
print(json.dumps({"most": most}))
"""


def test_a_batch_takes_what_its_tensors_take(make_task: Callable[..., TrainingTask]) -> None:
    task = make_task(patches=BIG)
    images, labels = next(iter(batches(task, 1)))
    assert images.nbytes + labels.nbytes == batch_bytes(task.patches)


@settings(deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 200)] * 3),
    batch=st.integers(1, 16),
    workers=st.integers(1, 16),
)
def test_it_grows_with_everything(size: tuple[int, int, int], batch: int, workers: int) -> None:
    patches = PatchConfig(patch_size=size, batch_size=batch, patches_per_epoch=10_000)
    needed = needed_bytes(patches, workers)
    assert needed % PAGE == 0
    assert needed >= 2 * workers * batch_bytes(patches)
    assert needed < needed_bytes(patches, workers + 1)
    assert needed <= needed_bytes(patches.model_copy(update={"batch_size": batch + 1}), workers)
    assert needed_bytes(patches, 0) == 0


def test_short_epochs_need_as_much_as_long_ones() -> None:
    few, many = (
        PatchConfig(patch_size=(64, 64, 16), batch_size=2, patches_per_epoch=n) for n in (2, 1000)
    )
    assert needed_bytes(few, 8) == needed_bytes(many, 8)


def test_the_default_of_containers_is_enough_for_the_default_patches() -> None:
    check_shared_memory(PatchConfig(), ComputeConfig(workers=8), 64 * 1024**2)


def test_the_error_says_how_much_and_which_flag() -> None:
    patches = PatchConfig(patch_size=(128, 128, 32), batch_size=4)
    compute = ComputeConfig(workers=4)
    needed = needed_bytes(patches, 4)
    check_shared_memory(patches, compute, needed)
    with pytest.raises(MinivessError) as caught:
        check_shared_memory(patches, compute, needed - 1)
    error = caught.value
    assert error.code == "MV-SYSTEM-005"
    assert "compute.workers=4" in error.where
    # 10 batches of 4 x 128 x 128 x 32 voxels of 5 bytes are 100 MiB, and the locks.
    assert "100.2 MB" in error.expected
    assert "--shm-size=101m" in error.fix
    assert "shm_size: 101m" in error.fix
    # And what it says is enough is.
    check_shared_memory(patches, compute, 101 * 1024**2)


def test_each_device_has_workers_and_its_share_of_the_batches() -> None:
    patches = PatchConfig(patch_size=(64, 64, 16), batch_size=4, patches_per_epoch=1000)
    one = needed_bytes(patches.model_copy(update={"batch_size": 2}), 3)
    assert needed_bytes(patches, 3, devices=2) == 2 * one
    with pytest.raises(MinivessError, match="MV-SYSTEM-005"):
        check_shared_memory(patches, ComputeConfig(workers=3, devices=2), 2 * one - 1)


def test_without_workers_nothing_is_needed() -> None:
    check_shared_memory(PatchConfig(patch_size=(512, 512, 64)), ComputeConfig(workers=0), 0)


def test_free_is_what_the_file_system_has(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert free_bytes(tmp_path / "missing") == 0


def test_a_run_is_not_planned_where_it_is_too_small(
    make_experiment: Callable[..., Experiment],
    folds: Folds,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(
        "minivess.training.run.free_bytes", lambda: free_bytes(tmp_path / "missing")
    )
    plan_run(make_experiment(), KEY, folds, root)
    with pytest.raises(MinivessError, match="MV-SYSTEM-005"):
        plan_run(make_experiment(compute={"workers": 1}), KEY, folds, root)


def in_small_memory(
    experiment: Experiment, root: Path, size: int
) -> subprocess.CompletedProcess[str]:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("a /dev/shm of a chosen size needs root and the program unshare")
    mount = [unshare, "--mount", "sh", "-c"]
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm || exit 77; exec "$@"'
    code = [sys.executable, "-c", IN_SMALL_MEMORY, experiment.model_dump_json(), str(root)]
    done = subprocess.run(
        [*mount, script, "sh", *code], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    return done


@pytest.mark.parametrize(("workers", "patches", "epochs"), [(1, 160, 1), (3, 8, 20)])
def test_a_real_memory_of_the_needed_size_is_enough_and_is_used(
    make_experiment: Callable[..., Experiment],
    root: Path,
    workers: int,
    patches: int,
    epochs: int,
) -> None:
    experiment = make_experiment(
        patches={**BIG, "patches_per_epoch": patches},
        training={"epochs": epochs},
        compute={"workers": workers},
    )
    needed = needed_bytes(experiment.patches, workers)
    done = in_small_memory(experiment, root, needed)
    assert done.returncode == 0, done.stderr
    most = json.loads(done.stdout)["most"]
    # Not a guess far above: two batches at most are the difference.
    assert needed - 2 * batch_bytes(experiment.patches) - 2**18 <= most <= needed


def test_a_real_memory_that_is_too_small_is_found_before_the_training(
    make_experiment: Callable[..., Experiment], root: Path
) -> None:
    experiment = make_experiment(patches=BIG, compute={"workers": 3})
    done = in_small_memory(experiment, root, needed_bytes(experiment.patches, 3) // 2)
    assert done.returncode != 0
    assert "MV-SYSTEM-005" in done.stderr
    assert "--shm-size=" in done.stderr
