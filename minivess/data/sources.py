"""Which cases an experiment has and where their files lie, without reading a voxel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from minivess import paths
from minivess.data.locked import check_test_cases
from minivess.errors import MinivessError, closest

if TYPE_CHECKING:
    from minivess.config.schema import Experiment
    from minivess.data.volume import Unit
    from minivess.types import Spacing

type SpacingUnit = Literal["header", "um", "mm"]

CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CASE_NAME_RULE = "letters, digits, '.', '_' and '-', the first one a letter or digit"


@dataclass(frozen=True)
class SourceCase:
    """One volume and its label, as the source names them.

    Attributes:
        case: name, unique in the experiment.
        image, label: their files; those of a ZIP lie where they will be unpacked.
        group: cases of one group (animal, acquisition) never straddle a fold.
        spacing_um: spacing that the list of cases declares, else none.
        spacing_unit: unit of the spacing in the headers that its line of the list declares; header:
            the one that they name; none: what `data.spacing_unit` says.
        layout_unit: unit of headers of this layout that name none, or one that cannot be.
        locked: a test case, whose label is not to be read.
        origin: laboratory or data set that it is from, where the source says.
    """

    case: str
    image: Path
    label: Path
    group: str
    spacing_um: Spacing | None = None
    spacing_unit: SpacingUnit | None = None
    locked: bool = False
    origin: str | None = None
    layout_unit: Unit | None = None


# the cases, and names of files without partner that data.exclude may name as well
type Listing = tuple[list[SourceCase], list[str]]


def unusable(what: str, where: Path | str, found: str, expected: str, fix: str) -> MinivessError:
    """The error for a list or folder of cases that cannot be used (MV-DATA-013)."""
    return MinivessError(
        "MV-DATA-013", what=what, where=str(where), found=found, expected=expected, fix=fix
    )


def source_path(experiment: Experiment) -> Path:
    """The file or folder that `data.path` names.

    Raises:
        MinivessError: MV-CONFIG-004 no path configured, MV-DATA-001 nothing there.
    """
    data = experiment.data
    if data.path is None:
        raise MinivessError(
            "MV-CONFIG-004",
            what=f"the source {data.source!r} needs a path",
            where=f"experiment {experiment.name}",
            found="no path",
            expected="cases.csv, or the folder or ZIP of the data set",
            fix="set path beside source (data.path; of an external set external.NAME.path), or "
            "source: phantom for the embedded data set",
        )
    path = Path(data.path).expanduser()
    if not path.exists():
        raise MinivessError(
            "MV-DATA-001",
            what="the source of the cases is missing",
            where=str(path),
            found=f"nothing there, seen from {Path.cwd()}",
            expected="cases.csv, or the folder or ZIP of the data set",
            fix="correct the path; a relative one starts where the command is run",
        )
    return path


def _phantom_cases(experiment: Experiment, root: Path) -> Listing:
    folder = paths.phantom_folder(root)
    names = [f"phantom_{number:03d}" for number in range(1, experiment.phantom.n_cases + 1)]
    cases = [
        SourceCase(
            name,
            folder / "images" / f"{name}.nii.gz",
            folder / "labels" / f"{name}.nii.gz",
            group=name,
        )
        for name in names
    ]
    return cases, []


def _csv_cases(experiment: Experiment, root: Path) -> Listing:
    from minivess.data.case_list import read_case_list

    return read_case_list(source_path(experiment)), []


def _folder_cases(experiment: Experiment, root: Path) -> Listing:
    from minivess.data.case_folders import minivess_cases, nnunet_cases

    read = {"minivess": minivess_cases, "nnunet": nnunet_cases}[experiment.data.source]
    return read(source_path(experiment), root, experiment.data)


SOURCES: dict[str, Callable[[Experiment, Path], Listing]] = {
    "phantom": _phantom_cases,
    "csv": _csv_cases,
    "minivess": _folder_cases,
    "nnunet": _folder_cases,
}


def list_cases(experiment: Experiment, root: Path) -> list[SourceCase]:
    """The cases of an experiment, sorted by name, without those of `data.exclude`.

    Files are named, not opened: missing or damaged ones are found when the manifest is built.
    Those of `folds.test_cases` are locked.

    Args:
        experiment: its `data` and `phantom` sections and `folds.test_cases` count.
        root: results folder of the experiment, for the phantom and unpacked files.

    Raises:
        MinivessError: MV-CONFIG-004 no path or an unknown name in data.exclude, MV-DATA-001 the
            source is missing, MV-DATA-002 it is not a ZIP, MV-DATA-011 duplicate case names,
            MV-DATA-013 any other problem of the list, all problems of all rows in one error,
            MV-FOLDS-003 a test case that is none of the cases.
    """
    cases, alone = SOURCES[experiment.data.source](experiment, root)
    excluded = set(experiment.data.exclude)
    check_exclude(experiment, {*(case.case for case in cases), *alone})
    kept = sorted((c for c in cases if c.case not in excluded), key=lambda case: case.case)
    if not kept:
        raise unusable(
            "no case is left",
            experiment.data.path or experiment.name,
            f"{len(cases)} cases, all of them excluded" if cases else "no cases",
            "at least one volume with its label",
            "shorten data.exclude" if cases else "add cases to the source",
        )
    locked = experiment.folds.test_cases
    check_test_cases(locked, [case.case for case in kept])
    return [replace(case, locked=case.case in locked) for case in kept]


def check_exclude(experiment: Experiment, known: set[str]) -> None:
    """Raise MV-CONFIG-004 where `data.exclude` names a case that is not known."""
    unknown = sorted(set(experiment.data.exclude) - known)
    if unknown:
        guesses = "; ".join(f"{name}: did you mean {closest(name, known)}?" for name in unknown)
        raise MinivessError(
            "MV-CONFIG-004",
            what="data.exclude names cases that do not exist",
            where=f"experiment {experiment.name}, data.exclude",
            found=", ".join(unknown),
            expected=f"names among the {len(known)} cases of the source",
            fix=guesses if known else "remove them from data.exclude",
        )


def source_files(experiment: Experiment, root: Path) -> list[Path]:
    """The user's own input files that exist: what Snakemake watches for changes, sorted.

    Missing ones are left out here, so that validation can report all of them together. Labels of
    locked cases are not among them: what lies there is nobody's business yet.

    Raises:
        MinivessError: as `list_cases`.
    """
    from minivess.data.volume import data_files

    if experiment.data.source == "phantom":
        return []
    path = source_path(experiment)
    cases = list_cases(experiment, root)
    if path.is_file() and experiment.data.source == "minivess":
        return [path]
    lists = [path if path.is_file() else path / "dataset.json"]
    files = {file for volume in volumes_of(cases) for file in data_files(volume)}
    return sorted(file for file in (*lists, *files) if file.is_file())


def made_files(experiment: Experiment, root: Path) -> list[Path]:
    """Volumes that the phantom or the unpacking makes, rather than the user.

    Args:
        experiment: with the sections data and phantom.
        root: results folder of the experiment.

    Raises:
        MinivessError: as `list_cases`.
    """
    files = volumes_of(list_cases(experiment, root))
    return [path for path in files if root / "data" in path.parents]


def volumes_of(cases: Iterable[SourceCase]) -> list[Path]:
    """Images and labels of cases, but no label of a locked one."""
    return [
        path
        for case in cases
        for path in ((case.image,) if case.locked else (case.image, case.label))
    ]
