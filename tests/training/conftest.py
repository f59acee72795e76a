"""A tiny phantom, preprocessed once, and tasks that train on it within a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from minivess import output, paths
from minivess.config.schema import Experiment
from minivess.data.folds import Folds, make_folds, write_folds
from minivess.data.manifest import build_manifest
from minivess.data.phantom import write_phantom
from minivess.data.preprocess import open_case, preprocess_case
from minivess.data.skeletons import write_label_skeleton
from minivess.data.sources import list_cases
from minivess.losses import build_loss, needs_of
from minivess.models import build_adapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from minivess.training.trainer import TrainingTask

SMALL: dict[str, Any] = {
    "name": "demo",
    "losses": ("dice_ce",),
    "models": {"dynunet": {"filters": (4, 8, 8)}},
    "phantom": {"n_cases": 6, "phantom_shape": (24, 24, 8), "n_trees": 1},
    "folds": {"n_folds": 3},
    "patches": {"patch_size": (16, 16, 8), "batch_size": 2, "patches_per_epoch": 4},
    "training": {"epochs": 3, "selection_every": 1, "learning_rate": 1e-2},
    "compute": {"device": "cpu"},
}


def merged(base: dict[str, Any], updates: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in updates.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if nested else value
    return both


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What `prepare_torch` does in a step of its own, undone after the test."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # NaN where memory is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def make_experiment() -> Callable[..., Experiment]:
    """The small experiment with changes, section by section."""
    return lambda **updates: Experiment.model_validate(merged(SMALL, updates))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results folder with preprocessed cases and folds; read only."""
    root = tmp_path_factory.mktemp("results") / "demo"
    experiment = Experiment.model_validate(SMALL)
    write_phantom(experiment.phantom, paths.phantom_folder(root))
    manifest = build_manifest(list_cases(experiment, root), experiment.data)
    for row in manifest.to_dicts():
        folder = paths.preprocessed_case(root, row["case"])
        preprocess_case(row, experiment.data, experiment.preprocess, folder)
        write_label_skeleton(folder)
    output.write_parquet(manifest, paths.manifest(root))
    write_folds(make_folds(manifest, experiment.folds), paths.folds(root))
    return root


@pytest.fixture
def folds(root: Path) -> Folds:
    from minivess.data.folds import read_folds

    return read_folds(paths.folds(root))


@pytest.fixture
def make_task(
    root: Path, folds: Folds, make_experiment: Callable[..., Experiment]
) -> Callable[..., TrainingTask]:
    """The task of the first fold with changes to the experiment."""
    from minivess.training.trainer import TrainingTask

    def make(seed: int = 0, **updates: Any) -> TrainingTask:
        experiment = make_experiment(**updates)
        fold, needs = folds.folds[0], needs_of(experiment.losses[0])
        on_skeletons = "skeleton" in needs
        folders = [paths.preprocessed_case(root, case) for case in fold.train]
        return TrainingTask(
            adapter=build_adapter(experiment.models["dynunet"], (1.0, 1.0, 5.0)),
            loss=build_loss(experiment.losses[0], experiment.loss),
            train=[open_case(folder, on_skeletons) for folder in folders],
            selection=[open_case(paths.preprocessed_case(root, case)) for case in fold.selection],
            seed=seed,
            fold=0,
            patches=experiment.patches,
            augment=experiment.augment,
            training=experiment.training,
            compute=experiment.compute,
            needs=needs,
        )

    return make
