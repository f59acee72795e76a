"""The check before work: what this machine has, what an experiment needs, what would fail."""

from __future__ import annotations

import math
import os
import shutil
import socket
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError, URLError

from minivess import machine, provenance
from minivess.config.automatic import planned_patches
from minivess.config.models import ModelConfig
from minivess.config.profiles import ModelProfile
from minivess.config.schema import Experiment, PatchConfig
from minivess.config.settings import load_settings
from minivess.data.sources import list_cases, volumes_of
from minivess.errors import MinivessError
from minivess.forecast import Step
from minivess.machine import AVX2, BFLOAT16, Gpu, Machine
from minivess.models import build_adapter
from minivess.resources import NETWORKS, PLANNED_SPACING, case_shape, training_mb
from minivess.tracking.address import shown, sqlite_path, tracking_uri
from minivess.training.auto import choose_workers
from minivess.training.shared_memory import needed_bytes
from minivess.training.warm_start import warm_start_file
from minivess.workflow import Plan

# Beside the jobs: Snakemake, and what else is open on a machine that somebody uses.
BESIDE_MB = 500.0
SMALLEST_DISK_MB = 2000.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: fine, worth a look, or a reason to fail."""

    state: Literal["ok", "look", "fail"]
    name: str
    found: str
    fix: str = ""


def examine(here: Machine, folder: Path) -> list[Finding]:
    """What this machine has, whatever the experiment.

    Args:
        here: the machine.
        folder: the working folder.
    """
    checks: list[Callable[[], Finding]] = [
        _python,
        lambda: _packages(provenance.PACKAGE.parent / "uv.lock"),
        lambda: _cores(here),
        lambda: _cpu(here),
        lambda: Finding("ok", "memory", f"{_size(here.free_mb)} of {_size(here.memory_mb)} free"),
        lambda: _gpus(here),
        lambda: _disk(folder),
        lambda: _writable(folder),
        _tracking,
        _ports,
        lambda: _program("Quarto", ("quarto",), "the paper", "https://quarto.org/docs/get-started"),
        lambda: _program("browser", BROWSERS, "the tests of the page", "your package manager"),
    ]
    return [check() for check in checks]


def examine_experiment(plan: Plan, steps: Iterable[Step], here: Machine) -> list[Finding]:
    """What of an experiment would not fit this machine.

    Args:
        plan: the experiment.
        steps: its forecast.
        here: the machine.
    """
    made = list(steps)
    findings = [_memory(made, here), _room(plan, made), _shared_memory(plan, here)]
    findings += [finding for name in plan.experiment.models for finding in _model(plan, name, here)]
    return findings + _device(plan, here) + _data(plan) + _warm_start(plan)


def _size(mb: float) -> str:
    return f"{mb / 1000:.1f} GB" if mb >= 1000 else f"{mb:.0f} MB"


def _python() -> Finding:
    return Finding("ok", "Python", ".".join(map(str, sys.version_info[:3])))


def _packages(lock: Path) -> Finding:
    """What computes is installed in the versions that the lock has."""
    installed = {name: metadata.version(name) for name in provenance.VERSIONED}
    text = ", ".join(f"{name} {installed[name]}" for name in ("torch", "monai", "numpy"))
    if not lock.is_file():
        return Finding("ok", "packages", text + "; no uv.lock here to compare with")
    locked = {
        package["name"]: package.get("version")
        for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
    }
    other = [
        f"{name} {version}, not {locked[name]}"
        for name, version in installed.items()
        if locked.get(name) not in (None, version)
    ]
    if other:
        return Finding("look", "packages", "; ".join(other), "uv sync, for the bytes of uv.lock")
    return Finding("ok", "packages", text + ", as in uv.lock")


def _cores(here: Machine) -> Finding:
    if here.cores < 1:
        fix = "give the container a whole core, or everything takes so much longer"
        return Finding("look", "cores", f"{here.cores:.2g} of one core", fix)
    return Finding("ok", "cores", f"{here.cores:g}")


def _cpu(here: Machine) -> Finding:
    fast = "bfloat16 for the profile fast" if here.cpu_flags & BFLOAT16 else "no bfloat16"
    if AVX2 in here.cpu_flags:
        return Finding("ok", "CPU", f"AVX2, {fast}")
    fix = "nothing, if you compare no bytes: docs/explanation/reproducibility.md"
    return Finding("look", "CPU", "no AVX2: other bytes than on x86-64 CPUs that have it", fix)


def _gpus(here: Machine) -> Finding:
    if here.gpus is None:
        text = f"not known: nvidia-smi has not answered within {machine.GPU_SECONDS:g} s"
        return Finding("look", "GPU", text, "run nvidia-smi; set compute.device=cpu to do without")
    if not here.gpus:
        return Finding("ok", "GPU", "none; networks are trained on the CPU")
    return Finding("ok", "GPU", "; ".join(map(_gpu_text, here.gpus)))


def _gpu_text(gpu: Gpu) -> str:
    if gpu.total_mb is None or gpu.free_mb is None:
        return f"{gpu.name}, of unknown memory"
    return f"{gpu.name}, {_size(gpu.free_mb)} of {_size(gpu.total_mb)} free"


def _on_gpu(plan: Plan, here: Machine) -> bool:
    return bool(here.gpus) and plan.experiment.compute.device != "cpu"


def _disk(folder: Path) -> Finding:
    free = machine.free_disk_mb(folder)
    if free < SMALLEST_DISK_MB:
        return Finding("fail", "disk", f"{_size(free)} free", "make room")
    return Finding("ok", "disk", f"{_size(free)} free")


def _writable(folder: Path) -> Finding:
    places = [folder, folder / "results", Path(tempfile.gettempdir())]
    closed = [str(p) for p in places if p.exists() and not os.access(p, os.W_OK | os.X_OK)]
    if closed:
        return Finding("fail", "folders", f"not writable: {', '.join(closed)}", "change the rights")
    return Finding("ok", "folders", "writable")


def _tracking() -> Finding:
    try:
        uri = tracking_uri()
    except MinivessError as error:
        return Finding("fail", "MLflow", error.what, error.fix)
    path = sqlite_path(uri)
    if path is not None:
        place = path if path.exists() else path.parent
        if place.exists() and os.access(place, os.W_OK):
            return Finding("ok", "MLflow", shown(uri))
        return Finding("fail", "MLflow", f"{path} cannot be written", "set MLFLOW_TRACKING_URI")
    if not uri.startswith(("http://", "https://")):
        return Finding("ok", "MLflow", f"{shown(uri)}, not tried")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):  # noqa: S310
            return Finding("ok", "MLflow", f"{shown(uri)} answers")
    except HTTPError as error:
        fix = "is that an MLflow server? correct MLFLOW_TRACKING_URI"
        return Finding("look", "MLflow", f"{shown(uri)} answers with {error.code}", fix)
    except (URLError, OSError) as error:
        fix = "start the server, or unset MLFLOW_TRACKING_URI"
        return Finding("fail", "MLflow", f"{shown(uri)} does not answer: {error}", fix)


def _ports() -> Finding:
    """Ports that servers of ours will want; nothing of an experiment needs them."""
    settings = load_settings()
    wanted = {
        "service": settings.service_port,
        "page": settings.page_port,
        "Prefect": settings.prefect_port,
    }
    taken = [f"{port} ({name})" for name, port in wanted.items() if not _is_free(port)]
    if taken:
        fix = "end what listens there, or change configs/deploy/settings.toml"
        return Finding("look", "ports", f"in use: {', '.join(taken)}", fix)
    return Finding("ok", "ports", f"free: {', '.join(map(str, wanted.values()))}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _program(name: str, programs: tuple[str, ...], purpose: str, source: str) -> Finding:
    for program in programs:
        if found := shutil.which(program):
            return Finding("ok", name, found)
    return Finding("look", name, f"none; only {purpose} needs it", f"install it from {source}")


def _memory(steps: list[Step], here: Machine) -> Finding:
    single = max(steps, key=lambda step: step.job_mb)
    if single.job_mb + BESIDE_MB > here.free_mb:
        text = f"{_size(single.job_mb + BESIDE_MB)} for one job of {single.name}"
        fix = "use a larger machine"
        if single.name.split()[0] in NETWORKS:
            fix = f"make patches.patch_size, batch_size or the network smaller, or {fix}"
        return Finding("fail", "memory", f"{text}; {_size(here.free_mb)} are free", fix)
    largest = max(steps, key=lambda step: step.mb)
    needed = largest.mb + BESIDE_MB
    text = (
        f"{_size(needed)} at most, in {largest.name}: {min(largest.jobs, largest.at_once)} at once"
    )
    if needed <= here.free_mb:
        return Finding("ok", "memory", text)
    memory = int(here.free_mb - BESIDE_MB)
    fitting = int(memory // largest.job_mb)
    fix = f"run {fitting} at once: snakemake --resources mem_mb={memory}, or --cores {fitting}"
    return Finding("look", "memory", f"{text}; {_size(here.free_mb)} are free", fix)


def _room(plan: Plan, steps: list[Step]) -> Finding:
    needed = sum(step.disk_mb for step in steps)
    if plan.root.is_dir():
        needed -= sum(p.stat().st_size for p in plan.root.rglob("*") if p.is_file()) / 1e6
    free = machine.free_disk_mb(plan.root)
    text = f"{_size(max(0.0, needed))} more in {plan.root}"
    if needed > free:
        return Finding(
            "fail", "disk", f"{text}; {_size(free)} are free", "make room, or link results"
        )
    return Finding("ok", "disk", text)


def _shared_memory(plan: Plan, here: Machine) -> Finding:
    compute, models = plan.experiment.compute, plan.experiment.models.values()
    patches = [planned_patches(plan.experiment.patches, model) for model in models]
    free, on_gpu = int(here.shared_mb * 1e6), _on_gpu(plan, here)

    def wanted(each: PatchConfig) -> float:
        decided = compute
        if compute.workers == "auto":
            decided, _ = choose_workers(compute, each, on_gpu, here.cores, free)
        return needed_bytes(each, decided.most_workers, compute.devices) / 1e6

    needed = max(map(wanted, patches))
    if needed <= here.shared_mb:
        return Finding("ok", "shared memory", f"{needed:.0f} MB of {here.shared_mb:.0f}")
    fix = f"--shm-size={needed * 1.1:.0f}m for the container, or compute.workers=0"
    return Finding("fail", "shared memory", f"{needed:.0f} MB of {here.shared_mb:.0f}", fix)


def _model(plan: Plan, name: str, here: Machine) -> list[Finding]:
    """What a network asks of patches, volumes and a GPU."""
    experiment = plan.experiment
    config = experiment.models[name]
    patches = planned_patches(experiment.patches, config)
    adapter = build_adapter(config, _spacing(plan))
    divisor, findings = adapter.patch_divisor(), []
    where = f"network {name}"
    voxels = patches.batch_size * math.prod(patches.patch_size)
    step = training_mb(config, experiment.loss, voxels)
    said = f"{config.architecture}, {adapter.parameters() / 1e6:.1f} million weights, "
    findings.append(Finding("ok", where, said + f"{_size(step)} for a step of training"))
    chosen = experiment.patches.patch_size != "auto"
    if chosen and any(
        length % each for length, each in zip(patches.patch_size, divisor, strict=True)
    ):
        fix = f"set patches.patch_size to multiples of {list(divisor)}"
        findings.append(Finding("fail", where, f"patches of {list(patches.patch_size)}", fix))
    if chosen and not patches.pad_thin and experiment.data.source == "phantom":
        shape = case_shape(plan, None)
        if any(a > b for a, b in zip(patches.patch_size, shape, strict=True)):
            fix = f"set patches.patch_size to at most {list(shape)}"
            findings.append(Finding("fail", where, f"patches of {list(patches.patch_size)}", fix))
    sizes = [gpu.total_mb for gpu in here.gpus or () if gpu.total_mb is not None]
    if _on_gpu(plan, here) and step > min(sizes, default=math.inf):
        fix = "halve patches.batch_size and double training.accumulate"
        findings.append(Finding("fail", where, f"{_size(step)} for a step on the GPU", fix))
    if config.weights is not None:
        findings += _published(experiment, config, adapter.normalisation, where)
    return findings


def _published(
    experiment: Experiment, config: ModelConfig, normalisation: str | None, where: str
) -> list[Finding]:
    """What the published weights that a network starts from ask of intensities and data."""
    findings, used = [], experiment.preprocess.normalisation
    if normalisation not in (None, used):
        text = f"its published weights were trained on intensities by {normalisation}"
        fix = f"set preprocess.normalisation to {normalisation}"
        findings.append(Finding("look", where, f"{text}, these are by {used}", fix))
    seen = config.profile.trained_on if isinstance(config.profile, ModelProfile) else ()
    if experiment.data.source == "minivess" and "MiniVess" in seen:
        text = "its published weights have seen MiniVess: results are not those of unseen data"
        findings.append(Finding("look", where, text, "say so where you report them"))
    return findings


def _device(plan: Plan, here: Machine) -> list[Finding]:
    """GPUs that the config names; `auto` alone takes what there is."""
    compute = plan.experiment.compute
    kind, _, number = compute.device.partition(":")
    if kind == "cpu" or (kind == "auto" and compute.devices == 1) or here.gpus is None:
        return []
    needed = max(int(number or 0) + 1, compute.devices)
    if needed <= len(here.gpus):
        return []
    text = f"compute.device={compute.device} and compute.devices={compute.devices} need {needed}"
    fix = "set compute.device to cpu, or to auto with compute.devices=1"
    return [Finding("fail", "GPU", f"{text}; there are {len(here.gpus)}", fix)]


def _data(plan: Plan) -> list[Finding]:
    """Whether the files of the cases are there, and groups of cases for the folds."""
    experiment, findings = plan.experiment, []
    try:
        cases = list_cases(experiment, plan.root)
    except MinivessError as error:
        return [Finding("fail", "data", f"{error.what}: {error.where}", error.fix)]
    made = plan.root / "data"  # by the phantom or the unpacking
    missing = [p for p in volumes_of(cases) if made not in p.parents and not p.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        text = f"not there: {', '.join(map(str, missing[:3]))}{more}"
        fix = "correct their paths, or leave their cases out with data.exclude"
        findings.append(Finding("fail", "data", text, fix))
    folds = experiment.folds
    groups = len({c.group for c in cases} - {c.group for c in cases if c.locked})
    needed = folds.groups_needed(folds.n_folds)
    if folds.folds_file is None and groups < needed:
        text = f"{folds.n_folds} folds need {needed} groups of cases; there are {groups}"
        fix = ", or ".join([*folds.changes_for(groups), "add cases"])
        findings.append(Finding("fail", "folds", text, fix))
    return findings


def _warm_start(plan: Plan) -> list[Finding]:
    training = plan.experiment.training
    files = {warm_start_file(training, fold) for fold in range(plan.n_folds)} - {None}
    missing = sorted(str(file) for file in files if file is not None and not file.is_file())
    if not missing:
        return []
    fix = "correct training.warm_start, or leave it out"
    return [Finding("fail", "warm start", f"not there: {', '.join(missing)}", fix)]


def _spacing(plan: Plan) -> tuple[float, float, float]:
    experiment = plan.experiment
    if experiment.data.source == "phantom":
        return experiment.phantom.phantom_spacing_um
    return experiment.data.spacing_um or PLANNED_SPACING
