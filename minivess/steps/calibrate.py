"""The steps of uncertainty: calibrate one run, join all runs, write conformal masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths
from minivess.config.load import load_step
from minivess.errors import MinivessError
from minivess.logs import say
from minivess.steps.runs import experiment_runs
from minivess.types import RunKey

if TYPE_CHECKING:
    import polars as pl

    from minivess.calibration import Fitted, Sample
    from minivess.config.calibration import CalibrationConfig, ConformalConfig
    from minivess.config.schema import Experiment
    from minivess.data.folds import Fold
    from minivess.data.preprocess import PreparedCase
    from minivess.statistics.coverage import HeldOutCase
    from minivess.types import BoolArray, Float32Array

TABLES = ("calibration", "reliability", "conformal")
# Of scores and of parts: the last bits of sums are nobody's business.
DECIMALS = 9


def calibrate(root: Path, run: RunKey) -> None:
    """Fit calibrators on the run's selection cases; score them and conformal masks on the others.

    Writes calibrators.json and one Parquet file for each of `TABLES`. The selection cases chose the
    checkpoint, which makes the network look slightly better on them than on held-out cases.
    Without selection cases no calibrator is fitted: only the network's own probability is scored.
    """
    from minivess.data.folds import read_folds
    from minivess.inference.device import prepare_torch
    from minivess.statistics import tables

    config = load_step(paths.step_config(root, "calibrate"))
    prepare_torch(config.compute)
    fold = read_folds(paths.folds(root)).folds[run.fold]
    folder = paths.run_folder(root, run)
    if not fold.selection:
        none = config.calibration.model_copy(update={"methods": ()})
        config = config.model_copy(update={"calibration": none})
    samples, notes = _samples(root, folder, config, fold) if fold.selection else ([], {})
    fitted = fit_calibrators(config, samples)
    record = {"fitted_on": list(fold.selection), "calibrators": fitted}
    record |= {"notes": notes} if notes else {}
    output.write_json(record, paths.calibrators(folder))
    columns = {"experiment": config.name, **vars(run)}
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in TABLES}
    held_out = []
    for prepared, probability, mask, reference in _predicted(root, folder, fold.validation):
        named = {**columns, "case": prepared.case}
        scores, bins = _scored(fitted, prepared, probability, reference, config.calibration)
        selection = " ".join(fold.selection)
        rows["calibration"] += [{**named, **row, "fitted_on": selection} for row in scores]
        rows["reliability"] += [{**named, **row} for row in bins]
        held_out.append(_families(prepared, probability, mask, reference))
    rows["conformal"] = [
        {**columns, **row} for row in _conformal(held_out, config.conformal, run, fold)
    ]
    for name, values in rows.items():
        output.write_parquet(tables.from_rows(name, values), paths.run_table(folder, name))
    on = f"calibrated on {len(fold.selection)} case(s)"
    if not fold.selection:
        on = "not calibrated, for no case was kept for selection"
    say(f"{run}: {on}, {len(held_out)} tested")


def fit_calibrators(config: Experiment, samples: Sequence[Sample]) -> dict[str, Fitted]:
    """Parameters of each calibrator of the config, as they are written."""
    from minivess import calibration

    return {
        name: calibration.fit(name, samples, config.calibration)
        for name in config.calibration.methods
    }


def _samples(
    root: Path, folder: Path, config: Experiment, fold: Fold
) -> tuple[list[Sample], dict[str, str]]:
    """The selection cases, predicted, with the voxels to fit on; what is to be noted of them."""
    import numpy as np

    from minivess.calibration import Sample, choose_voxels
    from minivess.data.preprocess import open_case
    from minivess.inference import predict

    network = predict.load_network(folder)
    wanted = max(1, config.calibration.fitted_voxels // len(fold.selection))
    seed = config.calibration.calibration_seed
    samples: list[Sample] = []
    notes: dict[str, str] = {}
    for case in fold.selection:
        prepared = open_case(paths.preprocessed_case(root, case))
        probability, _, note = predict.predict_within_memory(
            network, prepared, config.inference, config.compute
        )
        notes |= {case: note} if note else {}
        voxels = choose_voxels(probability.size, wanted, seed, case)
        image, reference = np.asarray(prepared.image), np.asarray(prepared.label) > 0
        samples.append(Sample(probability, image, reference, voxels))
    return samples, notes


def _predicted(
    root: Path, folder: Path, cases: Sequence[str]
) -> Iterator[tuple[PreparedCase, Float32Array, BoolArray, BoolArray]]:
    """Each held-out case with its probability, its predicted mask and its reference."""
    import numpy as np

    from minivess.data.preprocess import open_case
    from minivess.data.volume import read_made

    for case in cases:
        prepared = open_case(paths.preprocessed_case(root, case))
        probability = read_made(paths.probability(folder, case)).astype(np.float32)
        mask = read_made(paths.prediction(folder, case)) > 0
        yield prepared, probability, mask, np.asarray(prepared.label) > 0


def _scored(
    fitted: dict[str, Fitted],
    prepared: PreparedCase,
    probability: Float32Array,
    reference: BoolArray,
    config: CalibrationConfig,
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Scores and reliability bins of a case, uncalibrated and by each calibrator."""
    import numpy as np

    from minivess import calibration
    from minivess.metrics.calibration import brier, ece, nll
    from minivess.statistics.reliability import reliability_bins

    scores: list[dict[str, object]] = []
    bin_rows: list[dict[str, object]] = []
    image = np.asarray(prepared.image)
    for name in (calibration.UNCALIBRATED, *config.methods):
        calibrated = calibration.apply(name, fitted.get(name, {}), probability, image)
        bins = reliability_bins(calibrated, reference, config.reliability_bins)
        values = {
            "nll": nll(calibrated, reference),
            "brier": brier(calibrated, reference),
            "ece": ece(calibrated, reference),
        }
        rounded = {key: round(value, DECIMALS) for key, value in values.items()}
        scores.append({"calibrator": name, **rounded})
        bin_rows += [
            {
                "calibrator": name,
                "bin": index,
                "n_voxels": int(bins.n_voxels[index]),
                "probability": round(float(bins.probability[index]), DECIMALS),
                "observed": round(float(bins.observed[index]), DECIMALS),
            }
            for index in range(config.reliability_bins)
        ]
    return scores, bin_rows


