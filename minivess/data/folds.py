"""Cross-validation folds: grouped, stratified, seeded, made once before any training.

Each fold has three disjoint lists: `train`, `selection` (a part of the training side that only
chooses the checkpoint; empty with a selection_fraction of 0) and `validation` (what results are
reported on, seen by no decision).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from minivess import output
from minivess.config.schema import FoldsConfig
from minivess.data.locked import check_test_cases
from minivess.errors import MinivessError
from minivess.seeding import generator

DIGESTED = ("case", "group", "spacing_um", "vessel_fraction", "image_sha256", "label_sha256")


@dataclass(frozen=True)
class Fold:
    """Names of the cases of one fold."""

    train: tuple[str, ...]
    selection: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Folds:
    """All folds, the locked test cases, and the digest of the manifest they were made from."""

    folds: tuple[Fold, ...]
    test: tuple[str, ...]
    manifest_digest: str


@dataclass(frozen=True)
class _Group:
    name: str
    cases: tuple[str, ...]
    stratum: tuple[float, float]


def manifest_digest(manifest: pl.DataFrame) -> str:
    """SHA-256 over `DIGESTED`: what folds are made from, and the files behind it."""
    columns = manifest.select(*DIGESTED).sort("case")
    return hashlib.sha256(json.dumps(columns.rows()).encode()).hexdigest()


def _groups(manifest: pl.DataFrame) -> list[_Group]:
    """Groups in the order of their stratum: volume of a voxel, then vessel fraction."""
    members: dict[str, list[dict[str, object]]] = {}
    for row in manifest.sort("case").iter_rows(named=True):
        members.setdefault(row["group"], []).append(row)
    groups = []
    for name, rows in members.items():
        voxel = float(np.mean([np.prod(np.asarray(row["spacing_um"], float)) for row in rows]))
        fraction = float(np.mean([float(str(row["vessel_fraction"])) for row in rows]))
        stratum = (round(math.log2(voxel), 1), fraction)
        groups.append(_Group(name, tuple(str(row["case"]) for row in rows), stratum))
    return sorted(groups, key=lambda group: (group.stratum, group.name))


def _assign(groups: list[_Group], n_folds: int, rng: np.random.Generator) -> list[list[_Group]]:
    """Block randomisation: of each n_folds neighbours in the order of strata, one to each fold."""
    folds: list[list[_Group]] = [[] for _ in range(n_folds)]
    sizes = [0] * n_folds
    for start in range(0, len(groups), n_folds):
        block = sorted(groups[start : start + n_folds], key=lambda group: -len(group.cases))
        ties = rng.permutation(n_folds)
        order = sorted(range(n_folds), key=lambda fold: (sizes[fold], ties[fold]))
        for group, fold in zip(block, order, strict=False):
            folds[fold].append(group)
            sizes[fold] += len(group.cases)
    return folds


def _split_selection(
    training: list[_Group], fraction: float, rng: np.random.Generator
) -> tuple[list[_Group], list[_Group]]:
    """Every k-th group in the order of strata, from a random start, selects the checkpoint.

    Of a fraction of 0 none does.
    """
    if fraction == 0:
        return training, []
    wanted = min(max(1, round(fraction * len(training))), len(training) - 1)
    positions = (np.arange(wanted) + rng.random()) * len(training) / wanted
    chosen = {int(position) for position in positions}
    return (
        [group for index, group in enumerate(training) if index not in chosen],
        [group for index, group in enumerate(training) if index in chosen],
    )


def _names(groups: list[_Group]) -> tuple[str, ...]:
    return tuple(sorted(case for group in groups for case in group.cases))


def make_folds(manifest: pl.DataFrame, config: FoldsConfig) -> Folds:
    """Folds of the manifest's cases, from scratch or from `config.folds_file`.

    Args:
        manifest: case, group, spacing_um, vessel_fraction and digests of every case; of test cases
            nothing of the label is needed.
        config: number of folds, seed, part for selection, test cases, file.

    Raises:
        MinivessError: MV-FOLDS-001 a group on both sides, -002 too few groups, -003 a file or test
            case that does not fit the manifest.

    Source: block randomisation within strata (Efron 1971 describes the family).
    """
    check_test_cases(config.test_cases, manifest["case"])
    _check_locked(manifest, config.test_cases)
    # Nothing is known of the labels of locked cases, and nothing of them decides a fold.
    free = _groups(manifest.filter(~pl.col("case").is_in(config.test_cases)))
    if config.folds_file is None:
        held_out = _assign_checked(free, config)
        sides = [([group for group in free if group not in fold], fold) for fold in held_out]
    else:
        sides = _from_file(Path(config.folds_file), free)
    folds = []
    for index, (training, validation) in enumerate(sides):
        if len(training) < _parts(config):
            if config.folds_file is not None:
                raise _too_few_in_file(index, [len(others) for others, _ in sides], config)
            raise _too_few(len(free), len(sides), config)
        rng = generator(config.folds_seed, "selection", index)
        train, selection = _split_selection(training, config.selection_fraction, rng)
        folds.append(Fold(_names(train), _names(selection), _names(validation)))
    result = Folds(tuple(folds), tuple(sorted(config.test_cases)), manifest_digest(manifest))
    check_folds(result, dict(manifest.select("case", "group").rows()))
    return result


def _parts(config: FoldsConfig) -> int:
    """Into how many parts the training side of a fold is divided."""
    return 2 if config.selection_fraction else 1


def _too_few(found: int, n_folds: int, config: FoldsConfig) -> MinivessError:
    others = "two others to train and select on" if config.selection_fraction else "one to train on"
    return MinivessError(
        "MV-FOLDS-002",
        what=f"{found} group(s) are too few for {n_folds} folds",
        where="folds",
        found=f"{found} groups of cases",
        expected=f"at least {config.groups_needed(n_folds)}: in every fold {others}",
        fix=", or ".join([*config.changes_for(found), "add cases"]),
    )


def _too_few_in_file(index: int, n_training: list[int], config: FoldsConfig) -> MinivessError:
    """For a folds file, which itself says how many folds there are and who trains in each."""
    selects = config.selection_fraction > 0
    enough = ["set folds.selection_fraction: 0"] if selects and min(n_training) > 0 else []
    return MinivessError(
        "MV-FOLDS-002",
        what=f"fold {index} of the folds file has too few groups in train",
        where=f"{config.folds_file}, fold {index}",
        found=f"{n_training[index]} group(s) of cases in train",
        expected="at least 2: one to train and one to select on" if selects else "at least 1",
        fix=", or ".join([*enough, "list cases of more groups in train of that fold"]),
    )


def _assign_checked(groups: list[_Group], config: FoldsConfig) -> list[list[_Group]]:
    if len(groups) < max(config.n_folds, 1 + _parts(config)):
        raise _too_few(len(groups), config.n_folds, config)
    return _assign(groups, config.n_folds, generator(config.folds_seed, "folds"))


def _check_locked(manifest: pl.DataFrame, test_cases: tuple[str, ...]) -> None:
    by_group = manifest.group_by("group", maintain_order=True).agg("case")
    members = {str(name): tuple(map(str, cases)) for name, cases in by_group.iter_rows()}
    touched = {name: own for name, own in members.items() if set(own) & set(test_cases)}
    _check_whole(touched, test_cases, "folds.test_cases")


def _check_whole(groups: Mapping[str, tuple[str, ...]], cases: tuple[str, ...], where: str) -> None:
    for name, members in groups.items():
        outside = sorted(set(members) - set(cases))
        if outside:
            raise MinivessError(
                "MV-FOLDS-001",
                what=f"the group {name} is on both sides of a split",
                where=where,
                found=f"{', '.join(sorted(set(members) & set(cases)))} on one side, "
                f"{', '.join(outside)} on the other",
                expected="all cases of a group on the same side",
                fix="move the group's cases together, or correct the group column",
            )


def read_folds_file(path: Path) -> list[tuple[list[str], list[str]]]:
    """Training and validation cases of each fold of a file (`validation` or `val`).

    Raises:
        MinivessError: MV-FOLDS-003 missing, not JSON, or not of that form.
    """
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))["folds"]
        return [
            (
                [str(case) for case in fold["train"]],
                [str(case) for case in fold.get("validation", fold.get("val"))],
            )
            for fold in folds
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MinivessError(
            "MV-FOLDS-003",
            what="the folds file cannot be used",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            expected='{"folds": [{"train": [names], "validation": [names]}, ...]}',
            fix="correct the file, or leave folds_file out to have folds made",
        ) from error


def _from_file(path: Path, groups: list[_Group]) -> list[tuple[list[_Group], list[_Group]]]:
    lists = read_folds_file(path)
    known = {case for group in groups for case in group.cases}
    validated = [case for _, fold in lists for case in fold]
    listed = {case for train, _ in lists for case in train} | set(validated)
    problems = {
        "in the file, not in the manifest or locked away as test cases": sorted(listed - known),
        "in the manifest, never validated in the file": sorted(known - set(validated)),
        "validated in two folds": sorted({c for c in validated if validated.count(c) > 1}),
    }
    found = "; ".join(f"{text}: {', '.join(names)}" for text, names in problems.items() if names)
    if found:
        raise MinivessError(
            "MV-FOLDS-003",
            what="the folds file does not fit the cases",
            where=str(path),
            found=found,
            expected="each case of the manifest in the validation list of exactly one fold",
            fix="use the file with its own data set, or leave folds_file out to have folds made",
        )
    folds = []
    for index, (train, validation) in enumerate(lists):
        sides = []
        for side in (train, validation):
            side_groups = [group for group in groups if set(group.cases) & set(side)]
            members = {group.name: group.cases for group in side_groups}
            _check_whole(members, tuple(side), f"{path}, fold {index}")
            sides.append(side_groups)
        folds.append((sides[0], sides[1]))
    return folds


def check_folds(folds: Folds, group_of: dict[str, str]) -> None:
    """Raise MV-FOLDS-001 if a group is in two of a fold's lists or in the test set as well."""
    for index, fold in enumerate(folds.folds):
        lists = {
            "train": fold.train,
            "selection": fold.selection,
            "validation": fold.validation,
            "test": folds.test,
        }
        seen: dict[str, str] = {}
        for name, cases in lists.items():
            for group in {group_of[case] for case in cases}:
                if group in seen:
                    raise MinivessError(
                        "MV-FOLDS-001",
                        what=f"the group {group} is in both {seen[group]} and {name}",
                        where=f"fold {index}",
                        expected="each group in one of them",
                        fix="make the folds again, or correct the group column",
                    )
                seen[group] = name


def write_folds(folds: Folds, path: Path) -> None:
    """Write folds as JSON; see `output.replacing` for errors."""
    output.write_json(
        {
            "manifest_digest": folds.manifest_digest,
            "test": folds.test,
            "folds": [
                {"train": fold.train, "selection": fold.selection, "validation": fold.validation}
                for fold in folds.folds
            ],
        },
        path,
    )


def read_folds(path: Path) -> Folds:
    """Read what `write_folds` wrote.

    Raises:
        MinivessError: MV-STATE-002 where the file is missing, MV-STATE-003 where it is damaged.
    """
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what="the folds have not been made",
            where=str(path),
            fix="run minivess data folds, or the whole experiment",
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        folds = tuple(
            Fold(tuple(fold["train"]), tuple(fold["selection"]), tuple(fold["validation"]))
            for fold in values["folds"]
        )
        return Folds(folds, tuple(values["test"]), values["manifest_digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise output.damaged(path, f"{type(error).__name__}: {error}") from error
