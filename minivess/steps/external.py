"""External sets: the champion on other data, and how far these are from the experiment's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths, provenance
from minivess.config.load import load_step
from minivess.config.schema import DataConfig
from minivess.logs import say
from minivess.steps.champion import read_champions
from minivess.steps.evaluated import (
    CaseSet,
    case_set,
    evaluate_arm,
    prepare_cases,
    result_lines,
    write_result,
)
from minivess.steps.runs import experiment_runs

if TYPE_CHECKING:
    import polars as pl

    from minivess.data.problem import Problem


def evaluate_external(root: Path, name: str) -> None:
    """Evaluate the balanced champion's arm on an external set; write tables and result.json.

    The mean probability of all its networks, of every fold and seed, is the result; their vote is
    measured beside it. Warnings of the set,
    among them a shared origin, are in its validation table and in result.json.

    Raises:
        MinivessError: MV-STATE-002 the experiment is not finished, MV-DATA-017 a case of the set
            has an error, for example is one of the experiment's own.
    """
    from minivess.data.leakage import leaks
    from minivess.data.manifest import read_manifest
    from minivess.data.problem import warning_texts

    experiment = load_step(paths.step_config(root, f"external-{name}"))
    folder = paths.external_folder(root, name)
    cases = case_set(name, folder, experiment, experiment.external[name])
    chosen = read_champions(root)["champions"]["balanced"]
    arm = (chosen["model"], chosen["loss"])
    runs = [run for run in experiment_runs(root) if (run.model, run.loss) == arm]
    own = read_manifest(paths.manifest(root))

    def shared(manifest: pl.DataFrame) -> Iterable[Problem]:
        return leaks(own, manifest)

    # What another list of cases has left would not be told from what is made now.
    if folder.exists():
        shutil.rmtree(folder)
    manifest = prepare_cases(cases, shared)
    write_shift(cases, own, _own_data(root), manifest)
    table = evaluate_arm(cases, manifest["case"].to_list(), root, runs, "external")
    weights = {
        str(run): provenance.file_sha256(paths.weights(paths.run_folder(root, run))) for run in runs
    }
    facts: dict[str, Any] = {"model": arm[0], "loss": arm[1], "networks": weights}
    facts["warnings"] = warning_texts(paths.validation_table(folder))
    for line in result_lines(write_result(cases, table, facts)):
        say(line)


def _own_data(root: Path) -> DataConfig:
    return load_step(paths.step_config(root, "preprocess")).data


def write_shift(
    cases: CaseSet, own: pl.DataFrame, own_data: DataConfig, manifest: pl.DataFrame
) -> None:
    """Write the tables properties and shift of a set.

    Args:
        cases: the set.
        own: manifest of the experiment; its locked cases are left out.
        own_data: mapping of its label values.
        manifest: of the set.
    """
    import polars as pl

    from minivess.statistics import tables
    from minivess.statistics.shift import property_rows, shift_table

    free = own.filter(~pl.col("locked"))
    rows = property_rows("own", _properties(free, own_data))
    rows += property_rows(cases.name, _properties(manifest, cases.experiment.data))
    properties = tables.from_rows("properties", rows)
    output.write_parquet(properties, paths.table(cases.folder, "properties"))
    shift = shift_table(cases.name, properties)
    output.write_parquet(shift, paths.table(cases.folder, "shift"))
    for row in shift.iter_rows(named=True):
        if row["wasserstein"] is not None:
            say(
                f"{row['property']}: median {row['median_own']:.4g} (own, n {row['n_own']}), "
                f"{row['median_set']:.4g} ({cases.name}, n {row['n_set']})"
            )


def _properties(
    manifest: pl.DataFrame, data: DataConfig
) -> Mapping[str, Mapping[str, float | None]]:
    from minivess.data.manifest import read_image, read_label
    from minivess.statistics.shift import case_properties

    found = {}
    for row in manifest.iter_rows(named=True):
        x, y, z = row["spacing_um"]
        label = read_label(row, data.vessel_labels)
        found[row["case"]] = case_properties(read_image(row), label, (x, y, z))
    return found
