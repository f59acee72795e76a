"""Build the image, look into it, run an experiment in it and here, compare every file.

Where no registry can be reached the base images are stand-ins (see `container.bases`): Dockerfile,
lock, code and the run are the real ones, Quarto is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from container import bases, image
from container.engine import Engine, docker, has_docker, install, podman
from workbench import PROJECT, TINY

from minivess import paths
from minivess.errors import MinivessError
from minivess.reproducibility.compare import check_files, check_same, compare_digests
from minivess.reproducibility.digests import read_digests

IMAGE = "localhost/minivess:check"
STRANGER = 12345  # a user that the image does not know
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minivess-container"
# As tight as it gets: nothing but /work and /tmp can be written, nothing else be reached.
TIGHT = (
    *("--network", "none", "--read-only", "--tmpfs", "/tmp"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
)


def main() -> int:
    """Exit status: 0 equal, that of the error otherwise."""
    asked = arguments().parse_args()
    if asked.clean:
        clean(asked.storage)
        return 0
    engine = prepared_engine(asked)
    if engine is None:
        print("podman with a storage of its own needs root; docker needs --real-bases")
        return 2
    times: dict[str, float] = {}
    timed(times, "build", lambda: build(engine))
    print(f"image: {size_gb(engine):.2f} GB", flush=True)
    for problem in (problems := image.problems(engine, IMAGE, python_base())):
        print(f"image: {problem}")
    if problems:
        return 1
    work = asked.storage / "work"
    shutil.rmtree(work, ignore_errors=True)
    here, there = work / "here", work / "container"
    for folder in (here, there):
        folder.mkdir(parents=True)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    experiment = "tiny.yaml" if asked.experiment == "tiny" else asked.experiment
    words = ["--cores", str(asked.cores), "--config", f"experiment={experiment}"]
    timed(times, "run in the container", lambda: run_there(engine, there, words))
    timed(times, "run here", lambda: run_here(here, words))
    return compare(here, there, Path(experiment).stem, times)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/container/run", description=__doc__)
    parser.add_argument("experiment", nargs="?", default="tiny", help="tiny, demo, ...")
    parser.add_argument("--cores", type=int, default=2, help="cores of both runs")
    parser.add_argument(
        "--real-bases",
        action="store_true",
        help="pull the base images, with docker where its daemon answers",
    )
    parser.add_argument("--storage", type=absolute, default=CACHE, help=f"default: {CACHE}")
    parser.add_argument("--clean", action="store_true", help="remove all that this script made")
    return parser


def absolute(text: str) -> Path:
    """A folder, absolute as engines want it."""
    return Path(text).resolve()


def prepared_engine(asked: argparse.Namespace) -> Engine | None:
    """The engine, with the base images that it will need; None where it may not be used."""
    if asked.real_bases and has_docker():
        return docker()
    if os.geteuid() != 0:
        return None
    install()
    kind = "real" if asked.real_bases else "stand-in"
    engine = podman(asked.storage / kind, pull=asked.real_bases)
    if not asked.real_bases:
        bases.make_stand_ins(engine, base_images(), asked.storage / kind / "context")
    return engine


def base_images() -> list[str]:
    """Base images of the project's Dockerfile."""
    return bases.base_images((PROJECT / "Dockerfile").read_text(encoding="utf-8"))


def python_base() -> str:
    """The one that the image begins with."""
    return next(name for name in base_images() if "/python:" in name)


def build(engine: Engine) -> None:
    """Build the project's Dockerfile."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    known = subprocess.run(describe, cwd=PROJECT, capture_output=True, text=True, check=False)
    options = ["--build-arg", f"MINIVESS_GIT_COMMIT={known.stdout.strip() or 'unknown'}"]
    certificates = os.environ.get("SSL_CERT_FILE", "")
    if Path(certificates).is_file():
        options += ["--secret", f"id=ca,src={certificates}"]
    engine.build(PROJECT, IMAGE, *options)
    if engine.command[0] == "podman":
        # Gigabytes that an older lock has left; what the image was built from is kept.
        engine.call("image", "prune", "--force", quiet=True)


def size_gb(engine: Engine) -> float:
    """Size of the image on the disk, in 10^9 bytes."""
    shown = engine.call("image", "inspect", "--format", "{{.Size}}", IMAGE, quiet=True)
    return int(shown) / 1e9


def run_there(engine: Engine, folder: Path, words: list[str]) -> None:
    """Run Snakemake in the container, as a user that the image does not know and is not root."""
    user = os.getuid() or STRANGER
    for path in (folder, *folder.iterdir()):
        os.chown(path, user, os.getgid() or STRANGER)
    options = [*TIGHT, "--user", f"{user}:{os.getgid() or STRANGER}", "--volume", f"{folder}:/work"]
    engine.run(IMAGE, ["snakemake", *words], *options, quiet=False)


def run_here(folder: Path, words: list[str]) -> None:
    """Run the same here."""
    own = ["--snakefile", str(PROJECT / "Snakefile")]
    own += ["--workflow-profile", str(PROJECT / "profiles" / "default")]
    # A store of its own, as the container has: nobody's server must see this run.
    own_variables = {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    subprocess.run(
        [sys.executable, "-m", "snakemake", *own, *words],
        cwd=folder,
        env={**os.environ, **own_variables},
        check=True,
    )


def compare(here: Path, there: Path, name: str, times: dict[str, float]) -> int:
    """Print digests and times; exit status of the first difference."""
    ours, theirs = (folder / paths.experiment_folder(name) for folder in (here, there))
    try:
        expected, found = (read_digests(paths.digests(root)) for root in (ours, theirs))
        check_files(ours, expected)
        check_files(theirs, found)
        comparison = compare_digests(expected, found)
        for file in dict.fromkeys((*expected, *found)):
            pair = expected.get(file, "missing"), found.get(file, "missing")
            print(pair[0] if pair[0] == pair[1] else f"{pair[0]} {pair[1]}", file)
        for what, seconds in times.items():
            print(f"{what}: {seconds:.0f} s")
        print(f"here and in the container: {comparison}")
        check_same(ours, theirs, comparison, "the container")
    except MinivessError as error:
        print(error)
        return error.exit_status
    return 0


def timed(times: dict[str, float], what: str, do: Callable[[], Any]) -> None:
    """Do something and note how long it took."""
    begin = time.monotonic()
    do()
    times[what] = time.monotonic() - begin


def clean(storage: Path) -> None:
    """Remove images, caches and results of this script."""
    for kind in ("stand-in", "real"):
        if (storage / kind).is_dir():
            podman(storage / kind, pull=False).call("rmi", "--all", "--force", quiet=True)
    if has_docker() and docker().has(IMAGE):
        docker().call("rmi", "--force", IMAGE)
    if storage.exists():
        shutil.rmtree(storage)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as failed:
        sys.exit(f"failed, see above: {' '.join(map(str, failed.cmd))}")
