"""A round: a fresh folder, one kind of stress, a plain restart, and what must be true then."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chaos.disturbances import DISTURBANCES
from chaos.stage import DisorderError, Reference, SkippedError, Stage, stage
from minivess.errors import MinivessError
from minivess.reproducibility.compare import check_same, compare_digests
from minivess.seeding import generator

# Kinds of the rounds 0, 1, 2, ..., over and over.
CYCLE = (
    "kill",
    "cores1",
    "shuffled",
    "kill",
    "sigterm",
    "disk_full",
    "kill",
    "interrupt",
    "database",
    "mixed",
    "database_locked",
    "cores2",
)
# What a mixed round draws from, as often as it likes.
MIXED = ("kill", "kill", "sigterm", "interrupt", "database", "database_locked", "shuffled")
# Kinds that no start may fail for; after the others a second one may, beside what goes on.
CALM = {"cores1", "cores2", "shuffled", "database_locked"}
ATTEMPTS = 4
TEMPORARY = re.compile(r"\.\d+\..+|\.creating\..+")


@dataclass(frozen=True)
class Outcome:
    """How a round ended: equal, skipped or failed, and why if not equal."""

    index: int
    kind: str
    seconds: float
    result: str
    reason: str = ""


def kind_of(index: int) -> str:
    """Kind of a round.

    >>> kind_of(0), kind_of(12)
    ('kill', 'kill')
    """
    return CYCLE[index % len(CYCLE)]


def disturbances_of(kind: str, rng: np.random.Generator) -> list[str]:
    """What is done in a round, in order.

    >>> disturbances_of("sigterm", np.random.default_rng(0))
    ['sigterm']
    """
    if kind == "kill":
        return ["kill"] * int(rng.choice([1, 1, 2, 3]))
    if kind == "mixed":
        return [str(name) for name in rng.choice(MIXED, size=3)]
    return [kind]


def play(
    index: int, kind: str, seed: int, folder: Path, reference: Reference, say: Callable[[str], None]
) -> Outcome:
    """Play one round; every choice in it follows from seed and index."""
    begin = time.monotonic()
    rng = generator(seed, "chaos", index)
    done = disturbances_of(kind, rng)
    cores = 1 if rng.random() < 0.3 else 2
    result, reason = "equal", ""
    try:
        with stage(folder, rng, reference, say) as scene:
            scene.cores = cores
            disturb(scene, done)
            check(scene)
    except SkippedError as skipped:
        result, reason = "skipped", str(skipped)
    except (DisorderError, MinivessError) as error:
        result, reason = "failed", str(error)
    return Outcome(index, kind, time.monotonic() - begin, result, reason)


def disturb(scene: Stage, names: Sequence[str]) -> None:
    """Disturb the experiment and bring it to its end by plain restarts."""
    scene.attempts = 1 if set(names) <= CALM else ATTEMPTS
    for name in names:
        DISTURBANCES[name](scene)
    scene.complete()


def check(scene: Stage) -> None:
    """Raise where anything is not as after an undisturbed run.

    Raises:
        DisorderError: processes or temporary files are left, MLflow is not complete.
        MinivessError: MV-STATE-006 the first file that differs.
    """
    scene.nobody_left()
    bench, reference = scene.bench, scene.reference
    for what, expected, found in (
        ("SHA256SUMS of this round", reference.sums, bench.recorded()),
        ("the files of this round", reference.files, bench.digests()),
    ):
        comparison = compare_digests(expected, found)
        check_same(reference.bench.root, bench.root, comparison, what)
    left = [path for path in bench.folder.rglob(".*") if TEMPORARY.fullmatch(path.name)]
    if left:
        raise DisorderError(f"temporary files are left: {', '.join(map(str, left))}")
    statuses = tracked_statuses(bench.folder / "mlflow.db", bench.name)
    runs = {"/".join(Path(name).parts[1:5]) for name in reference.sums if "run.json" in name}
    if statuses != [(name, "FINISHED") for name in sorted(runs)]:
        raise DisorderError(f"MLflow has {statuses}")
    if aliases := missing_aliases(bench.folder / "mlflow.db", bench.name):
        raise DisorderError(f"MLflow's registry lacks the aliases {', '.join(aliases)}")


def missing_aliases(database: Path, experiment: str) -> list[str]:
    """Rules of which MLflow's registry has no champion."""
    from minivess.statistics.champion import RULES
    from minivess.tracking.registry import model_name
    from minivess.tracking.store import connection

    with connection(f"sqlite:///{database}", write=False) as client:
        models = client.search_registered_models(f"name='{model_name(experiment)}'")
    known = {alias for model in models for alias in model.aliases}
    return sorted(RULES.keys() - known)


def tracked_statuses(database: Path, experiment: str) -> list[tuple[str, str]]:
    """Every run that MLflow has of an experiment, with its status."""
    from minivess.tracking.mlflow_log import RUN_TAG, runs_of
    from minivess.tracking.store import connection

    with connection(f"sqlite:///{database}", write=False) as client:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return []
        runs = runs_of(client, found.experiment_id)
    return sorted((run.data.tags.get(RUN_TAG, ""), run.info.status) for run in runs)
