"""Whatever is done to a run, a plain restart ends with the same bytes: each stress, three kills."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from chaos.disturbances import DISTURBANCES, delete_database
from chaos.rounds import CYCLE, check, disturb
from chaos.stage import Reference, SkippedError, stage

from minivess.seeding import generator

pytestmark = pytest.mark.dag

# Several in one run: a run takes the better part of a minute. `just chaos` has each by itself.
ROUNDS = (
    ("kill", "shuffled", "kill", "kill"),
    # A disk can only be too small from the start.
    ("disk_full", "cores2", "sigterm", "interrupt", "database_locked"),
)
# With it the first kill comes while networks are trained.
SEED = 2


def test_every_disturbance_is_tested_here_and_by_the_recipe() -> None:
    # On one core: the second run of test_verify.py.
    here = {name for names in ROUNDS for name in names} | {"database", "cores1"}
    assert here == set(DISTURBANCES) == set(CYCLE) - {"mixed"}


@pytest.mark.parametrize("names", ROUNDS, ids="-".join)
def test_a_disturbed_run_ends_with_the_same_bytes(
    names: tuple[str, ...], undisturbed: Reference, tmp_path: Path
) -> None:
    rng = generator(SEED, "chaos", *names)
    with stage(tmp_path / "work", rng, undisturbed, print) as scene:
        try:
            disturb(scene, names)
        except SkippedError as skipped:
            pytest.skip(str(skipped))
        check(scene)


def test_a_deleted_database_is_filled_again_from_the_files(
    undisturbed: Reference, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(undisturbed.bench.folder, folder, symlinks=True)
    with stage(folder, generator(SEED, "chaos", "database"), undisturbed, print) as scene:
        delete_database(folder)
        scene.complete()
        assert "2 runs filled into MLflow" in scene.text
        check(scene)
