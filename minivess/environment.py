"""Environment variables that every process of ours starts with; set before NumPy is imported."""

from __future__ import annotations

import os

VARIABLES = {
    # One thread in BLAS and OpenMP unless a step asks torch for more: the number changes the bytes.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Nothing leaves the machine.
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # Same pages and figures whenever they are made.
    "SOURCE_DATE_EPOCH": "0",
    "MPLBACKEND": "Agg",
}


def prepare_environment() -> None:
    """Set the variables that the user has not set."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
