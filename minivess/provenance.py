"""Digests of files and of our own code, the state of git, versions: what made a result."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
# A container image has no repository: its build writes the commit here.
COMMIT_VARIABLE = "MINIVESS_GIT_COMMIT"
VERSIONED = ("torch", "monai", "torchio", "numpy", "scipy", "scikit-image", "snakemake", "mlflow")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of a value as canonical JSON.

    >>> json_sha256({"a": 1, "b": 2}) == json_sha256({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def git_state(folder: Path = PACKAGE) -> dict[str, str]:
    """Commit and whether tracked files differ from it.

    Outside a repository what $MINIVESS_GIT_COMMIT says, as `git describe --dirty` writes it; else
    "unknown".
    """
    git = shutil.which("git")
    if git is None:
        return _recorded_state()
    commit = subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    )
    if commit.returncode != 0:
        return _recorded_state()
    status = subprocess.run(
        [git, "status", "--porcelain", "--untracked-files=no"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "git_commit": commit.stdout.strip(),
        "git_dirty": str(bool(status.stdout.strip())).lower(),
    }


def _recorded_state() -> dict[str, str]:
    commit, _, dirty = (os.environ.get(COMMIT_VARIABLE) or "unknown").partition("-")
    # Without the suffix it may be that nobody looked.
    return {"git_commit": commit, "git_dirty": "true" if dirty == "dirty" else "unknown"}


def system_facts(libraries: tuple[str, ...] = ()) -> dict[str, str]:
    """Python, platform and the versions of what computes: they go to the log, never into tables.

    Args:
        libraries: packages beside those that all runs have in common.
    """
    versions = {f"sys_{name}": metadata.version(name) for name in (*VERSIONED, *libraries)}
    return {
        "sys_python": platform.python_version(),
        "sys_platform": platform.platform(),
        "sys_machine": platform.machine(),
        **versions,
    }
