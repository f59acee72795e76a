from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from minivess.config.schema import ComputeConfig
from minivess.errors import MinivessError
from minivess.inference.device import choose_device, choose_precision, cpu_has_bfloat16

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch


def test_auto_says_what_it_took_and_why() -> None:
    import torch

    device, decision = choose_device(ComputeConfig())
    assert decision.name == "sys_device"
    assert decision.reason.startswith("auto: ")
    if torch.cuda.is_available():
        assert (str(device), decision.value) == ("cuda:0", "cuda:0")
    else:
        assert (str(device), decision.value) == ("cpu", "cpu")
        assert "no CUDA device" in decision.reason


def test_a_device_can_be_set() -> None:
    device, decision = choose_device(ComputeConfig(device="cpu"))
    assert device.type == "cpu"
    assert decision.reason == "set in the config"


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "cuda:x", "cuda:-1", "cpu:1", "", "CPU"])
def test_what_is_not_a_device_is_refused(name: str) -> None:
    """Wherever a config is read: before anything is planned, forecast or run."""
    with pytest.raises(ValidationError, match=r"compute\.device|device"):
        ComputeConfig(device=name)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(MinivessError) as caught:
        choose_device(ComputeConfig(device="cuda:99"))
    assert caught.value.code == "MV-SYSTEM-003"
    assert caught.value.exit_status == 4


def test_fewer_gpus_than_devices_are_refused() -> None:
    for device in ("auto", "cuda"):
        with pytest.raises(MinivessError) as caught:
            choose_device(ComputeConfig(device=device, devices=99), local_rank=0)
        assert caught.value.code == "MV-SYSTEM-003"
        assert caught.value.where == "config compute.devices"
        assert caught.value.expected == "99"


def test_several_processes_cannot_be_told_one_gpu() -> None:
    with pytest.raises(MinivessError) as caught:
        choose_device(ComputeConfig(device="cuda:1", devices=2), local_rank=0)
    assert caught.value.code == "MV-CONFIG-004"


def test_several_processes_can_share_a_training_on_the_cpu() -> None:
    device, decision = choose_device(ComputeConfig(device="cpu", devices=2), local_rank=1)
    assert device.type == "cpu"
    assert decision.reason == "set in the config"


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # Where there are no GPUs, what torch says about them is made up; the choice is not.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    for device in ("auto", "cuda"):
        config = ComputeConfig(device=device, devices=2)
        assert [str(choose_device(config, rank)[0]) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
        assert choose_device(config, 1)[1].value == "cuda:1"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2 avx512f avx512_bf16 amx_tile", True),
        ("avx2 amx_bf16", True),
        ("fp asimd bf16 i8mm", True),
        ("avx2 avx512f", False),
        ("avx512_bf16x", False),
        ("", False),
    ],
)
def test_bfloat16_is_read_from_the_flags_of_the_cpu(
    tmp_path: Path, flags: str, expected: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu vme {flags}\n", encoding="utf-8")
    assert cpu_has_bfloat16(cpuinfo) is expected


def test_without_cpuinfo_there_is_no_bfloat16(tmp_path: Path) -> None:
    assert cpu_has_bfloat16(tmp_path / "none") is False


def test_the_strict_profile_is_float32() -> None:
    import torch

    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        precision, decision = choose_precision(ComputeConfig(), device)
        assert precision is None
        assert decision.value == "float32"


def test_the_fast_profile_follows_the_cpu() -> None:
    import torch

    precision, decision = choose_precision(ComputeConfig(profile="fast"), torch.device("cpu"))
    if cpu_has_bfloat16():
        assert (precision, decision.value) == (torch.bfloat16, "bfloat16")
    else:
        assert (precision, decision.value) == (None, "float32")
        assert "no bfloat16" in decision.reason


def test_the_fast_profile_does_not_emulate_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, made up: the second one multiplies bfloat16, the first can only emulate it."""
    import torch

    current: list[int] = []

    @contextmanager
    def entered(device: torch.device) -> Iterator[None]:
        current.append(device.index)
        yield
        current.pop()

    def is_supported(including_emulation: bool = True) -> bool:
        return including_emulation or current[-1:] == [1]

    monkeypatch.setattr(torch.cuda, "device", entered)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    found = [
        choose_precision(ComputeConfig(profile="fast"), torch.device("cuda", number))[0]
        for number in (0, 1)
    ]
    assert found == [None, torch.bfloat16]


def test_torch_is_prepared_for_equal_bytes() -> None:
    # In a process of its own: these are settings of the process.
    code = (
        "from minivess.config.schema import ComputeConfig\n"
        "from minivess.inference.device import prepare_torch\n"
        "import os, torch\n"
        "prepare_torch(ComputeConfig(threads=2))\n"
        "print(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),\n"
        "      torch.backends.cudnn.benchmark, os.environ['CUBLAS_WORKSPACE_CONFIG'])\n"
        # Float32 of the profile strict is float32 on GPUs, too.
        "for profile in ('strict', 'fast', 'strict'):\n"
        "    prepare_torch(ComputeConfig(profile=profile))\n"
        "    print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines() == [
        "2 True False :4096:8",
        "False False",
        "True True",
        "False False",
    ]
