"""SQL over the tables of an experiment, with DuckDB, for questions that no figure answers.

The tables are read into memory and the database is then closed to everything outside it: a query
can neither read nor write a file, reach the network, load an extension or see a Python variable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess import output, paths
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import polars as pl

# One thread, so that sums of floats are added in one order.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "threads": 1,
}
_CLOSE = ("SET enable_external_access = false", "SET lock_configuration = true")


def table_files(root: Path) -> dict[str, Path]:
    """Parquet tables of a results folder by the name a query uses: tables/*.parquet, manifest."""
    files = {
        path.stem: path
        for path in sorted((root / "tables").glob("*.parquet"))
        if not path.name.startswith(".")
    }
    if paths.manifest(root).exists():
        files["manifest"] = paths.manifest(root)
    return files


def open_views(root: Path) -> duckdb.DuckDBPyConnection:
    """A connection to a database in memory that has the tables of a results folder, and only them.

    The files are read once, now; the caller closes the connection.

    Raises:
        MinivessError: MV-STATE-002 no table is there yet, MV-STATE-003 a file is damaged.
    """
    import duckdb

    files = table_files(root)
    if not files:
        raise MinivessError(
            "MV-STATE-002",
            what="there are no tables to query",
            where=(root / "tables").as_posix(),
            fix=f"run the experiment first: just experiment {root.name}",
        )
    connection = duckdb.connect(":memory:", config=_SETTINGS)
    try:
        for name, path in files.items():
            try:
                connection.read_parquet(str(path)).create(name)
            except duckdb.Error as error:
                raise output.damaged(path, error) from error
        for statement in _CLOSE:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def describe(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Tables of a connection with their columns."""
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal "
        "ORDER BY table_name, column_index"
    ).fetchall()
    columns: dict[str, list[str]] = {}
    for table, column in rows:
        columns.setdefault(table, []).append(column)
    return columns


def query(root: Path, sql: str) -> pl.DataFrame:
    """The result of a query over the tables of a results folder.

    Raises:
        MinivessError: MV-QUERY-001 the SQL cannot be run or returns no table, MV-STATE-002 no
            table is there yet, MV-STATE-003 a file is damaged.
    """
    import duckdb

    connection = open_views(root)
    try:
        # Asked for first: a failed transaction of the user's SQL would refuse it.
        available = describe(connection)
        try:
            result = connection.sql(sql)
            if result is None:
                raise _bad_query(sql, "the SQL returns no table", available)
            table: pl.DataFrame = result.pl()
        except duckdb.Error as error:
            raise _bad_query(sql, str(error), available) from error
        return table
    finally:
        connection.close()


def _bad_query(sql: str, found: str, available: dict[str, list[str]]) -> MinivessError:
    lines = [f"{table}({', '.join(columns)})" for table, columns in available.items()]
    return MinivessError(
        "MV-QUERY-001",
        what="the query cannot be run",
        where=sql.strip(),
        found=found,
        expected="DuckDB SQL over " + "; ".join(lines),
        fix="correct the SQL; quote names as in \"runs\", texts as in 'dice'",
    )
