"""The container engine: podman with a storage of its own, or the machine's docker."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("podman", "runc", "mmdebstrap")  # also names of Debian's packages


@dataclass(frozen=True)
class Engine:
    """How images are built and containers run."""

    command: tuple[str, ...]
    for_build: tuple[str, ...]
    for_run: tuple[str, ...]
    environment: dict[str, str]

    def call(self, *arguments: str, quiet: bool = False) -> str:
        """Run the engine, which must succeed; what it wrote to stdout where it is quiet."""
        done = subprocess.run(
            [*self.command, *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE if quiet else None,
            text=True,
            check=True,
        )
        return (done.stdout or "").strip()

    def has(self, image: str) -> bool:
        """Whether an image is there already."""
        done = subprocess.run(
            [*self.command, "image", "inspect", image],
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode == 0

    def build(self, folder: Path, image: str, *options: str) -> None:
        self.call("build", *self.for_build, *options, "--tag", image, str(folder))

    def run(self, image: str, command: Sequence[str], *options: str, quiet: bool = True) -> str:
        """Output of a command in a new container, which is gone afterwards."""
        call = ["run", "--rm", *self.for_run, *options, image, *command]
        return self.call(*call, quiet=quiet)


def podman(storage: Path, *, pull: bool) -> Engine:
    """Podman with images, containers and build caches below one folder.

    Runs where systemd and an own network are missing: with runc and cgroupfs.
    """
    scratch = storage / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return Engine(
        command=(
            *("podman", "--root", str(storage / "root"), "--runroot", str(storage / "runroot")),
            *("--runtime", "runc", "--cgroup-manager", "cgroupfs"),
        ),
        for_build=("--layers", "--network", "host", f"--pull={'missing' if pull else 'never'}"),
        for_run=("--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=32768:32768"),
        # Buildah keeps its cache mounts there.
        environment={"TMPDIR": str(scratch)},
    )


def docker() -> Engine:
    """The docker of the machine."""
    return Engine(("docker",), (), (), {"DOCKER_BUILDKIT": "1"})


def has_docker() -> bool:
    """Whether a docker daemon answers."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return done.returncode == 0


def install() -> None:
    """Install what is missing, from Debian's packages."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        options = ["--yes", "--quiet", "--no-install-recommends"]
        subprocess.run(["apt-get", "update", "--quiet"], check=True)
        subprocess.run(["apt-get", "install", *options, *missing], check=True)
