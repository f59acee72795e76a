"""Exported champions in a real model registry on SQLite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minivess.errors import MinivessError
from minivess.tracking.exported import ONNX_TAG, Exported, exported_name, register_exported
from minivess.tracking.store import connection
from minivess.tracking.sync import sync_experiment
from minivess.types import RunKey

ONE, TWO = RunKey("dynunet", "dice_ce", 0, 0), RunKey("dynunet", "cldice", 0, 0)
FIRST = Exported(ONE, "a" * 64, "results/x/deploy/overlap", {"licence": "cc-by-4.0"}, "first")
SECOND = Exported(TWO, "b" * 64, "results/x/deploy/balanced", {"licence": "cc-by-4.0"}, "second")


@pytest.fixture
def filled(uri: str, root: Path, experiment: str, run_folder: type, monkeypatch: object) -> str:
    monkeypatch.chdir(root.parents[1])  # type: ignore[attr-defined]
    for run in (ONE, TWO):
        run_folder(run).write(root)
    sync_experiment(uri, experiment, root, [ONE, TWO])
    return uri


def test_versions_aliases_tags_and_what_happens_again(filled: str, experiment: str) -> None:
    both = {"overlap": FIRST, "topology": FIRST, "balanced": SECOND}
    numbers = register_exported(filled, experiment, both)
    assert numbers["overlap"] == numbers["topology"] != numbers["balanced"]
    assert register_exported(filled, experiment, both) == numbers
    name = exported_name(experiment)
    with connection(filled) as client:
        champion = client.get_model_version_by_alias(name, "champion")
        assert str(champion.version) == numbers["balanced"]
        assert champion.source == SECOND.source, "relative: the folder may move"
        assert champion.tags[ONNX_TAG] == "b" * 64
        assert champion.tags["licence"] == "cc-by-4.0"
        assert champion.description == "second"
        assert len(client.search_model_versions(f"name='{name}'")) == 2
    other = {**both, "balanced": replace(FIRST, tags={"licence": "mit"})}
    again = register_exported(filled, experiment, other)
    with connection(filled) as client:
        champion = client.get_model_version_by_alias(name, "champion")
    assert str(champion.version) == again["balanced"] == numbers["overlap"]
    assert champion.tags["licence"] == "mit"


def test_a_run_that_mlflow_lacks(filled: str, experiment: str) -> None:
    missing = replace(FIRST, run=RunKey("dynunet", "dice_ce", 5, 0))
    with pytest.raises(MinivessError, match="MV-TRACK-003"):
        register_exported(filled, experiment, {"overlap": missing})
