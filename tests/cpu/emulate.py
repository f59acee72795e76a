"""Run an experiment's steps under emulated CPUs and compare every output with this CPU's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from minivess import paths
from minivess.config.load import load_step
from minivess.data.folds import read_folds
from minivess.environment import prepare_environment
from minivess.errors import MinivessError
from minivess.figures import FIGURES
from minivess.reproducibility.compare import check_same, compare_digests
from minivess.reproducibility.digests import read_digests

PROJECT = Path(__file__).parents[2]
NAME = "emulated"
ROOT = paths.experiment_folder(NAME)
# The demo, with as little of everything as its network and patches allow.
CHANGES = {
    "phantom": {"n_cases": 4, "phantom_shape": [64, 64, 16]},
    "patches": {"patches_per_epoch": 4},
    "training": {"epochs": 2, "selection_every": 1},
    "statistics": {"bootstrap_resamples": 199},
}


def write_experiment(folder: Path) -> Path:
    """A working folder with the project's workflow and the small experiment."""
    folder.mkdir(parents=True)
    for name in ("Snakefile", "workflow", "profiles", "configs", "paper", "uv.lock"):
        (folder / name).symlink_to(PROJECT / name)
    demo = yaml.safe_load((PROJECT / "configs/experiment/demo.yaml").read_text(encoding="utf-8"))
    config = folder / f"{NAME}.yaml"
    config.write_text(yaml.safe_dump({**demo, **CHANGES}), encoding="utf-8")
    return config


def steps(folder: Path) -> Iterator[list[str]]:
    """The verbs of the DAG, one after the other."""
    for verb in ("phantom", "manifest", "validate", "accept"):
        yield ["data", verb]
    config = load_step(folder / paths.step_config(ROOT, "experiment"))
    for number in range(1, config.phantom.n_cases + 1):
        yield ["data", "preprocess", "--case", f"phantom_{number:03d}"]
    yield ["data", "folds"]
    yield ["baseline"]
    folds = read_folds(folder / paths.folds(ROOT)).folds
    for run in config.runs(len(folds)):
        options = ["--model", run.model, "--loss", run.loss]
        options += ["--seed", str(run.seed), "--fold", str(run.fold)]
        yield ["train", *options, "--progress", "plain"]
        for case in folds[run.fold].validation:
            yield ["predict", *options, "--case", case]
            yield ["evaluate", *options, "--case", case]
    yield from (["track"], ["export"], ["compare"], *(["figure", name] for name in FIGURES))
    yield ["digests"]


def emulate(cpu: str, native: Path, folder: Path) -> str:
    """Run every step under one emulated CPU; what came of it."""
    begin = time.monotonic()
    write_experiment(folder)
    shutil.copytree(native / ROOT / "config", folder / ROOT / "config")
    python = ["qemu-x86_64", "-cpu", cpu, sys.executable, "-m", "minivess"]
    for step in steps(folder):
        start = time.monotonic()
        done = subprocess.run(
            [*python, *step, "-e", NAME], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{cpu}: {' '.join(step)} failed\n{done.stderr[-3000:]}")
        print(f"{cpu}: {' '.join(step)}, {time.monotonic() - start:.0f} s", flush=True)
    sums = paths.digests(ROOT)
    compared = compare_digests(read_digests(native / sums), read_digests(folder / sums))
    check_same(native / ROOT, folder / ROOT, compared, f"an emulated {cpu}")
    return f"{cpu}: {compared} of {len(compared.equal)} files, {time.monotonic() - begin:.0f} s"


def main(cpus: list[str]) -> int:
    """Compare this CPU with emulated ones; 0 where every byte is equal."""
    prepare_environment()
    folder = Path(tempfile.mkdtemp(prefix="minivess-cpu-"))
    native = folder / "native"
    config = write_experiment(native)
    command = [sys.executable, "-m", "minivess", "experiment", config.name, "digests"]
    subprocess.run(command, cwd=native, check=True, env=dict(os.environ))
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            jobs = [pool.submit(emulate, cpu, native, folder / cpu) for cpu in cpus]
            for job in jobs:
                print(job.result(), flush=True)
    except MinivessError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
