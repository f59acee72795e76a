"""Each variable reaches the library that it is for; each in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from minivess.environment import DECIDING, TORCH_KERNELS

WIDE = {"OMP_NUM_THREADS": "7", "OPENBLAS_CORETYPE": "SkylakeX", "ATEN_CPU_CAPABILITY": "avx512"}


def printed(code: str, **variables: str) -> list[str]:
    """What code prints that starts as ours do, in a shell that has set other values."""
    lines = ["from minivess.environment import choose_kernels, prepare_environment"]
    lines += ["prepare_environment()", code]
    others = {name: value for name, value in os.environ.items() if name not in DECIDING}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=True,
        env={**others, **variables},
    )
    return done.stdout.split()


def test_what_decides_bytes_overrules_the_shell() -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_CORETYPE'])"
    assert printed(code, **WIDE) == ["1", "Haswell"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is x86-64's")
def test_numpy_and_openblas_use_no_wider_kernels() -> None:
    code = (
        "import numpy\n"
        "from numpy._core._multiarray_umath import __cpu_features__ as features\n"
        "from threadpoolctl import threadpool_info\n"
        "import scipy.linalg\n"
        "libraries = [i for i in threadpool_info() if i['internal_api'] == 'openblas']\n"
        "print(features['X86_V4'], features['AVX512_ICL'],\n"
        "      {i['architecture'] for i in libraries} == {'Haswell'},\n"
        "      {i['num_threads'] for i in libraries} == {1})\n"
    )
    assert printed(code, **WIDE) == ["False", "False", "True", "True"]


@pytest.mark.parametrize(("profile", "capped"), [("strict", True), ("fast", False)])
def test_torch_is_capped_by_the_strict_profile_only(profile: str, capped: bool) -> None:
    code = (
        f"choose_kernels({profile!r})\n"
        f"import os; print(*(name in os.environ for name in {list(TORCH_KERNELS)}))"
    )
    assert printed(code) == [str(capped)] * len(TORCH_KERNELS)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is x86-64's")
def test_the_cap_reaches_torch() -> None:
    code = "choose_kernels('strict')\nimport torch\nprint(torch.backends.cpu.get_cpu_capability())"
    assert printed(code, **WIDE) == ["AVX2"]


def test_children_hash_alike() -> None:
    code = (
        "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-c', \"print(hash('vessel'))\"],\n"
        "                     capture_output=True, text=True).stdout)\n"
    )
    assert printed(code) == printed(code, PYTHONHASHSEED="5")


def test_onnx_runtime_opens_no_telemetry_session(tmp_path: Path) -> None:
    code = "import onnxruntime, os; print(*sorted(os.listdir(os.environ['TMPDIR'])))"
    (tmp_path / "folder").mkdir()
    assert printed(code, TMPDIR=str(tmp_path / "folder")) == []
    # Without the variable there is a file of that session: the test can see one. On CI machines,
    # which it knows by their variables, ONNX Runtime opens none.
    subprocess.run(
        [sys.executable, "-c", "import onnxruntime"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        check=True,
    )
    assert (tmp_path / ".ses").exists()


def test_gradio_sends_nothing() -> None:
    code = "from gradio.analytics import analytics_enabled; print(analytics_enabled())"
    assert printed(code) == ["False"]
