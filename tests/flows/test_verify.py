from __future__ import annotations

import os
from pathlib import Path

import pytest

from minivess.config.load import resolve_mapping
from minivess.flows.verify import OWN, levels_up, mirror


def up(**data: str) -> int:
    values = {"name": "x", "data": {"source": "csv", **data}}
    return levels_up(resolve_mapping(values, {}, "x.yaml"))


def test_how_far_up_the_users_files_are() -> None:
    assert up(path="cases.csv") == 0
    assert up(path="../shared/cases.csv") == 1
    assert up(path="data/../../../shared/cases.csv") == 2
    assert up(path=os.path.abspath("../cases.csv")) == 0  # noqa: PTH100
    other = {"name": "x", "external": {"other": {"source": "csv", "path": "../../cases.csv"}}}
    assert levels_up(resolve_mapping(other, {}, "x.yaml")) == 2


def test_weights_and_volumes_of_a_list_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models = {"v": {"architecture": "vesselfm", "weights": "../weights/v.pt"}}
    assert levels_up(resolve_mapping({"name": "x", "models": models}, {}, "x.yaml")) == 1
    rows = "case,image,label\na,../../volumes/a.tif,a_y.tif\n"
    (tmp_path / "cases.csv").write_text(rows, encoding="utf-8")
    assert up(path="cases.csv") == 2


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_every_relative_path_leads_to_the_same_file_but_the_results(
    levels: int, tmp_path: Path
) -> None:
    project = tmp_path / "home" / "group" / "project"
    (project / "results" / "x").mkdir(parents=True)
    (project / "mlflow.db").touch()
    (project / "data").mkdir()
    files = ["data/a.tif", "../shared.csv", "../../volumes/b.tif"][: levels + 1]
    for name in files:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(name, encoding="utf-8")
    working = mirror(tmp_path / "elsewhere", project, levels)
    for name in files:
        assert (working / name).read_text(encoding="utf-8") == name
    assert not any((working / name).exists() for name in OWN)
    # Once more, as after an interrupted verification.
    assert mirror(tmp_path / "elsewhere", project, levels) == working
