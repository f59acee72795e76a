"""What a figure's step hands to the figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minivess import output, paths
from minivess.statistics import tables
from minivess.steps import report

from .conftest import configured
from .test_evaluated import GROUPS, manifest


def test_intervals_that_a_figure_computes_know_the_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("minivess.figures.make_figure", lambda *given: drawn.append(given[1]))
    configured(tmp_path)
    root = tmp_path / "results" / "small"
    output.write_parquet(tables.empty("reliability"), paths.table(root, "reliability"))
    output.write_parquet(manifest(), paths.manifest(root))
    report.figure(root, "reliability")
    assert [inputs.groups for inputs in drawn] == [GROUPS]
