"""What this machine lets a process use: cores, memory, shared memory, disk, GPUs, CPU features.

Limits of a container or a batch system (cgroups, versions 1 and 2) count, not what the machine has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
GPU_SECONDS = 20.0  # after that nvidia-smi counts as one that does not answer
NO_LIMIT = 2**60  # version 1 writes "no limit" as the largest multiple of a page
AVX2, BFLOAT16 = "avx2", frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Gpu:
    """A GPU and its memory, which drivers do not tell of GPUs that use that of the machine."""

    name: str
    total_mb: float | None
    free_mb: float | None


@dataclass(frozen=True)
class Machine:
    """What a process may use here."""

    cores: float  # a container may be given a part of one
    memory_mb: float  # most that can be had, by any limit
    free_mb: float  # of it, what is not in use
    shared_mb: float
    gpus: tuple[Gpu, ...] | None  # None: not known
    cpu_flags: frozenset[str]


def look(root: Path = ROOT) -> Machine:
    """The machine as the files under `root` describe it.

    Args:
        root: `/`, or a folder that looks like it.
    """
    total, available = _meminfo(root / "proc/meminfo")
    limits = [_memory_limit(folder) for folder in _groups(root, "memory")]
    used = [_memory_used(folder) for folder in _groups(root, "memory")]
    limited = [
        (limit, limit - taken)
        for limit, taken in zip(limits, used, strict=True)
        if limit < NO_LIMIT
    ]
    memory = min([total, *(limit for limit, _ in limited)])
    free = min([available, *(rest for _, rest in limited)])
    shared = root / "dev/shm"
    return Machine(
        _cores(root),
        memory / 1e6,
        max(0.0, free / 1e6),
        shutil.disk_usage(shared).free / 1e6 if shared.is_dir() else 0.0,
        gpus(),
        _flags(root / "proc/cpuinfo"),
    )


def free_disk_mb(folder: Path) -> float:
    """Free space where a folder is, or would be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e6


def gpus() -> tuple[Gpu, ...] | None:
    """NVIDIA GPUs, as their driver's own program lists them; none where it is not installed.

    None where it does not answer, as with a GPU that has failed: there may be some.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = "--query-gpu=name,memory.total,memory.free"
    try:
        listed = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
            timeout=GPU_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None
    return parse_gpus(listed.stdout) if listed.returncode == 0 else ()


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs from lines of name, total and free MiB; other lines, such as a warning, are none.

    >>> parse_gpus("NVIDIA A100, 40960, 40000\\n")
    (Gpu(name='NVIDIA A100', total_mb=42949.7, free_mb=41943.0),)
    >>> parse_gpus("NVIDIA GB10, [N/A], [N/A]\\n")
    (Gpu(name='NVIDIA GB10', total_mb=None, free_mb=None),)
    """
    lines = [[word.strip() for word in line.rsplit(",", 2)] for line in text.splitlines()]
    return tuple(
        Gpu(words[0], _megabytes(words[1]), _megabytes(words[2]))
        for words in lines
        if len(words) == 3 and all(map(_is_size, words[1:]))
    )


def _is_size(text: str) -> bool:
    """Whether it is a number, or what the driver writes for one that it cannot tell: `[N/A]`."""
    return text.isdecimal() or (text.startswith("[") and text.endswith("]"))


def _megabytes(mib: str) -> float | None:
    return round(int(mib) * 2**20 / 1e6, 1) if mib.isdecimal() else None


def _meminfo(file: Path) -> tuple[float, float]:
    """Bytes of memory and of what is available."""
    sizes = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        sizes[name] = float(rest.split()[0]) * 1024
    return sizes["MemTotal"], sizes["MemAvailable"]


def _groups(root: Path, controller: str) -> list[Path]:
    """Folders of the cgroups of this process that limit something, the innermost first."""
    file = root / "proc/self/cgroup"
    if not file.exists():
        return []
    folders: list[Path] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        number, controllers, path = line.split(":", 2)
        base = root / "sys/fs/cgroup"
        if number != "0":  # version 1 has a tree for each controller
            if controller not in controllers.split(","):
                continue
            base /= controllers
        # In a container the path may be one that only the host sees: then its own root is left.
        below = Path(path.lstrip("/"))
        folders += [base / place for place in (below, *below.parents)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _memory_limit(folder: Path) -> float:
    return _number(folder, ("memory.max", "memory.limit_in_bytes"))


def _memory_used(folder: Path) -> float:
    """Bytes in use, without files that are only kept as long as nobody wants the room."""
    used = _number(folder, ("memory.current", "memory.usage_in_bytes"), 0.0)
    stat = folder / "memory.stat"
    if stat.exists():
        for line in stat.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                used -= float(value)
                break
    return max(0.0, used)


def _number(folder: Path, names: tuple[str, ...], otherwise: float = float(NO_LIMIT)) -> float:
    for name in names:
        file = folder / name
        if file.exists():
            text = file.read_text(encoding="utf-8").strip()
            return otherwise if text == "max" else float(text)
    return otherwise


def _cores(root: Path) -> float:
    """Cores that this process may run on, and not more than its quota of their time."""
    allowed = [float(len(os.sched_getaffinity(0)))]
    for folder in _groups(root, "cpu"):
        quota, period = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
        if (folder / "cpu.max").exists():
            words = (folder / "cpu.max").read_text(encoding="utf-8").split()
            if words[0] != "max":
                allowed.append(float(words[0]) / float(words[1]))
        elif quota.exists() and period.exists():
            time = float(quota.read_text(encoding="utf-8"))
            if time > 0:
                allowed.append(time / float(period.read_text(encoding="utf-8")))
    return min(allowed)


def _flags(file: Path) -> frozenset[str]:
    if not file.exists():
        return frozenset()
    text = file.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(rest.split())
    return frozenset()
