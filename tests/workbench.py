"""A folder in which the project's real Snakefile runs on a tiny phantom."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from minivess import paths
from minivess.reproducibility.digests import read_digests

PROJECT = Path(__file__).parents[1]
CODE = ("minivess", "workflow", "profiles", "configs", "paper", "Snakefile", "uv.lock")

TINY = {
    "losses": ["dice_ce", "cbdice"],
    "phantom": {"n_cases": 4, "phantom_shape": [32, 32, 8]},
    "folds": {"n_folds": 2},
    "patches": {"patch_size": [16, 16, 8], "patches_per_epoch": 8},
    "augment": {"affine_probability": 0.5},
    "models": {"tiny": {"filters": [4, 8, 8]}},
    "training": {"epochs": 2, "selection_every": 1, "learning_rate": 0.003},
    "loss": {"skeleton_iterations": 2},
    "statistics": {"bootstrap_resamples": 199},
    "calibration": {"fitted_voxels": 2000, "local_steps": 10},
    "conformal": {"alphas": [0.1, 0.5]},
}


@dataclass
class Workbench:
    """A working folder, and the project that runs in it."""

    folder: Path
    project: Path = PROJECT
    environment: dict[str, str] = field(default_factory=dict)
    name: str = "tiny"

    @property
    def root(self) -> Path:
        return self.folder / "results" / self.name

    def write_config(self, **changes: object) -> None:
        values = {**TINY, **changes}
        (self.folder / f"{self.name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")

    def command(
        self,
        *targets: str,
        cores: int = 2,
        config: tuple[str, ...] = (),
        dry: bool = False,
        more: tuple[str, ...] = (),
    ) -> list[str]:
        options = ["--snakefile", str(self.project / "Snakefile")]
        options += ["--workflow-profile", str(self.project / "profiles" / "default")]
        options += ["--cores", str(cores), *(["--dry-run"] if dry else []), *more]
        options += ["--config", f"experiment={self.name}.yaml", *config]
        return [sys.executable, "-m", "snakemake", *options, "--", *targets]

    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.project), **self.environment}

    def call(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.env(), capture_output=True, text=True, check=False
        )

    def run(self, *targets: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Snakemake, whatever comes of it."""
        return self.call(self.command(*targets, **options))

    def complete(self, *targets: str, **options: Any) -> str:
        """Snakemake, which must succeed; what it printed."""
        done = self.run(*targets, **options)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout + done.stderr

    def planned(self, *targets: str) -> set[str]:
        """Rules that a dry run would execute."""
        return planned_rules(self.complete(*targets, dry=True))

    def minivess(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`minivess ...` in a folder that looks like the project's."""
        self.look_like_the_project()
        return self.call([sys.executable, "-m", "minivess", *arguments])

    def look_like_the_project(self) -> None:
        for name in ("Snakefile", "workflow", "profiles", "configs", "paper", "uv.lock"):
            if not (self.folder / name).exists():
                (self.folder / name).symlink_to(self.project / name)

    def recorded(self) -> dict[str, str]:
        """What SHA256SUMS says."""
        return read_digests(paths.digests(self.root))

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file that is there but logs, benchmarks and Snakemake's report."""
        left_out = {"logs", "benchmarks", ".state"}
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        return {
            path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if not left_out & set(path.relative_to(self.root).parts)
            and path.name not in {"report.html", ".lock", "SHA256SUMS"}
        }

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(),
            cwd=self.folder,
            env=self.env(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_for(self, pattern: str, timeout_s: float = 300.0) -> Path:
        """The first file of the results that matches, once there is one."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for path in self.root.rglob(pattern):
                return path
            time.sleep(0.02)
        pytest.fail(f"no {pattern} after {timeout_s} s")


def planned_rules(text: str) -> set[str]:
    """Rules that a dry run has printed."""
    _, _, table = text.partition("Job stats:")
    table, _, _ = table.partition("\ntotal ")
    pairs = [line.split() for line in table.splitlines()]
    rules = {pair[0] for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
    return rules - {"all"}


def copy_project(project: Path, folder: Path) -> Path:
    """A copy of the code that runs experiments; the folder."""
    for name in CODE:
        source = project / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
