"""The data steps: phantom, unpack, manifest, validate, accept, preprocess, folds, skeletons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths
from minivess.config.load import load_step
from minivess.errors import MinivessError, nearest
from minivess.logs import say

if TYPE_CHECKING:
    import polars as pl


# A fold that trains on no more cases than these gains most from those that select.
FEW_CASES = 2


def phantom(root: Path) -> None:
    """Write the synthetic volumes and their cases.csv."""
    from minivess.data.phantom import write_phantom

    config = load_step(paths.step_config(root, "phantom"))
    locked = config.folds.test_cases
    names = write_phantom(config.phantom, paths.phantom_folder(root), locked)
    say(f"made {len(names)} phantom volumes of {config.phantom.phantom_shape} voxels")


def unpack(root: Path) -> None:
    """Unpack the volumes of a ZIP source."""
    from minivess.data.unpack import unpack_source

    files = unpack_source(load_step(paths.step_config(root, "manifest")), root)
    say(f"unpacked {len(files)} files")


def manifest(root: Path) -> None:
    """Write the manifest of all cases."""
    from minivess.data.manifest import build_manifest
    from minivess.data.sources import list_cases

    config = load_step(paths.step_config(root, "manifest"))
    cases = list_cases(config, root)
    say(f"reading {len(cases)} cases from the source {config.data.source}")
    output.write_parquet(build_manifest(cases, config.data), paths.manifest(root))


def validate_cases(root: Path) -> None:
    """Write the table and the page of all problems; errors are reported, not raised."""
    from minivess.data.manifest import read_manifest
    from minivess.data.validate import validate
    from minivess.data.validation_page import write_page

    config = load_step(paths.step_config(root, "validate"))
    table = read_manifest(paths.manifest(root))
    problems = validate(table, config)
    output.write_parquet(problems, paths.validation_table(root))
    write_page(table, problems, config, paths.validation_page(root))
    counts = {kind: problems["severity"].eq(kind).sum() for kind in ("error", "warning")}
    say(
        f"{table.height} cases: {counts['error']} errors, {counts['warning']} warnings; "
        f"pictures in {paths.validation_page(root)}"
    )
    for row in problems.filter(problems["severity"] == "warning").iter_rows(named=True):
        say(f"warning {row['code']} {row['case']}: {row['what']} ({row['found']})")


def accept_cases(root: Path) -> None:
    """Write accepted.json where validation found no error.

    Raises:
        MinivessError: MV-DATA-017 with every error found, MV-STATE-003 the table is damaged.
    """
    from minivess.data.validate import accept

    problems = output.read_parquet(paths.validation_table(root))
    accept(problems)
    output.write_json({"warnings": problems.height}, paths.validation_accepted(root))


def preprocess(root: Path, case: str) -> None:
    """Preprocess one case."""
    from minivess.data.preprocess import preprocess_case

    config = load_step(paths.step_config(root, "preprocess"))
    row = _row(root, case)
    preprocess_case(row, config.data, config.preprocess, paths.preprocessed_case(root, case))
    say(f"preprocessed {case}")


def _row(root: Path, case: str) -> dict[str, Any]:
    from minivess.data.manifest import read_manifest

    table: pl.DataFrame = read_manifest(paths.manifest(root))
    rows = table.filter(table["case"] == case).to_dicts()
    if not rows:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no case {case}",
            where=str(paths.manifest(root)),
            fix=nearest(case, table["case"]),
        )
    return rows[0]


def folds(root: Path) -> None:
    """Make the folds."""
    from minivess.data.folds import make_folds, write_folds
    from minivess.data.manifest import read_manifest

    config = load_step(paths.step_config(root, "folds")).folds
    made = make_folds(read_manifest(paths.manifest(root)), config)
    write_folds(made, paths.folds(root))
    for index, fold in enumerate(made.folds):
        selecting = len(fold.selection) or "none"
        say(
            f"fold {index}: {len(fold.train)} train, {selecting} select the checkpoint, "
            f"{len(fold.validation)} are held out"
        )
        if fold.selection and len(fold.train) <= FEW_CASES:
            say(
                "few to train on: with folds.selection_fraction=0 those that select would train too"
            )


def skeletons(root: Path) -> None:
    """Write the tubed skeletons of the labels of all cases but the locked ones, and their record.

    The record has the vessel components of each case, and those of which the skeleton left nothing.
    """
    from minivess.data.manifest import read_manifest
    from minivess.data.skeletons import write_label_skeleton

    table = read_manifest(paths.manifest(root))
    cases = table.filter(~table["locked"])["case"].to_list()
    record = {}
    for case in cases:
        erased, count = write_label_skeleton(paths.preprocessed_case(root, case))
        record[case] = {"components": count, "without_skeleton": erased}
        if erased:
            say(f"warning {case}: {erased} of {count} vessel components have no skeleton")
    output.write_json(record, paths.skeletons_record(root))
    say(f"tubed skeletons of {len(cases)} labels")
