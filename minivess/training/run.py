"""One run of an experiment: its task, its digest, and the files that record it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess import output, paths, provenance
from minivess.config.schema import Experiment, PatchConfig
from minivess.config.training import TrainingConfig
from minivess.data.folds import Fold, Folds
from minivess.data.preprocess import CASE, LABEL_SKELETON, PreparedCase, open_case
from minivess.errors import MinivessError
from minivess.inference.device import (
    Decision,
    choose_cpu_kernels,
    choose_device,
    choose_precision,
)
from minivess.losses import build_loss, needs_of
from minivess.losses.needs import SKELETON
from minivess.losses.own import is_own, source_file
from minivess.models import build_adapter
from minivess.models.adapter import ModelAdapter
from minivess.models.pretrained import weights_sha256
from minivess.statistics import tables
from minivess.training.auto import decide
from minivess.training.distributed import ALONE, Team, check_shares, check_team
from minivess.training.selection import LAST_EPOCH, best_epoch, training_code
from minivess.training.shared_memory import check_shared_memory, free_bytes
from minivess.training.trainer import TrainingResult, TrainingTask
from minivess.training.warm_start import WarmStart, check_unseen, compare, warm_start_file
from minivess.types import RunKey, Spacing

if TYPE_CHECKING:
    import polars as pl

COMPUTING = ("torch", "monai", "torchio", "numpy", "scipy")


@dataclass(frozen=True)
class PlannedRun:
    """A run before it is trained: task, digests, parameters, decisions."""

    key: RunKey
    task: TrainingTask
    fold: Fold
    run_digest: str
    config_digest: str
    state_digest: str
    params: dict[str, str | int | float]
    decisions: tuple[Decision, ...]
    warm_start: WarmStart | None = None

    def with_decisions(self, more: Iterable[Decision]) -> PlannedRun:
        """The same run, with more decisions in its record, and in its parameters by a new name."""
        decisions = tuple(more)
        named = {decision.name: decision.value for decision in decisions}
        return replace(
            self, params={**named, **self.params}, decisions=(*self.decisions, *decisions)
        )

    @property
    def state_key(self) -> str:
        """Name of the checkpoint folder: digests of the run, our code and the libraries."""
        names = (*COMPUTING, *self.task.adapter.libraries)
        versions = [metadata.version(name) for name in names]
        code = provenance.json_sha256([training_code(self.task.training), versions])
        return f"{self.state_digest[:16]}-{code[:16]}"


def typical_spacing(cases: Sequence[PreparedCase]) -> Spacing:
    """Median spacing (x, y, z) in um over cases: what network topologies are derived from."""
    x, y, z = np.median([case.spacing_um for case in cases], axis=0)
    return float(x), float(y), float(z)


def plan_run(
    experiment: Experiment, key: RunKey, folds: Folds, root: Path, team: Team = ALONE
) -> PlannedRun:
    """Open the cases of a run and derive everything that is derived.

    Args:
        experiment: the train step's config, with the run's model.
        key: model, loss, seed, fold.
        folds: the folds.
        root: results folder of the experiment.
        team: the processes that share the training.

    Raises:
        MinivessError: MV-CONFIG-003 unknown model, loss or fold, MV-CONFIG-004 number of devices,
            MV-STATE-002 not preprocessed, MV-SYSTEM-003 device, MV-SYSTEM-005 shared memory too
            small for the workers.
    """
    _check_key(experiment, key, folds)
    check_team(experiment.compute, team)
    fold = folds.folds[key.fold]
    needs = needs_of(key.loss)
    train, selection = _opened(root, fold.train, SKELETON in needs), _opened(root, fold.selection)
    adapter = build_adapter(experiment.models[key.model], typical_spacing(train))
    device, device_decision = choose_device(experiment.compute, team.device_number)
    _, precision_decision = choose_precision(experiment.compute, device)
    cases, on_gpu = [*train, *selection], device.type == "cuda"
    experiment, automatic = decide(experiment, key.model, adapter, cases, on_gpu)
    adapter = build_adapter(experiment.models[key.model], adapter.spacing_um)
    patches = PatchConfig.model_validate(experiment.patches.model_dump())
    check_shares(patches, team.size)
    check_shared_memory(patches, experiment.compute, free_bytes())
    begin = _warm_start(experiment.training, key.fold, folds, adapter)
    task = TrainingTask(
        adapter=adapter,
        loss=build_loss(key.loss, experiment.loss),
        train=train,
        selection=selection,
        seed=key.seed,
        fold=key.fold,
        patches=patches,
        augment=experiment.augment,
        training=experiment.training,
        compute=experiment.compute,
        team=team,
        warm_start=None if begin is None else Path(begin.file),
        needs=needs,
    )
    parts = _determined_by(experiment, key, fold, precision_decision.value, root, begin)
    decided = (device_decision, precision_decision, choose_cpu_kernels(experiment.compute))
    return PlannedRun(
        key=key,
        task=task,
        fold=fold,
        run_digest=provenance.json_sha256(parts),
        config_digest=parts["config"],
        state_digest=_state_digest(experiment, parts, precision_decision.value),
        params=run_params(experiment, key, fold, task),
        decisions=(*decided, *automatic, *_derived(adapter, begin)),
        warm_start=begin,
    )


def _opened(root: Path, cases: Sequence[str], with_skeleton: bool = False) -> list[PreparedCase]:
    return [open_case(paths.preprocessed_case(root, case), with_skeleton) for case in cases]


def _derived(adapter: ModelAdapter, begin: WarmStart | None) -> list[Decision]:
    derived = [
        Decision(name, value, adapter.reason()) for name, value in adapter.describe().items()
    ]
    if begin is not None:
        derived.append(Decision("warm_start", begin.file, begin.text()))
    return derived


def _warm_start(
    training: TrainingConfig, number: int, folds: Folds, adapter: ModelAdapter
) -> WarmStart | None:
    """What a fold begins with, checked; None where it begins from random weights."""
    path = warm_start_file(training, number)
    if path is None:
        return None
    check_unseen(path, (*folds.folds[number].validation, *folds.test), number)
    return compare(path, adapter.build())


def _check_key(experiment: Experiment, key: RunKey, folds: Folds) -> None:
    if key.model not in experiment.models or not 0 <= key.fold < len(folds.folds):
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no run {key}",
            where=experiment.name,
            found=f"models {sorted(experiment.models)}, {len(folds.folds)} folds",
            fix="choose one of those",
        )


def _config(experiment: Experiment, precision: str) -> dict[str, Any]:
    """The config of a run, without what changes only how it is computed."""
    config = experiment.model_dump(mode="json")
    # Device and workers change how a run is computed, not which run it is.
    config["compute"] = {"precision": precision, "threads": experiment.compute.threads}
    if experiment.compute.devices > 1:  # their number changes the rounding, as that of threads
        config["compute"]["devices"] = experiment.compute.devices
    if experiment.compute.compile:
        config["compute"]["compile"] = True
    if experiment.compute.profile == "fast":  # also where it computes in float32 as strict does
        config["compute"]["kernels"] = "native"
    return config


def _state_digest(experiment: Experiment, parts: dict[str, Any], precision: str) -> str:
    """Digest of what determines the checkpoints: not which of the best weights predict."""
    config = _config(experiment, precision)
    config["training"].pop("checkpoint_metric")
    return provenance.json_sha256({**parts, "config": provenance.json_sha256(config)})


def _determined_by(
    experiment: Experiment,
    key: RunKey,
    fold: Fold,
    precision: str,
    root: Path,
    begin: WarmStart | None,
) -> dict[str, Any]:
    """All that determines a run but the code; its config as digest."""
    cases = {
        case: provenance.file_sha256(paths.preprocessed_case(root, case) / CASE)
        for case in (*fold.train, *fold.selection)
    }
    config_digest = provenance.json_sha256(_config(experiment, precision))
    parts = {"run": str(key), "config": config_digest, "cases": cases, "fold": vars(fold)}
    if SKELETON in needs_of(key.loss):
        parts["skeletons"] = {
            case: provenance.file_sha256(paths.preprocessed_case(root, case) / LABEL_SKELETON)
            for case in fold.train
        }
    if is_own(key.loss):
        parts["loss_source"] = provenance.file_sha256(source_file(key.loss))
    weights = weights_sha256(experiment.models[key.model].weights)
    if weights is not None:
        parts["weights"] = weights
    if begin is not None:
        parts["warm_start"] = begin.sha256
    return parts


def run_params(
    experiment: Experiment, key: RunKey, fold: Fold, task: TrainingTask
) -> dict[str, str | int | float]:
    """Parameters of a run for the tracking, prefixed by what they concern."""
    prefixes = {"patches": "data_", "augment": "data_", "loss": "loss_", "training": ""}
    params: dict[str, str | int | float] = {
        "model": key.model,
        "loss": key.loss,
        "seed": key.seed,
        "fold": key.fold,
        "data_n_train": len(fold.train),
        "data_n_selection": len(fold.selection),
        "data_n_validation": len(fold.validation),
        "data_spacing_um": _text(task.adapter.spacing_um),
    }
    for section, prefix in prefixes.items():
        for name, value in getattr(experiment, section).model_dump().items():
            params[prefix + name] = _text(value)
    for name, value in task.adapter.config.model_dump().items():
        params["arch_" + name] = _text(value)
    return params | task.adapter.describe()


def _text(value: Any) -> str | int | float:
    if isinstance(value, tuple | list):
        return " ".join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value)
    return value if isinstance(value, int | float | str) else str(value)


def history_table(experiment: str, key: RunKey, history: list[dict[str, float]]) -> pl.DataFrame:
    """Per-epoch curves as the table `history` (long: epoch, name, value)."""
    rows: list[dict[str, object]] = [
        {
            "experiment": experiment,
            "model": key.model,
            "loss": key.loss,
            "seed": key.seed,
            "fold": key.fold,
            "epoch": int(entry["epoch"]),
            "name": name,
            "value": value,
        }
        for entry in history
        for name, value in entry.items()
        if name != "epoch"
    ]
    return tables.from_rows("history", rows)


def write_run(experiment: Experiment, plan: PlannedRun, result: TrainingResult, run: Path) -> None:
    """Write weights.safetensors, history.parquet and run.json of a finished run.

    Where its training keeps more weights, weights-METRIC.safetensors and averages.safetensors too.

    The record holds no times and no host: the same inputs give the same bytes.

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    from safetensors.torch import save

    files = {paths.weights(run): result.weights}
    files |= {paths.best_weights(run, name): best for name, best in result.others.items()}
    for path, weights in files.items():
        with output.replacing(path) as temporary:
            temporary.write_bytes(save(weights))
    if result.averages:
        with output.replacing(paths.averages(run)) as temporary:
            temporary.write_bytes(save(result.averages))
    selects = plan.task.training.predicting_metric if plan.fold.selection else LAST_EPOCH
    history = history_table(experiment.name, plan.key, result.history)
    output.write_parquet(history, paths.history(run))
    adapter = plan.task.adapter
    record = {
        "experiment": experiment.name,
        "model": plan.key.model,
        "loss": plan.key.loss,
        "seed": plan.key.seed,
        "fold": plan.key.fold,
        "run_digest": plan.run_digest,
        "config_digest": plan.config_digest,
        "params": plan.params,
        "epochs": len(result.history),
        "checkpoint_metric": selects,
        "best_epoch": result.best_epoch,
        "best_selection_dice": result.best_dice,
        "weights_sha256": provenance.file_sha256(paths.weights(run)),
        "cases": {
            "train": plan.fold.train,
            "selection": plan.fold.selection,
            "validation": plan.fold.validation,
        },
        "network": {
            "config": adapter.config.model_dump(mode="json"),
            "spacing_um": adapter.spacing_um,
            "patch_size": plan.task.patches.patch_size,
        },
        # Those that begin with sys_ depend on the machine: they are in MLflow and in the log.
        "decisions": [vars(d) for d in plan.decisions if not d.name.startswith("sys_")],
    }
    record |= _also_kept(plan, result, run)
    output.write_json(record, paths.run_record(run))


def _also_kept(plan: PlannedRun, result: TrainingResult, run: Path) -> dict[str, Any]:
    """What the record of a run says only where its config asked for it."""
    record: dict[str, Any] = {}
    if result.others:
        record["best_by_metric"] = {
            name: {
                "epoch": best_epoch(result.history, name),
                "sha256": provenance.file_sha256(paths.best_weights(run, name)),
            }
            for name in result.others
        }
    if is_own(plan.key.loss):
        file = source_file(plan.key.loss)
        record["loss_source"] = {"file": file.as_posix(), "sha256": provenance.file_sha256(file)}
    if plan.warm_start is not None:
        record["warm_start"] = asdict(plan.warm_start)
    if result.averages:
        record["averages_sha256"] = provenance.file_sha256(paths.averages(run))
    return record
