"""The limits of a process, read from folders that look like a machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from minivess import machine

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    base = {"proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n"}
    for name, text in {**base, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def test_without_limits_it_is_the_machines_own(tmp_path: Path) -> None:
    here = machine.look(write(tmp_path, {}))
    assert here.memory_mb == pytest.approx(16 * GIB / 1e6)
    assert here.free_mb == pytest.approx(8 * GIB / 1e6)
    assert here.cores == 8
    assert here.shared_mb == 0
    assert here.cpu_flags == frozenset()


def test_the_limits_of_a_container_with_one_tree(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/memory.max": str(4 * GIB),
        "sys/fs/cgroup/job/memory.current": str(3 * GIB),
        "sys/fs/cgroup/job/memory.stat": f"anon 1\ninactive_file {GIB}\n",
        "sys/fs/cgroup/job/cpu.max": "150000 100000",
        "sys/fs/cgroup/memory.max": "max",
    }
    here = machine.look(write(tmp_path, files))
    assert here.memory_mb == pytest.approx(4 * GIB / 1e6)
    assert here.free_mb == pytest.approx(2 * GIB / 1e6), "files that are only kept are free"
    assert here.cores == 1.5


def test_the_tightest_of_the_limits_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/slice/job\n",
        "sys/fs/cgroup/slice/job/memory.max": str(4 * GIB),
        "sys/fs/cgroup/slice/memory.max": str(2 * GIB),
        "sys/fs/cgroup/slice/memory.current": str(GIB),
    }
    here = machine.look(write(tmp_path, files))
    assert here.memory_mb == pytest.approx(2 * GIB / 1e6)
    assert here.free_mb == pytest.approx(GIB / 1e6)


def test_the_limits_of_a_container_with_a_tree_for_each_controller(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "7:memory:/job\n4:cpu,cpuacct:/job\n0::/\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(4 * GIB),
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": str(GIB),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
    }
    here = machine.look(write(tmp_path, files))
    assert here.memory_mb == pytest.approx(4 * GIB / 1e6)
    assert here.free_mb == pytest.approx(3 * GIB / 1e6)
    assert here.cores == 2


def test_the_path_of_a_group_may_be_one_that_only_the_host_sees(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "7:memory:/docker/0123\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
    }
    assert machine.look(write(tmp_path, files)).memory_mb == pytest.approx(GIB / 1e6)


def test_flags_of_the_processor(tmp_path: Path) -> None:
    text = "model name\t: X\nflags\t\t: fpu avx2 avx512_bf16\nflags\t\t: fpu\n"
    assert machine.look(write(tmp_path, {"proc/cpuinfo": text})).cpu_flags == {
        "fpu",
        "avx2",
        "avx512_bf16",
    }


def test_this_machine_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    here = machine.look()
    assert 0 < here.free_mb <= here.memory_mb
    assert here.cores > 0


def test_a_program_that_lists_no_gpus_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == ()
    program.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    program.chmod(0o755)
    assert machine.gpus() == ()
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 80000, 79000'\n", encoding="utf-8")
    (gpu,) = machine.gpus()
    assert gpu.name == "NVIDIA H100"
    assert gpu.total_mb == pytest.approx(80000 * 2**20 / 1e6)


def test_what_the_driver_cannot_tell_of_a_gpu_is_not_known() -> None:
    text = "Warning: infoROM is corrupted, at gpu 0000:01:00.0, ask NVIDIA\n"
    text += "No devices were found\nNVIDIA GB10, [N/A], [N/A]\nNVIDIA A100, 40960, 40000\n"
    unified, large = machine.parse_gpus(text)
    assert unified == machine.Gpu("NVIDIA GB10", None, None)
    assert large.name == "NVIDIA A100"


def test_gpus_of_a_driver_that_does_not_answer_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "GPU_SECONDS", 0.2)
    assert machine.gpus() is None
    assert machine.look().gpus is None


def test_free_space_is_that_of_the_folder_above_one_that_is_not_there(tmp_path: Path) -> None:
    assert machine.free_disk_mb(tmp_path / "a" / "b") == pytest.approx(
        machine.free_disk_mb(tmp_path), rel=0.01
    )
