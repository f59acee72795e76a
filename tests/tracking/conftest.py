"""A real MLflow database, made once and copied; run folders as the trainer leaves them."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from minivess import output, paths
from minivess.metrics import METRICS
from minivess.statistics import tables
from minivess.tracking.store import prepare_store
from minivess.types import RunKey

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = "demo"
RUN = RunKey("dynunet", "dice_ce", 0, 1)


@dataclass
class RunFolder:
    """What to write for one run; the defaults make a small finished run."""

    run: RunKey
    digest: str = "digest-a"
    cases: tuple[str, ...] = ("mv01", "mv02")
    metrics: tuple[str, ...] = ("dice", "hd95_um")
    epochs: int = 3
    offset: float = 0.0
    statuses: dict[tuple[str, str], str] = field(default_factory=dict)
    params: dict[str, Any] = field(
        default_factory=lambda: {"arch_filters": 16, "loss_smooth": 1.0, "eval_tolerance": 2.0}
    )

    def columns(self) -> dict[str, Any]:
        run = self.run
        names = {"model": run.model, "loss": run.loss, "seed": run.seed, "fold": run.fold}
        return {"experiment": EXPERIMENT, **names}

    def value(self, case: str, metric: str) -> float:
        """A number with many digits that no two cells share."""
        text = f"{self.run}{case}{metric}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:6]) / 2**48 / 3 + self.offset

    def case_rows(self, case: str) -> list[dict[str, Any]]:
        return [
            {
                **self.columns(),
                "case": case,
                "metric": metric,
                "value": self.value(case, metric),
                "unit": METRICS[metric].unit,
                "status": self.statuses.get((case, metric), "ok"),
            }
            for metric in self.metrics
        ]

    def history(self) -> dict[str, dict[int, float]]:
        curves = {
            "train/loss": {epoch: 1 / (epoch + 2) for epoch in range(1, self.epochs + 1)},
            "train/learning_rate": {epoch: 1e-3 / epoch for epoch in range(1, self.epochs + 1)},
        }
        return {**curves, "selection/dice": {self.epochs: 1 / 7}}

    def write(self, root: Path) -> Path:
        """Write the files over those of an earlier call, whose other cases stay, as in reality."""
        folder = paths.run_folder(root, self.run)
        weights = b"weights of " + str(self.run).encode()
        folder.mkdir(parents=True, exist_ok=True)
        paths.weights(folder).write_bytes(weights)
        record = {
            **self.columns(),
            "run_digest": self.digest,
            "config_digest": "config-" + self.digest,
            "params": self.params,
            "epochs": self.epochs,
            "best_epoch": self.epochs,
            "best_selection_dice": 1 / 7,
            "cases": {"train": ["mv11"], "selection": ["mv12"], "validation": list(self.cases)},
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
        output.write_json(record, paths.run_record(folder))
        rows = [
            {**self.columns(), "epoch": epoch, "name": name, "value": value}
            for name, curve in self.history().items()
            for epoch, value in curve.items()
        ]
        output.write_parquet(tables.from_rows("history", rows), paths.history(folder))
        for case in self.cases:
            table = tables.from_rows("cases", self.case_rows(case))
            output.write_parquet(table, paths.case_metrics(folder, case))
            for path in (paths.prediction(folder, case), paths.probability(folder, case)):
                path.parent.mkdir(exist_ok=True)
                # A header without a note, and a name in place of the voxels.
                path.write_bytes(gzip.compress(bytes(352) + path.name.encode(), mtime=0))
        return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    prepare_store(f"sqlite:///{path}", EXPERIMENT)
    return path


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    """Address of a fresh database with the experiment in it."""
    path = tmp_path / "mlflow.db"
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results" / EXPERIMENT


@pytest.fixture
def experiment() -> str:
    return EXPERIMENT


@pytest.fixture
def run() -> RunKey:
    return RUN


@pytest.fixture
def run_folder() -> type[RunFolder]:
    return RunFolder
