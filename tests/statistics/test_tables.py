"""The tables' schemas: right tables pass, wrong ones do not."""

from __future__ import annotations

from pathlib import Path

import pandera.errors
import polars as pl
import pytest

from minivess import output
from minivess.errors import MinivessError
from minivess.statistics import tables

BASELINE = [
    {"case": "b", "threshold": 0.4, "dice": 0.7},
    {"case": "a", "threshold": 0.5, "dice": 0.6},
]


@pytest.mark.parametrize("name", tables.COLUMNS)
def test_empty_table_passes_its_schema(name: str) -> None:
    table = tables.schema(name).validate(tables.empty(name))
    assert table.columns == list(tables.COLUMNS[name])


def test_every_column_has_a_meaning() -> None:
    for columns in tables.COLUMNS.values():
        assert all(text.strip() for _, text in columns.values())


def test_from_rows_sorts_and_types() -> None:
    table = tables.from_rows("baseline", BASELINE)
    assert table["case"].to_list() == ["a", "b"]
    assert table.schema == {
        "case": pl.String,
        "threshold": pl.Float64,
        "dice": pl.Float64,
    }
    assert tables.from_rows("baseline", []).height == 0


@pytest.mark.parametrize(
    "wrong",
    [
        pl.DataFrame({"case": ["a"], "threshold": [0.5]}),
        pl.DataFrame({"threshold": [0.5], "case": ["a"], "dice": [0.5]}),
        pl.DataFrame({"case": ["a"], "threshold": [0.5], "dice": [0.5], "more": [1]}),
        pl.DataFrame({"case": ["a"], "threshold": [1], "dice": [0.5]}),
        pl.DataFrame({"case": [None], "threshold": [0.5], "dice": [0.5]}),
    ],
    ids=["column missing", "order", "column too many", "type", "null"],
)
def test_schema_refuses(wrong: pl.DataFrame) -> None:
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        tables.schema("baseline").validate(wrong)


def test_nulls_only_where_named() -> None:
    row: dict[str, object] = {
        "model": "m",
        "loss": "l",
        "metric": "dice",
        "unit": "1",
        "n_cases": 1,
        "n_not_ok": 0,
        "mean": 0.5,
        "sd": None,
        "ci_low": None,
        "ci_high": None,
        "ci_method": "none",
        "plan_sha256": "0" * 64,
    }
    tables.schema("summary").validate(tables.from_rows("summary", [row]))
    with pytest.raises(pandera.errors.SchemaError):
        tables.schema("summary").validate(tables.from_rows("summary", [{**row, "mean": None}]))


def test_read_returns_what_was_written(tmp_path: Path) -> None:
    table = tables.from_rows("baseline", BASELINE)
    output.write_parquet(table, tmp_path / "baseline.parquet")
    assert tables.read("baseline", tmp_path / "baseline.parquet").equals(table)


def test_read_of_a_missing_table_tells_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        tables.read("baseline", tmp_path / "baseline.parquet")
    assert caught.value.code == "MV-STATE-002"
    assert "baseline.parquet" in caught.value.fix


def test_read_refuses_another_table(tmp_path: Path) -> None:
    output.write_parquet(tables.empty("summary"), tmp_path / "baseline.parquet")
    with pytest.raises(MinivessError) as caught:
        tables.read("baseline", tmp_path / "baseline.parquet")
    assert caught.value.code == "MV-STATE-003"
