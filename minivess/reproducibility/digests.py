"""SHA256SUMS: the digest of every declared output of an experiment, in the order of the DAG."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from minivess import output, paths, provenance
from minivess.config.ensembles import EnsemblesConfig
from minivess.config.load import load_step
from minivess.config.training import TrainingConfig
from minivess.data.folds import read_folds
from minivess.data.preprocess import CASE, FOREGROUND, IMAGE, LABEL
from minivess.data.sources import made_files as made_volumes
from minivess.errors import MinivessError
from minivess.figures import FIGURES
from minivess.losses import needs_of
from minivess.losses.needs import SKELETON
from minivess.reproducibility.records import made_files
from minivess.types import RunKey

PREPARED = (IMAGE, LABEL, FOREGROUND, CASE)
SUFFIXES = ("svg", "pdf", "png", "json")
MEASURED = ("runs", "params", "metrics", "cases", "history", "ensembles")
TABLES = (*MEASURED, "summary", "comparison", "ranks", "power", "mixed_model", "seeds")

UNCERTAINTY = ("calibration", "reliability", "conformal")

SHOWN = 20
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def declared_files(
    root: Path,
    made: Iterable[Path],
    runs: Sequence[RunKey],
    held_out: Callable[[int], Iterable[str]],
    ensembles: EnsemblesConfig,
    training: TrainingConfig | None = None,
) -> list[Path]:
    """Every file that the rules of the DAG declare, but logs, benchmarks and the report.

    The volumes of ensembles are not among them, but their digests are, in ensembles.json.

    A file comes after all that it is made from.

    Args:
        root: results folder of the experiment.
        made: volumes that the DAG itself makes.
        runs: every run.
        held_out: held-out cases of a fold.
        ensembles: which of them are made.
        training: which weights they keep; none: the best alone.
    """
    files = [*made, paths.manifest(root), paths.validation_table(root)]
    files += [paths.validation_page(root), paths.validation_accepted(root)]
    cases = sorted({case for run in runs for case in held_out(run.fold)})
    files += [paths.preprocessed_case(root, case) / name for case in cases for name in PREPARED]
    if any(SKELETON in needs_of(run.loss) for run in runs):
        files += [paths.label_skeleton(root, case) for case in cases]
        files.append(paths.skeletons_record(root))
    files += [paths.folds(root), paths.baseline(root)]
    folders = {run: paths.run_folder(root, run) for run in runs}
    for folder in folders.values():
        files += [paths.weights(folder), paths.history(folder), paths.run_record(folder)]
        if training is not None:
            files += [paths.best_weights(folder, name) for name in training.other_metrics()]
            files += [paths.averages(folder)] * training.keeps_weights()
    for run, folder in folders.items():
        for case in held_out(run.fold):
            files += [paths.probability(folder, case), paths.prediction(folder, case)]
            files.append(paths.case_metrics(folder, case))
    for folder in ensemble_folders(root, runs) if ensembles.kinds else {}:
        files += [paths.ensembles_record(folder), paths.ensembles_metrics(folder)]
    for folder in folders.values():
        files += [paths.calibrators(folder)]
        files += [paths.run_table(folder, name) for name in UNCERTAINTY]
    files += [paths.table(root, name) for name in (*UNCERTAINTY, "coverage")]
    files += [paths.tracked(root), *(paths.table(root, name) for name in TABLES)]
    files += [paths.summary(root), paths.summary_text(root)]
    files += [paths.table(root, "champions"), paths.champions(root)]
    return files + [paths.figure(root, name, end) for name in FIGURES for end in SUFFIXES]


def ensemble_folders(root: Path, runs: Sequence[RunKey]) -> dict[Path, list[RunKey]]:
    """Folder of the ensembles of each network, loss and fold, with the runs of its seeds."""
    folders: dict[Path, list[RunKey]] = {}
    for run in runs:
        folder = paths.ensembles(root, run.model, run.loss, run.fold)
        folders.setdefault(folder, []).append(run)
    return folders


def ensemble_volumes(
    root: Path,
    runs: Sequence[RunKey],
    held_out: Callable[[int], Iterable[str]],
    ensembles: EnsemblesConfig,
) -> list[Path]:
    """Every volume of every ensemble: probability, mask and maps of the held-out cases."""
    files = []
    for folder, members in ensemble_folders(root, runs).items():
        for kind, seed in ensembles.made([run.seed for run in members]):
            own = paths.ensemble(folder, kind, seed)
            for case in held_out(members[0].fold):
                files += [paths.probability(own, case), paths.prediction(own, case)]
                files += [paths.uncertainty(own, case, name) for name in ensembles.maps(kind)]
    return files


def experiment_files(root: Path) -> list[Path]:
    """`declared_files` and `ensemble_volumes` of an experiment whose folds are made.

    Raises:
        MinivessError: MV-STATE-002 it has not run so far.
    """
    config = load_step(paths.step_config(root, "experiment"))
    folds = read_folds(paths.folds(root)).folds
    runs = config.runs(len(folds))

    def held_out(fold: int) -> tuple[str, ...]:
        return folds[fold].validation

    declared = declared_files(
        root,
        made_volumes(config, root),
        runs,
        held_out,
        config.ensembles,
        config.training,
    )
    volumes = ensemble_volumes(root, runs, held_out, config.ensembles)
    # After what all of them are made from, before what is said of them.
    place = declared.index(paths.tracked(root))
    return [*declared[:place], *volumes, *declared[place:]]


def write_digests(root: Path) -> tuple[dict[str, str], int]:
    """Write SHA256SUMS, which `sha256sum -c` reads in the results folder.

    Returns:
        What it says, and how many of the files no job has recorded (results of an earlier version).

    Raises:
        MinivessError: MV-STATE-002 a file is missing, MV-STATE-003 a record is damaged,
            MV-STATE-005 a file is not what its job made, MV-SYSTEM-... from writing.
    """
    digests = {}
    for path in experiment_files(root):
        if not path.is_file():
            raise MinivessError(
                "MV-STATE-002",
                what="a result is missing",
                where=str(path),
                fix="run the experiment again; it makes what is missing",
            )
        digests[path.relative_to(root).as_posix()] = provenance.file_sha256(path)
    made = made_files(root)
    changed = [name for name in digests if name in made and digests[name] != made[name].digest]
    if changed:
        raise _changed(root, [f"{name}, made by {made[name].rule}" for name in changed])
    output.write_text(as_text(digests), paths.digests(root))
    return digests, len(digests.keys() - made.keys())


def _changed(root: Path, lines: list[str]) -> MinivessError:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return MinivessError(
        "MV-STATE-005",
        what="a result was changed after its step had made it",
        where=f"{root / lines[0].split(',')[0]}, the first one of the DAG",
        found="\n  ".join([f"{len(lines)} changed:", *lines[:SHOWN], *more]),
        expected="the digests that the jobs recorded",
        fix="remove the changed ones and run the experiment again; it makes them anew",
    )


def as_text(digests: dict[str, str]) -> str:
    """Digests as lines of `sha256sum`.

    >>> as_text({"a.json": "0" * 64})[60:]
    '0000  a.json\\n'
    """
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def read_digests(path: Path) -> dict[str, str]:
    """Digests by file name, in the order of the file.

    Raises:
        MinivessError: MV-STATE-002 there is none, MV-STATE-003 not lines of `sha256sum`.
    """
    if not path.is_file():
        raise MinivessError(
            "MV-STATE-002",
            what="there are no digests",
            where=str(path),
            fix="run the experiment to its end first",
        )
    digests = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise MinivessError(
                "MV-STATE-003",
                what="the digests cannot be read",
                where=f"{path}, line {number}",
                found=line[:100],
                expected="a SHA-256, two spaces and a file name",
                fix=f"remove {path} and run the experiment again",
            )
        digests[match[2]] = match[1]
    return digests
