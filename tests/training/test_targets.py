"""What a loss is given beside the network's output, and that it decides what is learnt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from minivess import paths
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.patches import locate_patch
from minivess.data.preprocess import LABEL_SKELETON
from minivess.training.loading import batches
from minivess.training.run import plan_run
from minivess.training.targets import targets
from minivess.training.trainer import fit
from minivess.types import RunKey, Spacing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.config.schema import Experiment
    from minivess.data.folds import Folds
    from minivess.data.preprocess import PreparedCase
    from minivess.training.trainer import TrainingTask

    type MakeTask = Callable[..., TrainingTask]

SHORT: dict[str, Any] = {"training": {"epochs": 2, "selection_every": 2}}
STILL = {"affine_probability": 0.0}


def trained(task: TrainingTask, folder: Path) -> bytes:
    from safetensors.torch import save

    return save(fit(task, folder, lambda row: None).weights)


def spaced(case: PreparedCase, spacing: Spacing) -> PreparedCase:
    return replace(case, geometry=Geometry(case.shape, diagonal_affine(spacing)))


def test_a_loss_that_needs_nothing_gets_the_label_as_it_is(make_task: MakeTask) -> None:
    task = make_task(losses=("dice_ce",))
    _, labels = next(batches(task, 1))
    found, needed = targets(task, labels, (1, 0))
    assert found is labels
    assert not needed


def test_label_and_skeleton_of_a_batch(make_task: MakeTask) -> None:
    task, plain = (make_task(losses=(name,)) for name in ("skeleton_recall", "dice_ce"))
    seen = 0
    for index, ((_, labels), (_, expected)) in enumerate(
        zip(batches(task, 1), batches(plain, 1), strict=True)
    ):
        label, needed = targets(task, labels, (1, index))
        assert list(needed) == ["skeleton"]
        np.testing.assert_array_equal(label, expected)
        assert label.dtype == expected.dtype
        skeleton = needed["skeleton"]
        assert set(skeleton.unique().tolist()) <= {0, 1}
        assert not (skeleton.bool() & ~label.bool()).any()
        seen += int(skeleton.sum())
    assert seen > 0


def test_each_patch_has_the_spacing_of_its_case(make_task: MakeTask) -> None:
    task = make_task(losses=("boundary",), patches={"patches_per_epoch": 5})
    spacings: list[Spacing] = [(3.0, 2.0, 1.0), (1.0, 1.0, 5.0), (0.5, 0.5, 0.5)]
    cases = [spaced(case, spacings[n % 3]) for n, case in enumerate(task.train)]
    task = replace(task, train=cases)
    seen: set[Spacing] = set()
    shown = [labels for _, labels in batches(task, 2)]
    assert [len(labels) for labels in shown] == [2, 2, 1]
    for batch, labels in enumerate(shown):
        _, needed = targets(task, labels, (2, batch))
        rows = [tuple(row) for row in needed["spacing_um"].tolist()]
        for offset, row in enumerate(rows):
            place = locate_patch(cases, task.patches, (0, 0, 2), 2 * batch + offset)
            assert row == cases[place.case].spacing_um
        assert len(rows) == len(labels)
        seen |= set(rows)
    assert len(seen) > 1


def test_the_skeleton_decides_the_trained_bytes(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(losses=("dice_ce_skeleton_recall",), **SHORT)
    ours = trained(task, tmp_path / "ours")
    plain = trained(make_task(losses=("dice_ce",), **SHORT), tmp_path / "plain")
    assert ours != plain
    # Without any skeleton the term is a constant.
    without = [replace(case, label=np.minimum(np.asarray(case.label), 1)) for case in task.train]
    assert trained(replace(task, train=without), tmp_path / "without") == plain


@pytest.mark.parametrize(
    ("loss", "same"), [("generalized_dice_boundary", False), ("generalized_dice", True)]
)
def test_the_spacing_decides_the_trained_bytes_of_a_loss_of_distances(
    make_task: MakeTask, tmp_path: Path, loss: str, same: bool
) -> None:
    task = make_task(losses=(loss,), augment=STILL, **SHORT)
    other = replace(task, train=[spaced(case, (3.0, 2.0, 1.0)) for case in task.train])
    cubes = replace(task, train=[spaced(case, (0.5, 0.5, 0.5)) for case in task.train])
    found = [trained(t, tmp_path / str(n)) for n, t in enumerate((task, other, cubes))]
    assert (len(set(found)) == 1) is same
    assert (found[1] == found[2]) is same


def test_stopped_after_an_epoch_it_goes_on_to_the_same_bytes(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(losses=("dice_ce_skeleton_recall",), **SHORT)

    def stop(row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(task, tmp_path / "state", stop)
    assert trained(task, tmp_path / "state") == trained(task, tmp_path / "whole")


def test_the_digest_of_a_run_has_the_skeletons_that_it_trains_on(
    make_experiment: Callable[..., Experiment], folds: Folds, root: Path, tmp_path: Path
) -> None:
    import shutil

    own = tmp_path / "demo"
    shutil.copytree(root, own)
    keys = [RunKey("dynunet", loss, 0, 0) for loss in ("dice_ce_skeleton_recall", "dice_ce")]
    before = [plan_run(make_experiment(), key, folds, own) for key in keys]
    assert before[0].task.needs == {"skeleton"}
    assert max(np.asarray(case.label).max() for case in before[0].task.train) == 2
    assert max(np.asarray(case.label).max() for case in before[0].task.selection) == 1
    assert max(np.asarray(case.label).max() for case in before[1].task.train) == 1
    file = paths.label_skeleton(own, folds.folds[0].train[0])
    assert file.name == LABEL_SKELETON
    np.save(file, np.minimum(np.load(file), 1))
    after = [plan_run(make_experiment(), key, folds, own) for key in keys]
    assert after[0].state_key != before[0].state_key
    assert after[1].state_key == before[1].state_key


def test_the_step_leaves_locked_cases_alone(
    root: Path, tmp_path: Path, make_experiment: Callable[..., Experiment]
) -> None:
    import shutil

    import polars as pl

    from minivess.steps import data
    from minivess.workflow import Plan

    own = tmp_path / "demo"
    shutil.copytree(root, own)
    table = pl.read_parquet(paths.manifest(own))
    names = table["case"].to_list()
    table.with_columns(locked=pl.col("case") == names[1]).write_parquet(paths.manifest(own))
    made = {name: paths.label_skeleton(own, name) for name in names}
    before = {name: file.read_bytes() for name, file in made.items()}
    for file in made.values():
        file.unlink()
    data.skeletons(own)
    assert [name for name, file in made.items() if not file.exists()] == [names[1]]
    assert all(made[name].read_bytes() == before[name] for name in names if name != names[1])
    experiment = make_experiment(folds={"n_folds": 2, "test_cases": (names[1],)})
    plan = Plan(experiment, own, tuple(names), (), (), 2)
    assert plan.unlocked() == tuple(name for name in names if name != names[1])
