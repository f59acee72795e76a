"""Cases that no fold has: checked, prepared, predicted by a whole arm, measured, in a sub-folder.

The sub-folder is laid out as an experiment's own results, so that everything in `minivess.paths`
means the same in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths
from minivess.config.load import as_yaml
from minivess.config.schema import DataConfig, Experiment, FoldsConfig, StatisticsConfig
from minivess.data.problem import Problem
from minivess.logs import say
from minivess.types import RunKey

if TYPE_CHECKING:
    import polars as pl

    from minivess.data.preprocess import PreparedCase
    from minivess.inference.predict import TrainedNetwork
    from minivess.types import BoolArray, Float32Array


# The first is the result, the other stands beside it.
KINDS = ("mean", "vote")


@dataclass(frozen=True)
class CaseSet:
    """Cases to evaluate.

    Attributes:
        name: test, or that of an external set.
        folder: where everything about them goes.
        experiment: how; its section data names the volumes, and none of them is locked.
    """

    name: str
    folder: Path
    experiment: Experiment


def case_set(name: str, folder: Path, experiment: Experiment, data: DataConfig) -> CaseSet:
    """A set of the cases that a data section names, none of them locked."""
    changed = experiment.model_copy(update={"data": data, "folds": FoldsConfig()})
    return CaseSet(name, folder, changed)


def no_more(manifest: pl.DataFrame) -> Iterable[Problem]:
    """No problems besides those that every data set may have."""
    return ()


def prepare_cases(
    cases: CaseSet, more: Callable[[pl.DataFrame], Iterable[Problem]] = no_more
) -> pl.DataFrame:
    """Make, check and preprocess the cases; their manifest.

    Args:
        cases: the set.
        more: finds problems in the manifest that only this kind of set has.

    Raises:
        MinivessError: MV-DATA-017 with every error of every case, and as the data steps.
    """
    from minivess.data.manifest import build_manifest
    from minivess.data.phantom import write_phantom
    from minivess.data.preprocess import preprocess_case
    from minivess.data.sources import list_cases
    from minivess.data.unpack import unpack_source
    from minivess.data.validate import EVALUATED_CHECKS, accept, validate
    from minivess.data.validation_page import write_page

    experiment, folder = cases.experiment, cases.folder
    found = list_cases(experiment, folder)
    if experiment.data.source == "phantom":
        names = [case.case for case in found]
        write_phantom(experiment.phantom, paths.phantom_folder(folder), only=names)
    unpack_source(experiment, folder)
    manifest = build_manifest(found, experiment.data)
    output.write_parquet(manifest, paths.manifest(folder))
    problems = validate(manifest, experiment, EVALUATED_CHECKS, more(manifest))
    output.write_parquet(problems, paths.validation_table(folder))
    write_page(manifest, problems, experiment, paths.validation_page(folder))
    accept(problems)
    for row in problems.iter_rows(named=True):
        say(f"warning {row['code']} {row['case']}: {row['what']} ({row['found']})")
    for row in manifest.iter_rows(named=True):
        place = paths.preprocessed_case(folder, row["case"])
        preprocess_case(row, experiment.data, experiment.preprocess, place)
    return manifest


def evaluate_arm(
    cases: CaseSet, names: Sequence[str], root: Path, runs: Sequence[RunKey], table: str
) -> pl.DataFrame:
    """Predict and measure prepared cases; write predictions, and the table, which is returned.

    Args:
        cases: the set.
        names: its cases.
        root: results folder of the experiment that the networks are of.
        runs: the networks, of one arm; the mean of their probabilities and the vote of their masks
            are measured.
        table: name of the table.

    Raises:
        MinivessError: MV-STATE-002 a run is not finished, MV-ENSEMBLE-001 two of them are the
            same, MV-SYSTEM-003 the device is not there.
    """
    import numpy as np

    from minivess.data.preprocess import open_case
    from minivess.inference.device import prepare_torch
    from minivess.inference.ensemble import check_distinct, read_member
    from minivess.inference.predict import load_network, write_prediction
    from minivess.metrics.evaluate import evaluate_case
    from minivess.statistics import tables

    experiment = cases.experiment
    prepare_torch(experiment.compute)
    check_distinct([read_member(paths.run_folder(root, run), str(run)) for run in runs])
    networks = [load_network(paths.run_folder(root, run)) for run in runs]
    rows: list[dict[str, object]] = []
    for name in names:
        case = open_case(paths.preprocessed_case(cases.folder, name))
        made, note = _predicted(networks, case, experiment)
        for kind, (probability, mask) in made.items():
            place = cases.folder if kind == "mean" else paths.vote_folder(cases.folder)
            write_prediction(place, case, probability, mask, note)
            values = evaluate_case(
                mask,
                np.asarray(case.label) > 0,
                probability,
                case.spacing_um,
                experiment.evaluation.nsd_tolerance_um,
                experiment.evaluation.junction_tolerance_um,
            )
            about = {"experiment": experiment.name, "set": cases.name, "case": name}
            about |= {"model": runs[0].model, "loss": runs[0].loss, "ensemble": kind}
            rows += [{**about, "n_networks": len(runs), **vars(value)} for value in values]
            shown = ", ".join(f"{value.metric} {value.value:.4g}" for value in values[:4])
            say(f"{cases.name} {name}, {kind}: {shown}")
    found = tables.from_rows(table, rows)
    output.write_parquet(found, paths.table(cases.folder, table))
    return found


def _predicted(
    networks: Sequence[TrainedNetwork], case: PreparedCase, experiment: Experiment
) -> tuple[dict[str, tuple[Float32Array, BoolArray]], str]:
    """Probability (x, y, z) and mask by the mean and by the vote of networks, in their order.

    With them what is to be noted of how they were predicted.
    """
    from minivess.inference.ensemble import pooled
    from minivess.inference.memory import note_of_members
    from minivess.inference.predict import predict_within_memory

    threshold = experiment.inference.probability_threshold
    notes: list[str] = []

    def probabilities() -> Iterator[Float32Array]:
        for network in networks:
            probability, _, note = predict_within_memory(
                network, case, experiment.inference, experiment.compute
            )
            notes.append(note)
            yield probability

    both = pooled(probabilities(), threshold)
    found = {"mean": (both.mean, both.mean > threshold), "vote": (both.vote, both.vote > 0.5)}
    assert tuple(found) == KINDS
    return found, note_of_members(notes)


def write_result(
    cases: CaseSet, table: pl.DataFrame, facts: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Write result.json: means with intervals over the cases, notes, and facts; what it says.

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    from minivess.data.manifest import read_groups
    from minivess.data.volume import read_note

    statistics, groups = cases.experiment.statistics, read_groups(paths.manifest(cases.folder))
    names = sorted(set(table["case"]))
    noted = {name: read_note(paths.prediction(cases.folder, name)) for name in names}
    notes = {name: note for name, note in noted.items() if note}
    result = {
        "set": cases.name,
        "n_cases": table["case"].n_unique(),
        "confidence": statistics.confidence,
        "metrics": {
            kind: set_metrics(table.filter(ensemble=kind), statistics, groups) for kind in KINDS
        },
        **({"notes": notes} if notes else {}),
        **facts,
    }
    output.write_json(result, paths.set_result(cases.folder))
    dump = cases.experiment.model_dump(mode="json")
    output.write_text(as_yaml(dump), paths.step_config(cases.folder, "experiment"))
    return result


def set_metrics(
    table: pl.DataFrame, statistics: StatisticsConfig, groups: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """For each metric unit, mean, sd (n - 1), interval of the mean, and how many cases.

    Args:
        table: the table test or external, of one set and kind of ensemble.
        statistics: resampling, level, resamples and seed of the intervals.
        groups: group of each case.
    """
    import statistics as stdlib_statistics

    import polars as pl

    from minivess.metrics import METRICS
    from minivess.statistics.resampling import mean_interval, sample

    found = {}
    name = table["set"][0]
    for metric in (metric for metric in METRICS if metric in set(table["metric"])):
        own = table.filter(pl.col("metric") == metric).sort("case")
        values = own["value"].to_numpy()
        # One set, no folds.
        drawn_from = sample(values, groups=[groups[case] for case in own["case"]])
        low, high, _ = mean_interval(drawn_from, statistics, "evaluated-set", name, metric)
        found[metric] = {
            "unit": METRICS[metric].unit,
            "mean": stdlib_statistics.fmean(values.tolist()),
            "sd": stdlib_statistics.stdev(values.tolist()) if values.size > 1 else None,
            "ci_low": low,
            "ci_high": high,
            "n_cases": int(values.size),
            "n_not_ok": int((own["status"] != "ok").sum()),
        }
    return found


def result_lines(result: Mapping[str, Any], metrics: Sequence[str] = ()) -> list[str]:
    """A result as text, one line per metric; all of them, or those named."""
    from minivess.metrics import METRICS
    from minivess.statistics.summary import number

    lines = []
    for kind, rows in result["metrics"].items():
        arm = f"{result['model']}/{result['loss']}, {kind} of {len(result['networks'])} networks"
        lines.append(f"{result['set']}: {arm}, {result['n_cases']} cases")
        for metric in metrics or rows:
            row, interval = rows[metric], "no interval"
            if row["ci_low"] is not None:
                interval = f"{number(row['ci_low'])} to {number(row['ci_high'])}"
            failed = f", {row['n_not_ok']} with an empty mask" if row["n_not_ok"] else ""
            lines.append(
                f"  {METRICS[metric].label:<22}{number(row['mean']):>8} "
                f"[{interval}]{' um' if row['unit'] == 'um' else ''}{failed}"
            )
    return lines
