"""What the page says about a mask is what the tables say about it."""

from __future__ import annotations

import polars as pl
import pytest
from workbench import Workbench

from minivess import paths
from minivess.data.volume import read_volume
from minivess.deploy.views import vessel_statistics
from minivess.types import RunKey


@pytest.mark.dag
def test_statistics_are_those_of_the_table(finished: Workbench) -> None:
    cases = pl.read_parquet(paths.table(finished.root, "cases"))
    masks = cases.select("model", "loss", "seed", "fold", "case").unique(maintain_order=True)
    spacing_um = (1.0, 1.0, 5.0)
    for *key, case in masks.iter_rows():
        path = paths.prediction(paths.run_folder(finished.root, RunKey(*key)), case)
        statistics = vessel_statistics(read_volume(path).array > 0, spacing_um)
        of_case = cases.filter(**dict(zip(masks.columns, (*key, case), strict=True)))
        table = dict(of_case.select("metric", "value").iter_rows())
        found = {one.id: one.value for one in statistics if one.id in table}
        assert len(found) == 6
        assert found == pytest.approx({name: table[name] for name in found}, rel=1e-12)
