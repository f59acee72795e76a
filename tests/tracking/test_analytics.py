"""SQL over real Parquet files: right answers, clear errors, no way out of the tables."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import output, paths
from minivess.errors import MinivessError
from minivess.statistics import tables
from minivess.tracking.analytics import describe, open_views, query

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def filled(root: Path, run: Any, run_folder: Any) -> Path:
    source = run_folder(run)
    rows = [row for case in source.cases for row in source.case_rows(case)]
    output.write_parquet(tables.from_rows("cases", rows), paths.table(root, "cases"))
    output.write_parquet(tables.empty("summary"), paths.table(root, "summary"))
    manifest = pl.DataFrame({"case": ["mv01", "mv02"], "n_z": [20, 40]})
    output.write_parquet(manifest, paths.manifest(root))
    # A table that is being written is none yet.
    (root / "tables" / ".12.runs.parquet").write_bytes(b"PAR1")
    return root


def _digests(root: Path) -> dict[str, str]:
    return {
        path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.parent.rglob("*"))
        if path.is_file()
    }


def test_the_tables_and_the_manifest_are_there(filled: Path) -> None:
    with open_views(filled) as connection:
        found = describe(connection)
    assert sorted(found) == ["cases", "manifest", "summary"]
    assert found["cases"] == list(tables.COLUMNS["cases"])


def test_a_query_agrees_with_polars(filled: Path) -> None:
    found = query(
        filled,
        "SELECT metric, avg(value) AS mean, count(*) AS n, max(n_z) AS z "
        'FROM cases JOIN manifest USING ("case") GROUP BY metric ORDER BY metric',
    )
    expected = (
        pl.read_parquet(paths.table(filled, "cases"))
        .join(pl.read_parquet(paths.manifest(filled)), on="case")
        .group_by("metric")
        .agg(mean=pl.col("value").mean(), n=pl.len(), z=pl.col("n_z").max())
        .sort("metric")
    )
    assert found.columns == expected.columns
    assert found["metric"].equals(expected["metric"])
    assert found["n"].to_list() == expected["n"].to_list()
    assert found["z"].to_list() == expected["z"].to_list()
    assert found["mean"].to_list() == pytest.approx(expected["mean"].to_list(), rel=1e-15)


def test_a_table_comes_back_as_it_was_written(filled: Path) -> None:
    assert query(filled, "FROM cases").equals(pl.read_parquet(paths.table(filled, "cases")))
    assert query(filled, "FROM summary").height == 0


@pytest.mark.parametrize(
    "sql", ["SELECT nothing FROM cases", "SELEC 1", "SELECT * FROM runs", "", "SET threads = 4"]
)
def test_bad_sql_lists_tables_and_columns(filled: Path, sql: str) -> None:
    with pytest.raises(MinivessError) as caught:
        query(filled, sql)
    assert caught.value.code == "MV-QUERY-001"
    assert "cases(experiment, model, loss" in caught.value.expected
    assert "manifest(case, n_z)" in caught.value.expected
    assert caught.value.found


def test_a_query_reaches_nothing_outside(filled: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n", encoding="utf-8")
    target = tmp_path / "stolen.csv"
    outside = pl.DataFrame({"a": [1]})
    assert outside.height == 1
    before = _digests(filled)
    for sql in (
        f"COPY cases TO '{target}'",
        f"COPY (SELECT 1) TO '{target}' (FORMAT parquet)",
        f"EXPORT DATABASE '{target}'",
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_text('{secret}')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        f"SELECT * FROM read_parquet('{paths.table(filled, 'cases')}')",
        f"ATTACH '{target}' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM outside",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET python_enable_replacements = true",
        "RESET enable_external_access",
        f"SET temp_directory = '{target}'",
        f"PRAGMA enable_profiling; SET profiling_output = '{target}'; SELECT 1",
    ):
        with pytest.raises(MinivessError) as caught:
            query(filled, sql)
        assert caught.value.code == "MV-QUERY-001", sql
    assert not target.exists()
    assert _digests(filled) == before


def test_changes_stay_in_memory(filled: Path) -> None:
    before = _digests(filled)
    with open_views(filled) as connection:
        connection.execute("DELETE FROM cases")
        assert connection.execute("SELECT count(*) FROM cases").fetchall() == [(0,)]
    assert _digests(filled) == before
    assert query(filled, "FROM cases").height > 0


def test_the_first_query_needs_tables(root: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        query(root, "SELECT 1")
    assert caught.value.code == "MV-STATE-002"


def test_a_broken_table_is_named(filled: Path) -> None:
    broken = paths.table(filled, "runs")
    broken.write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(MinivessError) as caught:
        query(filled, "SELECT 1")
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == broken.as_posix()


def test_paths_with_quotes_and_wildcards(tmp_path: Path) -> None:
    root = tmp_path / "it's [odd]*" / "demo"
    table = pl.DataFrame({"x": [1, 2]})
    output.write_parquet(table, paths.table(root, "odd-name"))
    assert query(root, 'FROM "odd-name"').equals(table)


def test_no_extension_and_no_network(filled: Path) -> None:
    with open_views(filled) as connection:
        for name in ("autoinstall_known_extensions", "autoload_known_extensions"):
            assert connection.execute(f"SELECT current_setting('{name}')").fetchall() == [(False,)]
        with pytest.raises(duckdb.PermissionException):
            connection.execute("FROM read_json('http://127.0.0.1:9/x.json')")


def test_whole_numbers_stay_whole(filled: Path) -> None:
    found = query(filled, "SELECT sum(n_z) AS total, count(*) AS n FROM manifest")
    assert found.row(0) == (60, 2)
    assert found["n"].dtype == pl.Int64


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_sums_are_the_same_every_time(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    root = tmp_path_factory.mktemp("sums")
    output.write_parquet(pl.DataFrame({"x": values}), paths.table(root, "t"))
    sums = {query(root, "SELECT sum(x) FROM t").item() for _ in range(2)}
    assert len(sums) == 1
    assert sums.pop() == pytest.approx(sum(values), abs=1e-6)
