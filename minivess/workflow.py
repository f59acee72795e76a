"""What the Snakefile asks: the experiment, its files, the code each rule depends on."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from minivess import output, paths
from minivess.config.ensembles import check_ensembles
from minivess.config.load import resolve, write_step_files
from minivess.config.plan import AnalysisPlan
from minivess.config.schema import Experiment
from minivess.data.folds import Fold, read_folds, read_folds_file
from minivess.data.sources import list_cases, made_files, source_files
from minivess.errors import MinivessError, nearest
from minivess.steps.evaluated import case_set
from minivess.tracking.address import sqlite_path, tracking_uri
from minivess.training.distributed import check_shares
from minivess.training.selection import check_selection, check_training
from minivess.types import RunKey


@dataclass(frozen=True)
class Plan:
    """An experiment as the DAG sees it."""

    experiment: Experiment
    root: Path
    cases: tuple[str, ...]
    source_files: tuple[Path, ...]  # the user's own
    made_files: tuple[Path, ...]  # volumes that the phantom or the unpacking makes
    n_folds: int
    external: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)  # files of each set

    def runs(self) -> list[RunKey]:
        """Every run of the experiment."""
        return self.experiment.runs(self.n_folds)

    def unlocked(self) -> tuple[str, ...]:
        """Cases whose labels may be read."""
        locked = self.experiment.folds.test_cases
        return tuple(case for case in self.cases if case not in locked)

    def fold(self, number: int) -> Fold:
        """A fold; the folds must have been made.

        One that their file does not have is empty: they were made for another number of folds, and
        Snakemake asks before it makes them again.
        """
        folds = read_folds(paths.folds(self.root)).folds
        return folds[number] if number < len(folds) else Fold((), (), ())

    def validated(self, fold: int) -> tuple[str, ...]:
        """Held-out cases of a fold; see `fold`."""
        return self.fold(fold).validation


def resolve_checked(config: Mapping[str, Any], base: Path) -> Experiment:
    """The experiment that Snakemake's config names, with overrides; every name in it exists.

    Args:
        config: `experiment` and overrides.
        base: the project's folder.

    Raises:
        MinivessError: MV-CONFIG-... whatever is wrong with the config, MV-TRACK-002 a kind of
            tracking store that is not supported.
    """
    name = config["experiment"]
    if not isinstance(name, str):
        raise MinivessError(
            "MV-CONFIG-002",
            what="the name of an experiment that looks like a number is one to Snakemake",
            where="--config experiment=...",
            found=repr(name),
            fix="name the file: --config experiment=configs/experiment/NAME.yaml",
        )
    overrides = {key: value for key, value in config.items() if key != "experiment"}
    experiment = resolve(name, overrides, base / "configs" / "experiment")
    check_uses(experiment)
    tracking_uri()
    return experiment


def plan_experiment(
    config: Mapping[str, Any], base: Path, dry_run: bool = False, main: bool = True
) -> Plan:
    """Resolve the experiment, lock it, list its files and write the config of each step.

    Args:
        config: Snakemake's config: `experiment` and overrides.
        base: the project's folder.
        dry_run: hold no lock and write nothing but its file.
        main: not the process of one job on a cluster, which the main process has started, and
            which has locked the experiment and written the steps' config.

    Raises:
        MinivessError: whatever is wrong with config, source or results folder; MV-STATE-004
            another process runs the experiment.
    """
    experiment = resolve_checked(config, base)
    root = paths.experiment_folder(experiment.name)
    if main and os.environ.get(LOCK_VARIABLE) != str(root.resolve()):
        # Not the report, which Snakemake makes from inside the run that holds the lock.
        held = root.resolve() in _HELD
        hold_lock(root)
        if dry_run and not held:
            _HELD.pop(root.resolve()).close()
    if main and not dry_run:
        write_step_files(experiment, root / "config")
        forget_missing_store(root)
        forget_incomplete_ensembles(root)
    if paths.folds(root).exists():
        read_folds(
            paths.folds(root)
        )  # damaged, it would be Snakemake's error in the middle of a plan
    cases = list_cases(experiment, root)
    own = source_files(experiment, root)
    folds_file = experiment.folds.folds_file
    return Plan(
        experiment,
        root,
        tuple(case.case for case in cases),
        tuple(own),
        tuple(made_files(experiment, root)),
        len(read_folds_file(Path(folds_file))) if folds_file else experiment.folds.n_folds,
        {name: external_files(experiment, root, name) for name in experiment.external},
    )


def lend_step_files(plan: Plan) -> None:
    """Write the config of each step for a dry run, and put back what was there when it ends.

    What would be made anew follows from these files, which other commands take for what the
    results were made with. The experiment is locked for so long.

    Raises:
        MinivessError: MV-STATE-004 another process runs the experiment.
    """
    hold_lock(plan.root)
    folder = plan.root / "config"
    before = {path: (path.read_bytes(), path.stat()) for path in folder.glob("*.yaml")}
    # Snakemake answers them only once it runs jobs; by default they end a process at once.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)
    atexit.register(_put_back, folder, before)
    write_step_files(plan.experiment, folder)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _put_back(folder: Path, before: Mapping[Path, tuple[bytes, os.stat_result]]) -> None:
    for path in set(folder.glob("*.yaml")) - before.keys():
        path.unlink(missing_ok=True)
    for path, (content, times) in before.items():
        if not path.exists() or path.read_bytes() != content:
            with output.replacing(path) as temporary:
                temporary.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def external_files(experiment: Experiment, root: Path, name: str) -> tuple[Path, ...]:
    """The user's own files of an external set.

    Raises:
        MinivessError: as `list_cases`.
    """
    folder = paths.external_folder(root, name)
    cases = case_set(name, folder, experiment, experiment.external[name])
    return tuple(source_files(cases.experiment, folder))


def check_uses(experiment: Experiment) -> None:
    """Raise for what no step could do, before anything runs.

    Raises:
        MinivessError: MV-CONFIG-003 a loss, architecture, metric or arm that does not exist,
            MV-CONFIG-004 batches that the devices cannot share, ensembles without members, what
            needs selection cases without any, or a training or analysis that contradicts itself.
    """
    from minivess.losses import LOSSES, own
    from minivess.metrics import METRICS
    from minivess.models import ADAPTERS

    check_shares(experiment.patches, experiment.compute.devices)
    check_ensembles(experiment)
    for name in filter(own.is_own, experiment.losses):
        own.check_named(name)
    registered = [name for name in experiment.losses if not own.is_own(name)]
    wanted = [("loss", name, list(LOSSES)) for name in registered]
    models = experiment.models.values()
    wanted += [("architecture", model.architecture, list(ADAPTERS)) for model in models]
    metrics = (*experiment.statistics.plan.metrics, *experiment.training.measured())
    wanted += [("metric", name, list(METRICS)) for name in metrics]
    against = experiment.statistics.plan.against
    arms = ["/".join(arm) for arm in (*experiment.arms(), *experiment.ensemble_arms())]
    wanted += [] if against is None else [("arm", against, arms)]
    for kind, name, known in wanted:
        if name not in known:
            raise MinivessError(
                "MV-CONFIG-003",
                what=f"there is no {kind} {name}",
                where=f"experiment {experiment.name}",
                fix=nearest(name, known),
            )
    _check_directions(experiment.statistics.plan)
    check_training(experiment)
    check_selection(experiment)
    for name, model in experiment.models.items():
        ADAPTERS[model.architecture].check(model, f"models.{name}")


def _check_directions(plan: AnalysisPlan) -> None:
    from minivess.metrics import METRICS

    aimless = [name for name in plan.metrics if METRICS[name].better == "neither"]
    if plan.alternative == "better" and aimless:
        raise MinivessError(
            "MV-CONFIG-004",
            what="the analysis looks for better arms in metrics without a better direction",
            where=f"analysis file {plan.name}",
            found=", ".join(aimless),
            fix="take them out, or set alternative: two_sided",
        )


def forget_missing_store(root: Path) -> None:
    """Remove tracked.json where the SQLite store is gone: it is no longer true."""
    database = sqlite_path(tracking_uri())
    if database is not None and not database.exists():
        paths.tracked(root).unlink(missing_ok=True)


def forget_incomplete_ensembles(root: Path) -> None:
    """Remove the record of ensembles of which a volume is gone: they are made again.

    Which volumes there are depends on the folds, so no rule can declare them.
    """
    for path in sorted(root.glob("ensembles/*/*/*/ensembles.json")):
        if not _is_complete(path):
            path.unlink()


def _is_complete(record: Path) -> bool:
    try:
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
        return all((record.parent / name).is_file() for name in files)
    except (ValueError, KeyError, TypeError):  # somebody changed it
        return False


def gpu_count(folder: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """NVIDIA GPUs of the machine, without importing torch."""
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def job_threads(experiment: Experiment, cores: int | None, processes: int = 1) -> int:
    """Cores that one training or prediction reserves: all, where it has the GPU to itself.

    How many it computes with is `compute.threads` alone: that number decides the bytes.

    Args:
        experiment: its section `compute` counts.
        cores: of this machine; None where another one computes, on which nothing but what is asked
            for is there.
        processes: that compute side by side.
    """
    compute = experiment.compute
    if cores is None:
        return processes * (compute.threads + compute.workers_on(compute.device != "cpu"))
    if compute.device != "cpu" and gpu_count() > 0:
        return cores
    return processes * compute.threads


# What processes get after SIGTERM, in seconds, before SIGKILL.
GRACE_S = 20.0
LOCK_VARIABLE = "MINIVESS_LOCKED"
_HELD: dict[Path, IO[str]] = {}


def hold_lock(root: Path) -> None:
    """Lock the experiment for this process, once; the lock ends with it, however it ends.

    Raises:
        MinivessError: MV-STATE-004 another process runs this experiment, MV-SYSTEM-001 or -002 the
            lock cannot be written.
    """
    path = root / ".lock"
    if root.resolve() in _HELD:
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
        _take(handle, root)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
    except OSError as error:
        raise output.os_error(error, path) from error
    _HELD[root.resolve()] = handle


def _take(handle: IO[str], root: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.seek(0)
        found = f"process {handle.read().strip() or 'unknown'} holds {root / '.lock'}"
        handle.close()
        raise MinivessError(
            "MV-STATE-004",
            what="this experiment is being run by another process",
            where=str(root),
            found=found,
            fix="wait for it, or stop it",
        ) from error


def answer_sigterm() -> None:
    """Let a thread of its own answer SIGTERM as the handler that is installed now does.

    Snakemake's takes a lock that the code it interrupts, in the same thread, may hold already:
    then it would wait for ever.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler):
        return

    def answer(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=handler, args=(number, frame), daemon=True).start()

    signal.signal(signal.SIGTERM, answer)


CALLER_VARIABLE = "MINIVESS_CALLER"


def end_with_caller() -> None:
    """End this process and its jobs when the process that started it is gone, however it ended.

    The caller holds the other end of a pipe, whose number is in MINIVESS_CALLER; without that
    variable this does nothing.
    """
    number = os.environ.pop(CALLER_VARIABLE, None)  # our jobs have another caller: us
    if number is not None and os.getpgid(0) == os.getpid():
        threading.Thread(target=_end_after, args=(int(number),), daemon=True).start()


def _end_after(pipe: int) -> None:
    os.read(pipe, 1)  # returns when no process holds the other end
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


def release_locks() -> None:
    """Give up the locks of this process."""
    while _HELD:
        _HELD.popitem()[1].close()
