"""Device and precision: chosen automatically, stated with their reasons, overridable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivess.config.schema import ComputeConfig
from minivess.environment import choose_kernels
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import torch

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _NEVER = -1, -4, 2**31 - 1


@dataclass(frozen=True)
class Decision:
    """Something that was decided automatically, and why."""

    name: str
    value: str
    reason: str


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bfloat16 natively (AVX512-BF16, AMX or Arm's bf16)."""
    if not cpuinfo.exists():
        return False
    words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def choose_device(
    config: ComputeConfig, local_rank: int | None = None
) -> tuple[torch.device, Decision]:
    """The device to compute on.

    Args:
        config: device, and number of devices where several share a training.
        local_rank: number of this process among those on this machine that share a training; None
            for one that computes alone.

    Raises:
        MinivessError: MV-SYSTEM-003 not there, MV-CONFIG-004 one device named for several
            processes.
    """
    import torch

    wanted = config.device
    if local_rank is not None and wanted != "cpu":
        return _own_device(config, local_rank)
    if wanted == "auto":
        if torch.cuda.is_available():
            name = torch.cuda.get_device_name(0)
            return torch.device("cuda", 0), Decision("sys_device", "cuda:0", f"auto: found {name}")
        return torch.device("cpu"), Decision("sys_device", "cpu", "auto: no CUDA device found")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MinivessError(
            "MV-SYSTEM-003",
            what=f"the device {wanted} is not there",
            where="config compute.device",
            found=f"{torch.cuda.device_count()} CUDA device(s)",
            fix="set device to auto or cpu",
        )
    return device, Decision("sys_device", str(device), "set in the config")


def check_devices(config: ComputeConfig) -> None:
    """Raise where there are not as many devices as are to share a training; no GPU is touched.

    Raises:
        MinivessError: MV-SYSTEM-003 too few, MV-CONFIG-004 one device named for several processes.
    """
    import torch

    if config.device == "cpu":
        return
    if config.device not in ("auto", "cuda"):
        raise MinivessError(
            "MV-CONFIG-004",
            what=f"compute.device={config.device} and compute.devices={config.devices} contradict",
            where="config compute.device",
            found=config.device,
            expected="auto, cuda or cpu: which GPU is for each process to choose",
            fix="set device to auto; CUDA_VISIBLE_DEVICES says which GPUs there are",
        )
    count = torch.cuda.device_count()
    if count < config.devices:
        raise MinivessError(
            "MV-SYSTEM-003",
            what="there are fewer GPUs than compute.devices",
            where="config compute.devices",
            found=f"{count} CUDA device(s)",
            expected=f"{config.devices}",
            fix=f"set compute.devices={max(1, count)}, or compute.device=cpu to share the training "
            "among processes on the CPU",
        )


def _own_device(config: ComputeConfig, local_rank: int) -> tuple[torch.device, Decision]:
    """The GPU of one of the processes that share a training."""
    import torch

    check_devices(config)
    name = torch.cuda.get_device_name(local_rank)
    value = f"cuda:{local_rank}"
    reason = f"{config.device}: {name}, one of {config.devices} that share the training"
    return torch.device("cuda", local_rank), Decision("sys_device", value, reason)


def _gpu_has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 itself: before Ampere it is emulated, and slow."""
    import torch

    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def choose_precision(
    config: ComputeConfig, device: torch.device
) -> tuple[torch.dtype | None, Decision]:
    """The autocast type, None for float32 throughout."""
    import torch

    if config.profile == "strict":
        return None, Decision("sys_precision", "float32", "profile strict")
    if _gpu_has_bfloat16(device) if device.type == "cuda" else cpu_has_bfloat16():
        return torch.bfloat16, Decision("sys_precision", "bfloat16", "profile fast, device has it")
    return None, Decision("sys_precision", "float32", "profile fast, but no bfloat16 on the device")


def choose_cpu_kernels(config: ComputeConfig) -> Decision:
    """Which of torch's CPU kernels run: what decides whether another CPU gives the same bytes."""
    import torch

    found = torch.backends.cpu.get_cpu_capability()
    if config.profile == "fast":
        return Decision("sys_cpu_kernels", found, "profile fast: the widest that the CPU has")
    if found == "AVX2":
        return Decision("sys_cpu_kernels", found, "profile strict: what all x86-64 CPUs have")
    reason = "profile strict, but not the AVX2 kernels: other bytes than on CPUs that have them"
    return Decision("sys_cpu_kernels", found, reason)


def keep_freed_memory() -> bool:
    """Have this process keep the memory of freed tensors for its next ones; whether it can.

    glibc returns tensors from 32 MB on to the kernel at once, which clears them anew for the next:
    a fifth of the time of a step on the CPU. Only glibc has this; elsewhere nothing changes.
    """
    import ctypes

    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    kept: bool = set_option(_M_MMAP_MAX, 0) and set_option(_M_TRIM_THRESHOLD, _NEVER)
    return bool(kept)


def prepare_torch(config: ComputeConfig) -> None:
    """Fix the number of threads and choose kernels, for the whole process; before torch loads."""
    import os

    choose_kernels(config.profile)
    # cuBLAS needs this before its first call to be deterministic.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    import torch

    keep_freed_memory()
    torch.set_num_threads(config.threads)
    # The same as use_deterministic_algorithms(True), which imports the compiler as well (1.5 s).
    torch.set_deterministic_debug_mode("error")
    # New memory would be filled with NaN, a tenth of a prediction's time, to show where it is read
    # before it is written. The tests do that.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # Ten bits of mantissa on GPUs since Ampere; torch's own default has it in convolutions.
    torch.backends.cudnn.allow_tf32 = config.profile == "fast"
    torch.backends.cuda.matmul.allow_tf32 = config.profile == "fast"
