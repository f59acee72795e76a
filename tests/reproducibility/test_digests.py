from __future__ import annotations

from pathlib import Path

import pytest

from minivess.config.ensembles import EnsemblesConfig
from minivess.config.training import TrainingConfig
from minivess.errors import MinivessError
from minivess.reproducibility.digests import (
    as_text,
    declared_files,
    ensemble_volumes,
    read_digests,
)
from minivess.types import RunKey

ROOT = Path("results/x")
RUNS = [RunKey("net", "dice_ce", 0, fold) for fold in (0, 1)]
ENSEMBLES = EnsemblesConfig(kinds=("mean", "vote"))
HELD_OUT = {0: ("a", "b"), 1: ("c",)}


def names() -> list[str]:
    made = [ROOT / "data/phantom/images/a.nii.gz"]
    files = declared_files(ROOT, made, RUNS, lambda fold: HELD_OUT[fold], ENSEMBLES)
    return [path.relative_to(ROOT).as_posix() for path in files]


def test_each_file_once_and_after_what_it_is_made_from() -> None:
    found = names()
    assert len(set(found)) == len(found)
    order = [
        "data/phantom/images/a.nii.gz",
        "data/manifest.parquet",
        "data/preprocessed/c/image.npy",
        "folds.json",
        "runs/net/dice_ce/seed0/fold1/weights.safetensors",
        "runs/net/dice_ce/seed0/fold1/predictions/c.nii.gz",
        "runs/net/dice_ce/seed0/fold1/metrics/c.parquet",
        "ensembles/net/dice_ce/fold1/ensembles.json",
        "tracked.json",
        "tables/cases.parquet",
        "tables/summary.json",
        "figures/paired_cases.svg",
    ]
    places = [found.index(name) for name in order]
    assert places == sorted(places)


def test_a_case_is_predicted_by_the_run_that_held_it_out() -> None:
    predicted = [name for name in names() if name.endswith("a.nii.gz") and "predictions" in name]
    assert predicted == ["runs/net/dice_ce/seed0/fold0/predictions/a.nii.gz"]


def test_the_volumes_of_ensembles_and_none_without_ensembles() -> None:
    files = ensemble_volumes(ROOT, RUNS, lambda fold: HELD_OUT[fold], ENSEMBLES)
    below = [path.relative_to(ROOT / "ensembles/net/dice_ce").as_posix() for path in files]
    assert len(set(below)) == len(below) == 3 * (5 + 2)
    assert "fold0/mean/seed0/predictions/b_mutual_information.nii.gz" in below
    assert "fold1/vote/seed0/predictions/c.nii.gz" in below
    none = EnsemblesConfig()
    assert ensemble_volumes(ROOT, RUNS, lambda fold: HELD_OUT[fold], none) == []
    assert not any("ensembles/" in name for name in names_without())


def test_skeletons_where_a_loss_needs_them() -> None:
    assert not any(name.endswith("label_skeleton.npy") for name in names())
    runs = [*RUNS, RunKey("net", "dice_ce_skeleton_recall", 0, 0)]
    files = declared_files(ROOT, [], runs, lambda fold: HELD_OUT[fold], EnsemblesConfig())
    found = [path.as_posix() for path in files]
    ours = [f"results/x/data/preprocessed/{case}/label_skeleton.npy" for case in "abc"]
    assert [name for name in found if name.endswith("label_skeleton.npy")] == ours
    assert found.index(ours[-1]) < found.index("results/x/data/skeletons.json")
    assert "results/x/data/skeletons.json" not in names()


def test_averaged_weights_where_trainings_keep_them() -> None:
    keeping = TrainingConfig(swa_start=2, selection_metrics=("dice", "cldice"))
    for training, times in ((TrainingConfig(), 0), (keeping, 1)):
        files = declared_files(ROOT, [], RUNS, lambda fold: HELD_OUT[fold], ENSEMBLES, training)
        for name in ("averages.safetensors", "weights-cldice.safetensors"):
            assert sum(path.name == name for path in files) == len(RUNS) * times


def names_without() -> list[str]:
    files = declared_files(ROOT, [], RUNS, lambda fold: HELD_OUT[fold], EnsemblesConfig())
    return [path.as_posix() for path in files]


def test_digests_are_read_as_they_were_written(tmp_path: Path) -> None:
    digests = {"data/b c.json": "0" * 64, "a.json": "f" * 64}
    path = tmp_path / "SHA256SUMS"
    path.write_text(as_text(digests), encoding="utf-8")
    assert list(read_digests(path).items()) == list(digests.items())


def test_no_digests_and_damaged_digests(tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        read_digests(path)
    path.write_text("0" * 64 + "  a.json\n<<<<<<< HEAD\n", encoding="utf-8")
    with pytest.raises(MinivessError, match="MV-STATE-003") as caught:
        read_digests(path)
    assert "line 2" in caught.value.where
