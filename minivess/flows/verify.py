"""Verify an experiment: run it again from nothing, beside the first, and compare every byte."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from minivess import paths
from minivess.config.load import load_step, resolve
from minivess.config.schema import DataConfig, Experiment
from minivess.data.case_list import read_case_list
from minivess.errors import MinivessError
from minivess.flows import snakemake
from minivess.logs import say
from minivess.reproducibility.chain import chain_of
from minivess.reproducibility.check import check_configs
from minivess.reproducibility.compare import check_files, check_same, compare_digests
from minivess.reproducibility.digests import read_digests
from minivess.reproducibility.golden import GOLDEN, check_golden, machine_kind

# Not seen by the second run: what the first one made.
OWN = ("results", ".snakemake", "mlflow.db", "mlflow.db.lock", "mlruns")


def verify(name: str, cores: str) -> int:
    """Verify an experiment; run it first where it has not been. The exit status of its runs.

    Args:
        name: of the experiment.
        cores: number of cores or "all".

    Raises:
        MinivessError: MV-STATE-005 results changed after they were made, MV-STATE-006 other bytes.
    """
    root = paths.experiment_folder(name)
    if not paths.digests(root).is_file():
        status = snakemake.run(snakemake.request(name, [], cores, False))
        if status != 0:
            return status
    expected = read_digests(paths.digests(root))
    check_files(root, expected)
    check_configs(chain_of(paths.digests(root)))
    experiment = load_step(paths.step_config(root, "experiment"))
    folder = paths.RESULTS / ".verify" / name
    if any(folder.rglob(paths.digests(root).name)):
        shutil.rmtree(folder)  # of a verification that came to its end
    working = mirror(folder, Path.cwd(), levels_up(experiment))
    say(f"running {name} again in {working}")
    status = run_again(working, root, cores)
    if status != 0:
        return status
    found = working / paths.digests(root)
    comparison = compare_digests(expected, read_digests(found))
    check_same(root, working / root, comparison, "a second run on this machine")
    say(f"{comparison} files: two runs on this machine gave the same bytes")
    if is_committed(name, experiment):
        say(str(check_golden(root, GOLDEN / name, machine_kind())))
    shutil.rmtree(folder)
    return 0


def run_again(working: Path, root: Path, cores: str) -> int:
    """Run an experiment from its resolved config in another working folder, to its digests."""
    config = paths.step_config(root, "experiment").resolve()
    asked = snakemake.Request(
        str(config), root.name, {}, (paths.digests(root).as_posix(),), cores, False
    )
    # Its own store: a server must not see these runs.
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    return snakemake.run(asked, working, environment)


def is_committed(name: str, experiment: Experiment) -> bool:
    """Whether this is an experiment of the project, as it is, whose digests are committed."""
    if not (GOLDEN / name).is_dir():
        return False
    try:
        return resolve(name) == experiment
    except MinivessError:
        return False  # no experiment of the project


def levels_up(experiment: Experiment) -> int:
    """How many folders above the working folder the user's files are."""
    files = [experiment.folds.folds_file, experiment.training.warm_start]
    files += [model.weights for model in experiment.models.values()]
    for data in (experiment.data, *experiment.external.values()):
        files += [data.path, *_listed(data)]
    relative = [os.path.normpath(file) for file in files if file and not Path(file).is_absolute()]
    return max((Path(file).parts.count("..") for file in relative), default=0)


def _listed(data: DataConfig) -> list[str]:
    """The volumes that a list of cases names; their paths begin where the list lies."""
    if data.source != "csv" or data.path is None or not Path(data.path).is_file():
        return []
    cases = read_case_list(Path(data.path))
    return [str(path) for case in cases for path in (case.image, case.label)]


def mirror(folder: Path, original: Path, levels: int) -> Path:
    """A working folder where every relative path leads to the same file, but for the results.

    Args:
        folder: where to make it; what is there stays.
        original: the working folder to mirror, absolute.
        levels: how many folders above it must be reachable.
    """
    top = original.parents[levels - 1] if levels else original
    source = top
    for part in original.relative_to(top).parts:
        _link_entries(source, folder, {part})
        source, folder = source / part, folder / part
    _link_entries(source, folder, set(OWN))
    return folder


def _link_entries(source: Path, folder: Path, but: set[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        link = folder / entry.name
        if entry.name not in but and not link.is_symlink():
            link.symlink_to(entry)
