"""Champions in a real model registry on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivess.errors import MinivessError
from minivess.tracking.registry import CHAMPION_TAG, WEIGHTS_TAG, model_name, register_champions
from minivess.tracking.store import connection
from minivess.tracking.sync import sync_experiment
from minivess.types import RunKey

ONE, TWO = RunKey("dynunet", "dice_ce", 0, 0), RunKey("dynunet", "cldice", 0, 0)


@pytest.fixture
def filled(uri: str, root: Path, experiment: str, run_folder: type, monkeypatch: object) -> str:
    monkeypatch.chdir(root.parents[1])  # type: ignore[attr-defined]
    for run in (ONE, TWO):
        run_folder(run).write(root)
    sync_experiment(uri, experiment, root, [ONE, TWO])
    return uri


def champion_tags(uri: str, experiment: str) -> dict[str, str | None]:
    with connection(uri) as client:
        found = client.get_experiment_by_name(experiment)
        runs = client.search_runs([found.experiment_id])
    return {run.data.tags["minivess.run"]: run.data.tags.get(CHAMPION_TAG) for run in runs}


def test_aliases_versions_and_tags(filled: str, experiment: str) -> None:
    winners = {"overlap": (ONE, "a" * 64), "topology": (TWO, "b" * 64), "balanced": (ONE, "a" * 64)}
    numbers = register_champions(filled, experiment, winners)
    assert numbers["overlap"] == numbers["balanced"] != numbers["topology"]
    with connection(filled) as client:
        version = client.get_model_version_by_alias(model_name(experiment), "topology")
    assert version.tags[WEIGHTS_TAG] == "b" * 64
    assert version.source == f"results/{experiment}/runs/{TWO}", "relative: the folder may move"
    expected = {str(ONE): "balanced,overlap", str(TWO): "topology"}
    assert champion_tags(filled, experiment) == expected


def test_again_makes_nothing_new_and_a_new_winner_takes_the_alias(
    filled: str, experiment: str
) -> None:
    first = register_champions(filled, experiment, {"overlap": (ONE, "a" * 64)})
    assert register_champions(filled, experiment, {"overlap": (ONE, "a" * 64)}) == first
    other = register_champions(filled, experiment, {"overlap": (TWO, "b" * 64)})
    assert other != first
    assert champion_tags(filled, experiment) == {str(ONE): None, str(TWO): "overlap"}
    with connection(filled) as client:
        assert len(client.search_model_versions(f"name='{model_name(experiment)}'")) == 2


def test_a_run_that_mlflow_lacks(filled: str, experiment: str) -> None:
    missing = RunKey("dynunet", "dice_ce", 5, 0)
    with pytest.raises(MinivessError, match="MV-TRACK-003") as caught:
        register_champions(filled, experiment, {"overlap": (missing, "a" * 64)})
    # A run of the experiment alone would do nothing: Snakemake does not look into the store.
    root = f"results/{experiment}"
    fill = f"--config experiment={root}/config/experiment.yaml --force {root}/tracked.json"
    assert fill in caught.value.fix
