"""The files of a bundle around its network: model card, MLflow's files, record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths, provenance

if TYPE_CHECKING:
    from minivess.config.profiles import ModelProfile
    from minivess.config.schema import Experiment
    from minivess.deploy.bundle import Bundle
    from minivess.deploy.champions import Winner
    from minivess.deploy.model_card import CardFacts

ROLES = {"train": "train", "selection": "selection", "validation": "held out"}


def write_files(root: Path, winner: Winner, kind: str, config: Experiment) -> Bundle:
    """Write all files of a bundle but the networks and the parity report, the record last.

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    from minivess.data.preprocess import open_case
    from minivess.deploy import mlflow_model
    from minivess.deploy.bundle import file_digests, write_bundle
    from minivess.deploy.champions import arm_metrics, described, versions
    from minivess.deploy.model_card import model_card
    from minivess.statistics import tables

    summary = tables.read("summary", paths.table(root, "summary"))
    metrics = arm_metrics(summary, winner.entries[kind], config.statistics.confidence)
    made = described(root, winner, kind, config, metrics, config.deploy.licence)
    variants = {v: paths.bundle_variant(made.folder, v).name for v in config.deploy.variants}
    made = made.model_copy(update={"variants": variants})
    networks = [made.model, *(made.folder / name for name in variants.values())]
    case = min(winner.record["cases"]["validation"])
    mlflow_model.write_example(open_case(paths.preprocessed_case(root, case)).image, made)
    mlflow_model.write_mlmodel(made, versions(), provenance.file_sha256(made.model))
    card = model_card(made, _facts(root, winner, kind, config))
    output.write_text(card, paths.model_card(made.folder))
    files = [*networks, paths.bundle_parity(made.folder), paths.model_card(made.folder)]
    files += mlflow_model.bundle_files(made.folder)
    made = made.model_copy(update={"files": file_digests(files)})
    write_bundle(made)
    return made


def _facts(root: Path, winner: Winner, kind: str, config: Experiment) -> CardFacts:
    import polars as pl

    from minivess.data.manifest import read_manifest
    from minivess.deploy.model_card import CardFacts
    from minivess.statistics import tables
    from minivess.statistics.champion import margin_text

    entry, record = winner.entries[kind], winner.record
    own = (pl.col("model") == record["model"]) & (pl.col("loss") == record["loss"])
    own &= pl.col("seed") == record["seed"]
    metrics = tables.read("metrics", paths.table(root, "metrics"))
    means = metrics.filter(own & (pl.col("fold") == record["fold"]))
    coverage = tables.read("coverage", paths.table(root, "coverage")).filter(own)
    manifest = {
        row["case"]: row for row in read_manifest(paths.manifest(root)).iter_rows(named=True)
    }
    margin = "the only candidate"
    if entry["margin"] is not None:
        margin = f"by {margin_text(entry)} over {entry['runner_up_model']} with "
        margin += str(entry["runner_up_loss"])
    return CardFacts(
        meaning=entry["meaning"],
        margin=margin,
        record=record,
        source=config.data.source,
        cases=[
            _case(manifest[case], role)
            for name, role in ROLES.items()
            for case in sorted(record["cases"][name])
        ],
        digests={
            "manifest": provenance.file_sha256(paths.manifest(root)),
            "folds": provenance.file_sha256(paths.folds(root)),
        },
        own_means=dict(means.select("metric", "mean").iter_rows()),
        parity=output.read_json(paths.bundle_parity(paths.bundle(root, kind))),
        coverage=coverage.to_dicts(),
        terms=terms_of(record, config),
    )


def terms_of(record: Mapping[str, Any], config: Experiment) -> ModelProfile | None:
    """The profile of a network that started from weights; None of one that did not.

    Args:
        record: what run.json says.
        config: of the step.
    """
    if record["network"]["config"].get("weights") is None:
        return None
    profile: Any = config.models[record["model"]].profile
    terms: ModelProfile = profile
    return terms


def _case(row: dict[str, Any], role: str) -> tuple[str, str, list[float], list[int], str]:
    return row["case"], role, row["spacing_um"], row["shape"], row["image_sha256"]
