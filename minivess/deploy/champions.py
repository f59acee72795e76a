"""The champions of an experiment as bundles: what is known of them before anything is exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths, provenance
from minivess.config.models import ModelConfig
from minivess.deploy.bundle import Bundle, BundleMetric
from minivess.errors import MinivessError
from minivess.inference.windows import window_for
from minivess.metrics import METRICS
from minivess.models import build_adapter
from minivess.types import RunKey

if TYPE_CHECKING:
    import polars as pl

    from minivess.config.schema import Experiment, InferenceConfig
    from minivess.models.adapter import ModelAdapter
    from minivess.types import Shape


@dataclass(frozen=True)
class Winner:
    """A network that won by one rule or several.

    Attributes:
        run: model/loss/seed/fold.
        kinds: the rules, in the order of champions.json.
        entries: what champions.json says of each.
        folder: of the run.
        record: what run.json says.
    """

    run: str
    kinds: tuple[str, ...]
    entries: Mapping[str, Mapping[str, Any]]
    folder: Path
    record: Mapping[str, Any]

    @property
    def key(self) -> RunKey:
        """The run."""
        record = self.record
        return RunKey(record["model"], record["loss"], record["seed"], record["fold"])

    @property
    def adapter(self) -> ModelAdapter:
        """Of its architecture."""
        x, y, z = self.record["network"]["spacing_um"]
        return build_adapter(ModelConfig(**self.record["network"]["config"]), (x, y, z))

    def window(self, inference: InferenceConfig) -> Shape:
        """The window that the DAG predicts with."""
        px, py, pz = self.record["network"]["patch_size"]
        return window_for(inference.window_size or (px, py, pz), self.adapter.patch_divisor())


def winners(root: Path, champions: Mapping[str, Mapping[str, Any]]) -> list[Winner]:
    """The networks that won, each once.

    Args:
        root: results folder of the experiment.
        champions: rule -> entry of champions.json.

    Raises:
        MinivessError: MV-STATE-002 a run is not there, MV-STATE-005 its weights are not those that
            won.
    """
    kinds: dict[str, list[str]] = {}
    for kind, entry in sorted(champions.items()):
        kinds.setdefault(entry["run"], []).append(kind)
    return [_winner(root, run, names, champions) for run, names in kinds.items()]


def _winner(
    root: Path, run: str, kinds: Sequence[str], champions: Mapping[str, Mapping[str, Any]]
) -> Winner:
    folder = paths.run_folder(root, run)
    weights, expected = paths.weights(folder), champions[kinds[0]]["weights_sha256"]
    if not weights.exists() or not paths.run_record(folder).exists():
        raise MinivessError(
            "MV-STATE-002",
            what="the champion's network is not there",
            where=str(folder),
            fix=f"run the experiment again: minivess experiment {root.name} deploy",
        )
    found = provenance.file_sha256(weights)
    if found != expected:
        raise MinivessError(
            "MV-STATE-005",
            what="the champion's weights are not those that won",
            where=str(weights),
            found=f"SHA-256 {found}",
            expected=f"SHA-256 {expected}, as in {paths.champions(root)}",
            fix=f"run the experiment again: minivess experiment {root.name} deploy",
        )
    record = output.read_json(paths.run_record(folder), "cases")
    return Winner(run, tuple(kinds), {kind: champions[kind] for kind in kinds}, folder, record)


def described(
    root: Path,
    winner: Winner,
    kind: str,
    config: Experiment,
    metrics: Sequence[BundleMetric] = (),
    licence: str = "unknown",
) -> Bundle:
    """The bundle of a winner under one rule, without the digests of its files.

    Args:
        root: results folder.
        winner: the network.
        kind: the rule.
        config: with the sections preprocess and inference.
        metrics: what its arm reached.
        licence: of the exported network.
    """
    adapter, inference = winner.adapter, config.inference
    x, y, z = winner.record["network"]["spacing_um"]
    return Bundle(
        folder=paths.bundle(root, kind),
        experiment=root.name,
        kind=kind,
        also=tuple(other for other in winner.kinds if other != kind),
        run=winner.run,
        weights_sha256=winner.entries[kind]["weights_sha256"],
        architecture=adapter.config.architecture,
        spacing_um=(x, y, z),
        preprocess=config.preprocess,
        window=winner.window(inference),
        divisor=adapter.patch_divisor(),
        any_window=adapter.any_window(),
        overlap=inference.overlap,
        window_batch=inference.window_batch,
        threshold=inference.probability_threshold,
        metrics=tuple(metrics),
        licence=licence,
        versions=versions(),
        files={},
    )


def versions() -> dict[str, str]:
    """Versions of what exports: those that decide what is in the file."""
    from importlib import metadata

    names = ("minivess", "torch", "onnx", "onnxscript", "onnxruntime")
    # Without the build: the same network is exported from that for CUDA.
    return {name: metadata.version(name).partition("+")[0] for name in names}


def arm_metrics(
    summary: pl.DataFrame, entry: Mapping[str, Any], confidence: float
) -> list[BundleMetric]:
    """Every metric of the champion's arm that has a better end, as the table summary has it.

    Args:
        summary: the table.
        entry: of the champion in champions.json.
        confidence: level of the intervals.
    """
    import polars as pl

    own = summary.filter((pl.col("model") == entry["model"]) & (pl.col("loss") == entry["loss"]))
    rows = {row["metric"]: row for row in own.iter_rows(named=True)}
    return [
        BundleMetric(
            metric=name,
            label=definition.label,
            unit=definition.unit,
            mean=rows[name]["mean"],
            ci_low=rows[name]["ci_low"],
            ci_high=rows[name]["ci_high"],
            confidence=confidence,
            n_cases=rows[name]["n_cases"],
            n_not_ok=rows[name]["n_not_ok"],
        )
        for name, definition in METRICS.items()
        if name in rows and definition.better != "neither"
    ]
