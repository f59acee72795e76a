"""The last steps: figures, digests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from minivess import paths
from minivess.config.load import load_step
from minivess.logs import say
from minivess.types import RunKey

if TYPE_CHECKING:
    import polars as pl

    from minivess.figures.qualitative import QualitativeCase


def figure(root: Path, name: str) -> None:
    """Draw a figure from its tables; write SVG, PDF, PNG and the digests of the tables.

    Raises:
        MinivessError: MV-CONFIG-003 unknown name, MV-STATE-002 a table is missing.
    """
    from minivess.data.manifest import read_groups
    from minivess.figures import FigureInputs, figure_definition, make_figure
    from minivess.statistics import tables

    definition = figure_definition(name)
    config = load_step(paths.step_config(root, f"figure-{name}"))
    sources = [paths.table(root, table) for table in definition.tables]
    read = {
        table: tables.read(table, path)
        for table, path in zip(definition.tables, sources, strict=True)
    }
    shown: tuple[QualitativeCase, ...] = ()
    if name == "qualitative":
        shown = qualitative_slices(root, read["cases"], config.statistics.primary_metric)
    # Of other figures the intervals are in their tables.
    groups = read_groups(paths.manifest(root)) if name == "reliability" else None
    inputs = FigureInputs(read, config.statistics, _arms(root), shown, groups)
    base = paths.figure(root, name, "svg").with_suffix("")
    make_figure(name, inputs, getattr(config.figures, name), base, sources)
    say(f"drew {base}.svg")


def _arms(root: Path) -> tuple[tuple[str, str], ...]:
    return load_step(paths.step_config(root, "experiment")).arms()


def qualitative_slices(
    root: Path, cases: pl.DataFrame, primary_metric: str
) -> tuple[QualitativeCase, ...]:
    """One slice of the best, median and worst case: image, reference, predictions (x, y).

    Args:
        root: results folder of the experiment.
        cases: the table cases.
        primary_metric: what ranks them, in the first arm.
    """
    import numpy as np

    from minivess.data.preprocess import open_case
    from minivess.data.volume import read_made
    from minivess.figures.qualitative import QualitativeCase, qualitative_cases, slice_to_show

    order = _arms(root)
    seed = int(cases["seed"].min())  # type: ignore[arg-type]
    slices = []
    for case in qualitative_cases(cases, primary_metric, order[0]):
        prepared = open_case(paths.preprocessed_case(root, case))
        reference = np.asarray(prepared.label) > 0
        z = slice_to_show(reference)
        fold = int(cases.filter(cases["case"] == case)["fold"][0])
        predictions = {}
        for model, loss in order:
            run = paths.run_folder(root, RunKey(model, loss, seed, fold))
            predictions[model, loss] = read_made(paths.prediction(run, case))[..., z] > 0
        slices.append(
            QualitativeCase(
                case=case,
                image=np.asarray(prepared.image[..., z]),
                reference=reference[..., z],
                predictions=predictions,
                spacing_um=prepared.spacing_um[:2],
                seed=seed,
            )
        )
    return tuple(slices)


def digests(root: Path) -> None:
    """Write SHA256SUMS over every declared output."""
    from minivess.reproducibility.digests import write_digests

    written, unrecorded = write_digests(root)
    note = f"; no job has recorded {unrecorded} of them" if unrecorded else ""
    say(f"digests of {len(written)} files in {paths.digests(root)}{note}")
