"""What result.json says of a set: intervals by the resampling of the analysis file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from minivess import output, paths
from minivess.config.plan import AnalysisPlan
from minivess.config.schema import DataConfig, Experiment, StatisticsConfig
from minivess.data.manifest import MANIFEST
from minivess.statistics.resampling import Resampling, mean_interval, sample
from minivess.steps.evaluated import case_set, write_result

GROUPS = {"c1": "one", "c2": "one", "c3": "one", "c4": "two", "c5": "two", "c6": "three"}
VALUES = [0.5, 0.52, 0.54, 0.8, 0.82, 0.9]


def manifest() -> pl.DataFrame:
    facts = {"image": "x.nii.gz", "label": "y.nii.gz", "locked": False, "spacing_unit": "um"}
    facts |= {name: "" for name in MANIFEST if "read_error" in name}
    rows = [{"case": case, "group": group, **facts} for case, group in GROUPS.items()]
    return pl.DataFrame(rows, schema={name: dtype for name, (dtype, _) in MANIFEST.items()})


def values() -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"set": "other", "case": case, "ensemble": kind, "metric": "dice", "value": value}
            for kind in ("mean", "vote")
            for case, value in zip(GROUPS, VALUES, strict=True)
        ]
    ).with_columns(status=pl.lit("ok"))


@pytest.mark.parametrize("resampling", ["groups_within_folds", "cases"])
def test_groups_are_drawn_where_the_analysis_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resampling: Resampling
) -> None:
    monkeypatch.setattr("minivess.data.volume.read_note", lambda path: "")
    statistics = StatisticsConfig(plan=AnalysisPlan(resampling=resampling), bootstrap_resamples=199)
    experiment = Experiment(name="small", statistics=statistics)
    output.write_parquet(manifest(), paths.manifest(tmp_path))
    cases = case_set("other", tmp_path, experiment, DataConfig())
    found = write_result(cases, values(), {})["metrics"]["mean"]["dice"]
    ends = {
        grouped: mean_interval(
            sample(VALUES, groups=list(GROUPS.values()) if grouped else []),
            statistics,
            "evaluated-set",
            "other",
            "dice",
        )[:2]
        for grouped in (True, False)
    }
    assert (found["ci_low"], found["ci_high"]) == ends[True]
    if resampling == "groups_within_folds":
        assert found["ci_high"] - found["ci_low"] > ends[False][1] - ends[False][0]  # type: ignore[operator]
