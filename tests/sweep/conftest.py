"""A folder that looks like the project, with the file of a sweep over a tiny experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sweep_project import RATES, Make
from workbench import Workbench

from minivess.sweep.space import Sweep, load_sweep


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes the file of a sweep with some keys and loads it."""
    workbench = Workbench(tmp_path)
    workbench.write_config(losses=["dice_ce"])
    workbench.look_like_the_project()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def made(space: dict[str, Any] = RATES, **keys: Any) -> Sweep:
        values = {"experiment": "tiny.yaml", "space": space, **keys}
        Path("rates.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        return load_sweep("rates.yaml", {}, Path())

    return made
