"""Environment variables that every process of ours starts with; set before NumPy is imported."""

from __future__ import annotations

import os

# What decides bytes: set whatever the user's shell or a cluster has set.
DECIDING = {
    # One thread in BLAS and OpenMP unless a step asks torch for more: the number changes the bytes.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # The kernels that every x86-64 CPU since Intel's Haswell and AMD's Zen has: wider ones sum in
    # another order. NumPy and OpenBLAS (also SciPy's) read these.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    # Takes effect in the processes that this one starts.
    "PYTHONHASHSEED": "0",
    # Same pages and figures whenever they are made.
    "SOURCE_DATE_EPOCH": "0",
    "MPLBACKEND": "Agg",
}

# The same for torch: its own kernels, oneDNN's and MKL's. Only the profile strict sets them.
TORCH_KERNELS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
}

PRIVATE = {
    # Nothing leaves the machine.
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def prepare_environment() -> None:
    """Set what decides bytes, and the rest where the user has not set it."""
    os.environ.update(DECIDING)
    # Torch's children inherit them too; `choose_kernels` takes them back for the profile fast.
    os.environ.update(TORCH_KERNELS)
    for name, value in PRIVATE.items():
        os.environ.setdefault(name, value)


def choose_kernels(profile: str) -> None:
    """Cap torch's kernels for the profile strict, leave them free for fast.

    Torch reads the variables once: this comes before it is imported.

    Args:
        profile: strict or fast.
    """
    for name, value in TORCH_KERNELS.items():
        if profile == "strict":
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
