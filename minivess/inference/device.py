"""Device and precision: chosen automatically, stated with their reasons, overridable."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivess.config.schema import ComputeConfig
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import torch


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


def choose_device(config: ComputeConfig) -> tuple[torch.device, Decision]:
    """The device to compute on.

    Raises:
        MinivessError: MV-SYSTEM-003 not there, MV-CONFIG-002 not a device.
    """
    import torch

    wanted = config.device
    if wanted == "auto":
        if torch.cuda.is_available():
            name = torch.cuda.get_device_name(0)
            return torch.device("cuda", 0), Decision("sys_device", "cuda:0", f"auto: found {name}")
        return torch.device("cpu"), Decision("sys_device", "cpu", "auto: no CUDA device found")
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", wanted):
        raise MinivessError(
            "MV-CONFIG-002",
            what=f"{wanted} is not a device",
            where="config compute.device",
            found=wanted,
            expected="auto, cpu, cuda or cuda:N",
            fix="set device to auto",
        )
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


def choose_precision(
    config: ComputeConfig, device: torch.device
) -> tuple[torch.dtype | None, Decision]:
    """The autocast type, None for float32 throughout."""
    import torch

    if config.profile == "strict":
        return None, Decision("sys_precision", "float32", "profile strict")
    on_gpu = device.type == "cuda"
    if torch.cuda.is_bf16_supported() if on_gpu else cpu_has_bfloat16():
        return torch.bfloat16, Decision("sys_precision", "bfloat16", "profile fast, device has it")
    return None, Decision("sys_precision", "float32", "profile fast, but no bfloat16 on the device")


def prepare_torch(config: ComputeConfig) -> None:
    """Fix the number of threads and choose deterministic kernels, for the whole process."""
    import os

    import torch

    # cuBLAS needs this before its first call to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(config.threads)
    # The same as use_deterministic_algorithms(True), which imports the compiler as well (1.5 s).
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
