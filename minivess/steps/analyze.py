"""The steps from predictions to tables: evaluate, baseline, track, export, compare."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from minivess import output, paths
from minivess.config.load import load_step
from minivess.logs import say
from minivess.steps.runs import experiment_runs
from minivess.types import RunKey

if TYPE_CHECKING:
    import polars as pl

    from minivess.config.plan import AnalysisPlan
    from minivess.config.schema import Experiment


def evaluate(root: Path, run: RunKey, case: str) -> None:
    """Write the metrics of one predicted case."""
    import numpy as np

    from minivess.data.preprocess import open_case
    from minivess.data.volume import read_made
    from minivess.metrics.evaluate import case_rows, evaluate_case
    from minivess.statistics import tables

    config = load_step(paths.step_config(root, "evaluate"))
    folder = paths.run_folder(root, run)
    prepared = open_case(paths.preprocessed_case(root, case))
    prediction = read_made(paths.prediction(folder, case)) > 0
    reference = np.asarray(prepared.label) > 0
    values = evaluate_case(
        prediction,
        reference,
        read_made(paths.probability(folder, case)),
        prepared.spacing_um,
        config.evaluation.nsd_tolerance_um,
        config.evaluation.junction_tolerance_um,
    )
    table = tables.from_rows("cases", case_rows(config.name, run, case, values))
    output.write_parquet(table, paths.case_metrics(folder, case))
    shown = ", ".join(f"{value.metric} {value.value:.4g}" for value in values[:4])
    say(f"{run} {case}: {shown}")


def baseline(root: Path) -> None:
    """Write the best single threshold on the stored intensities of each case of the folds."""
    import numpy as np

    from minivess.data.folds import read_folds
    from minivess.data.manifest import read_image, read_manifest
    from minivess.data.preprocess import open_case
    from minivess.metrics.threshold import best_threshold
    from minivess.statistics import tables

    rows: list[dict[str, object]] = []
    folds = read_folds(paths.folds(root)).folds
    facts = {row["case"]: row for row in read_manifest(paths.manifest(root)).iter_rows(named=True)}
    for case in sorted(case for fold in folds for case in fold.validation):
        # Not the prepared image: where it is clipped, voxels cannot be told apart any more.
        image = read_image(facts[case])
        if image.dtype == bool or image.dtype.itemsize > 4:
            image = image.astype(np.float64, copy=False)
        reference = np.asarray(open_case(paths.preprocessed_case(root, case)).label) > 0
        threshold, dice = best_threshold(image, reference)
        rows.append({"case": case, "threshold": threshold, "dice": dice})
    output.write_parquet(tables.from_rows("baseline", rows), paths.baseline(root))
    mean = sum(float(str(row["dice"])) for row in rows) / len(rows)
    say(f"best single threshold of each case, chosen with the reference: mean Dice {mean:.4f}")


def track(root: Path) -> None:
    """Fill MLflow with whatever the files have and it has not; write tracked.json."""
    from minivess import provenance
    from minivess.data.folds import read_folds
    from minivess.tracking import mlflow_log
    from minivess.tracking.sync import sync_experiment

    config = load_step(paths.step_config(root, "experiment"))
    runs, folds = experiment_runs(root), read_folds(paths.folds(root))
    params: dict[str, str | int | float] = {
        "upstream_manifest_digest": folds.manifest_digest,
        "upstream_folds_digest": provenance.file_sha256(paths.folds(root)),
    }
    sections = {"preprocess": "upstream_", "inference": "eval_", "evaluation": "eval_"}
    for section, prefix in sections.items():
        for name, value in getattr(config, section).model_dump(mode="json").items():
            params[prefix + name] = value if isinstance(value, int | float) else str(value)
    report = sync_experiment(mlflow_log.tracking_uri(), config.name, root, runs, params=params)
    say(str(report))
    digests = {}
    for run in runs:
        folder = paths.run_folder(root, run)
        files = [paths.run_record(folder), paths.history(folder)]
        files += [paths.case_metrics(folder, c) for c in folds.folds[run.fold].validation]
        digests[str(run)] = {path.name: provenance.file_sha256(path) for path in files}
    output.write_json({"experiment": config.name, "files": digests}, paths.tracked(root))


def export(root: Path) -> None:
    """Write runs, params, metrics, cases and history, as MLflow has them."""
    from minivess.tracking import mlflow_log
    from minivess.tracking.export import export_tables, write_tables

    config = load_step(paths.step_config(root, "experiment"))
    tables = export_tables(mlflow_log.tracking_uri(), config.name, experiment_runs(root))
    write_tables(tables, root)
    say(", ".join(f"{name} {table.height} rows" for name, table in sorted(tables.items())))


def ensembles_table(root: Path, experiment: Experiment, folds: Iterable[int]) -> pl.DataFrame:
    """The table ensembles: the metrics of the ensembles of all arms and folds.

    Raises:
        MinivessError: MV-STATE-002 those of one are not made.
    """
    import polars as pl

    from minivess.statistics import tables

    files = [
        paths.ensembles_metrics(paths.ensembles(root, model, loss, fold))
        for model, loss in experiment.arms()
        for fold in folds
        if experiment.ensembles.kinds
    ]
    parts = [tables.read("ensembles", path) for path in files]
    table = pl.concat([tables.empty("ensembles"), *parts])
    return table.sort([name for name in table.columns if name != "value"])


def note_plan(root: Path, plan: AnalysisPlan) -> None:
    """Keep which analysis files results were made with, and say so where there was another."""
    path = paths.analysis_files(root)
    used = output.read_json(path) if path.exists() else []
    others = [entry for entry in used if entry["sha256"] != plan.sha256]
    if len(others) == len(used):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        used.append({"name": plan.name, "sha256": plan.sha256, "first_used": now})
        output.write_json(used, path)
    if others:
        first = others[0]
        say(
            f"the analysis file is {plan.name} ({plan.sha256[:16]}), but results were made with "
            f"{first['name']} ({first['sha256'][:16]}) on {first['first_used']}; see {path}"
        )


def compare_arms(root: Path) -> None:
    """Write the tables of the statistics, summary.json and summary.txt."""
    import polars as pl

    from minivess.data.manifest import read_groups
    from minivess.statistics import tables
    from minivess.statistics.compare import compare, summarise
    from minivess.statistics.mixed_model import mixed_model
    from minivess.statistics.power import detectable
    from minivess.statistics.ranks import rank_arms
    from minivess.statistics.seeds import seed_spread
    from minivess.statistics.summary import summary_json, summary_text
    from minivess.steps.notes import memory_notes, selection_notes, skeleton_notes

    config = load_step(paths.step_config(root, "compare")).statistics
    note_plan(root, config.plan)
    experiment = load_step(paths.step_config(root, "experiment"))
    cases = tables.read("cases", paths.table(root, "cases"))
    ensembles = ensembles_table(root, experiment, sorted(set(cases["fold"])))
    output.write_parquet(ensembles, paths.table(root, "ensembles"))
    output.write_parquet(mixed_model(cases, config), paths.table(root, "mixed_model"))
    spread = seed_spread(cases, config)
    output.write_parquet(spread, paths.table(root, "seeds"))
    cases = pl.concat([cases, ensembles])
    groups = read_groups(paths.manifest(root))
    summary, comparison = summarise(cases, config, groups), compare(cases, config, groups)
    output.write_parquet(summary, paths.table(root, "summary"))
    output.write_parquet(comparison, paths.table(root, "comparison"))
    output.write_parquet(rank_arms(cases, config, groups), paths.table(root, "ranks"))
    output.write_parquet(detectable(cases, config), paths.table(root, "power"))
    numbers = summary_json(
        cases,
        summary,
        comparison,
        tables.read("baseline", paths.baseline(root)),
        config,
        (*experiment.arms(), *experiment.ensemble_arms()),
        groups,
    )
    output.write_json(numbers, paths.summary(root))
    figures, report = str(root / "figures"), str(paths.report(root))
    notes = [
        *memory_notes(root),
        *skeleton_notes(root, experiment.losses),
        *selection_notes(experiment),
    ]
    text = summary_text(json.loads(json.dumps(numbers)), figures, report, notes, spread.to_dicts())
    output.write_text(text, paths.summary_text(root))
