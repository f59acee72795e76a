"""Which runs an experiment has."""

from __future__ import annotations

from pathlib import Path

from minivess import paths
from minivess.config.load import load_step
from minivess.types import RunKey


def experiment_runs(root: Path) -> list[RunKey]:
    """Every run of an experiment, from its resolved config and its folds."""
    from minivess.data.folds import read_folds

    config = load_step(paths.step_config(root, "experiment"))
    return config.runs(len(read_folds(paths.folds(root)).folds))