def _families(
    prepared: PreparedCase, probability: Float32Array, mask: BoolArray, reference: BoolArray
) -> HeldOutCase:
    from minivess.statistics.coverage import held_out_case

    names = (prepared.case, prepared.group)
    return held_out_case(names, probability, mask, reference, prepared.spacing_um)


def _conformal(
    held_out: Sequence[HeldOutCase], config: ConformalConfig, run: RunKey, fold: Fold
) -> list[dict[str, object]]:
    from minivess.statistics.coverage import calibrated_halves, conformal_rows

    fitted = (*fold.train, *fold.selection)
    pairs = calibrated_halves(held_out, config.conformal_seed, run.fold, fitted)
    return conformal_rows(pairs, config)


def coverage(root: Path) -> None:
    """Join the runs' tables; write them and the table coverage."""
    import polars as pl

    from minivess.statistics import tables
    from minivess.statistics.coverage import coverage_table

    folders = [paths.run_folder(root, run) for run in experiment_runs(root)]
    for name in TABLES:
        parts = [tables.read(name, paths.run_table(folder, name)) for folder in folders]
        joined = tables.from_rows(name, pl.concat(parts).to_dicts())
        output.write_parquet(joined, paths.table(root, name))
    statistics = load_step(paths.step_config(root, "compare")).statistics
    table = coverage_table(tables.read("conformal", paths.table(root, "conformal")), statistics)
    output.write_parquet(table, paths.table(root, "coverage"))
    untested = int(table["n_untested"].sum())
    note = f"; {untested} rows had too few calibration cases" if untested else ""
    say(f"coverage of {table.height} combinations of arm, method and alpha{note}")


def conformal_masks(root: Path, alpha: float, target: Path | None) -> tuple[pl.DataFrame, Path]:
    """Write the conformal masks of every held-out case of every run; the table coverage of them.

    Each case gets case_threshold, case_outer and case_inner (NIfTI, in the geometry of its source)
    in a folder of its run.

    Args:
        root: results folder of a finished experiment.
        alpha: the risk.
        target: folder for masks and tables; by default `conformal/alpha...` in the results.

    Raises:
        MinivessError: MV-CONFORMAL-001 too few cases for that alpha, MV-CONFIG-002 no alpha,
            MV-STATE-002 the experiment has not run, MV-SYSTEM-... from writing.
    """
    from minivess.data.folds import read_folds
    from minivess.statistics import tables
    from minivess.statistics.coverage import calibrated_halves, conformal_rows, coverage_table

    if not 0 < alpha < 1:
        raise MinivessError(
            "MV-CONFIG-002",
            what="alpha is a risk between 0 and 1",
            where="--alpha",
            found=str(alpha),
            fix="for example --alpha 0.1",
        )
    config = load_step(paths.step_config(root, "experiment"))
    wanted = config.conformal.model_copy(update={"alphas": (alpha,)})
    folder = target or root / "conformal" / f"alpha{alpha:g}"
    folds = read_folds(paths.folds(root)).folds
    rows: list[dict[str, object]] = []
    for run in experiment_runs(root):
        fold, place = folds[run.fold], paths.run_folder(root, run)
        held_out = [_families(*found) for found in _predicted(root, place, fold.validation)]
        fitted = (*fold.train, *fold.selection)
        pairs = calibrated_halves(held_out, wanted.conformal_seed, run.fold, fitted)
        _check_pairs(pairs, alpha, run)
        own = conformal_rows(pairs, wanted)
        _write_masks(root, run, fold.validation, own, folder)
        rows += [{"experiment": config.name, **vars(run), **row} for row in own]
    table = tables.from_rows("conformal", rows)
    summary = coverage_table(table, config.statistics)
    output.write_parquet(table, folder / "conformal.parquet")
    output.write_parquet(summary, folder / "coverage.parquet")
    return summary, folder


def _check_pairs(pairs: Sequence[tuple[Sequence[Any], Any]], alpha: float, run: RunKey) -> None:
    from minivess.statistics.conformal import check_reachable

    for calibrating, _ in pairs:
        check_reachable(alpha, len(calibrating), f"{run}, one half of its held-out cases")


def _write_masks(
    root: Path, run: RunKey, cases: Sequence[str], rows: list[dict[str, object]], folder: Path
) -> None:
    """The three masks of each held-out case of a run, at the levels of its rows."""
    from minivess.data.volume import write_volume
    from minivess.statistics.coverage import INNER, OUTER, THRESHOLD
    from minivess.statistics.nested import inner_distances, outer_distances

    levels = {(row["case"], row["method"]): float(str(row["level"])) for row in rows}
    for prepared, probability, mask, _ in _predicted(root, paths.run_folder(root, run), cases):
        case, spacing = prepared.case, prepared.spacing_um
        masks = {
            "threshold": probability >= levels[case, THRESHOLD],
            "outer": outer_distances(mask, spacing) <= levels[case, OUTER],
            "inner": inner_distances(mask, spacing) > levels[case, INNER],
        }
        for name, array in masks.items():
            write_volume(array, folder / str(run) / f"{case}_{name}.nii.gz", prepared.geometry)
