"""The tracking store: its creation and one guarded way in.

SQLite is the default. MLflow sets SQLite's busy timeout to 20 s itself and retries a database that
cannot be opened for minutes; so every entry first asks SQLite (or the server's port) directly,
which bounds the wait and tells what is wrong.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from minivess import output, paths
from minivess.tracking.address import check_kind, sqlite_path, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlflow import MlflowClient

LOCK_TIMEOUT_S = 20.0
# Creating the schema takes seconds, on a slow disk tens of seconds, and others wait for it.
CREATE_TIMEOUT_S = 300.0

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    # litellm would fetch a price list when MLflow imports it; offline that can deadlock.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow's own defaults add up to four minutes for a server that is not there.
_HTTP_BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

# Inode and generation of each database this process has opened; see `_spelling`.
_opened: dict[Path, tuple[int, int]] = {}


def _import_client() -> type[MlflowClient]:
    """MlflowClient, imported with telemetry off and without MLflow's and Alembic's chatter."""
    import logging

    os.environ.update(_ENVIRONMENT)
    for name, value in _HTTP_BOUNDS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs the traceback of each database error that it also raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return MlflowClient


def _probe_sqlite(uri: str, path: Path, timeout_s: float, write: bool) -> None:
    """Ask SQLite itself whether the database can be used within `timeout_s`."""
    try:
        # Not read-only: reading, too, has to undo what a killed process left half written.
        address = f"{path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=timeout_s)) as database:
            if write:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            else:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise unreachable(uri, str(error)) from error


def _probe_port(uri: str, timeout_s: float) -> None:
    """Ask whether a database server listens; MLflow would retry for minutes before it tells."""
    parts = urlsplit(uri)
    port = parts.port or _DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if parts.scheme in ("http", "https") or parts.hostname is None or port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=timeout_s).close()
    except OSError as error:
        raise unreachable(uri, str(error)) from error


def _spelling(path: Path) -> str:
    """Address of a SQLite file that MLflow has not cached for an earlier, deleted file.

    MLflow keeps a pool of connections per address for the life of the process, and they go on
    pointing at a file that was deleted. `folder/./mlflow.db` is the same file at another address.
    """
    inode = path.stat().st_ino
    known, generation = _opened.get(path, (inode, 0))
    if known != inode:
        generation += 1
    _opened[path] = (inode, generation)
    return "sqlite:///" + path.parent.as_posix() + "/." * generation + "/" + path.name


@contextmanager
def connection(
    uri: str, timeout_s: float = LOCK_TIMEOUT_S, *, write: bool = True
) -> Iterator[MlflowClient]:
    """Yield a client of an existing store; MLflow's errors inside become the user's.

    Raises:
        MinivessError: MV-TRACK-001 not reachable, locked for longer than `timeout_s` seconds, or
            corrupt; MV-TRACK-002 a kind that is not supported.
    """
    check_kind(uri)
    path = sqlite_path(uri)
    if path is None:
        _probe_port(uri, timeout_s)
    else:
        _probe_sqlite(uri, path, timeout_s, write)
    client_type = _import_client()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    address = uri if path is None else _spelling(path)
    try:
        yield client_type(tracking_uri=address, registry_uri=address)
    except MlflowException as error:
        # A value that MLflow refuses is a defect of the caller, not of the database.
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise
        raise unreachable(uri, error.message) from error
    except SQLAlchemyError as error:
        raise unreachable(uri, str(error)) from error


def exclusive(uri: str) -> AbstractContextManager[object]:
    """A lock between processes on the creation of a SQLite store and of its runs.

    A server does its own locking; there it is a lock on nothing.

    Raises:
        MinivessError: MV-TRACK-001 where another process holds it for `CREATE_TIMEOUT_S` seconds,
            MV-SYSTEM-001 where the folder cannot be written.
    """
    path = sqlite_path(uri)
    return nullcontext() if path is None else _locked(uri, path)


@contextmanager
def _locked(uri: str, path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(path.name + ".lock"), timeout=CREATE_TIMEOUT_S)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise unreachable(uri, str(error)) from error
    except OSError as error:
        raise output.os_error(error, path) from error
    try:
        yield
    finally:
        lock.release()


def _remove_with_journals(path: Path) -> None:
    """A journal without its database would be played back into the next one of that name."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _create_database(path: Path) -> None:
    """Create the schema beside the target and rename it, so that no half-made one is ever there."""
    _import_client()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # One name for all processes: whoever holds the lock removes what a killed one left.
    temporary = path.with_name(f".creating.{path.name}")
    try:
        _remove_with_journals(temporary)
        _remove_with_journals(path)
        address = "sqlite:///" + temporary.as_posix()
        store = SqlAlchemyStore(address, str(paths.RESULTS))  # type: ignore[no-untyped-call]
        store.engine.dispose()
        temporary.replace(path)
    except OSError as error:
        raise output.os_error(error, path) from error
    finally:
        _remove_with_journals(temporary)


def prepare_locked(uri: str, experiment: str, timeout_s: float = LOCK_TIMEOUT_S) -> str:
    """`prepare_store` for a caller that already holds `exclusive(uri)`.

    Raises:
        MinivessError: MV-TRACK-001 and MV-TRACK-002, as `prepare_store`.
    """
    check_kind(uri)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        _create_database(path)
    with connection(uri, timeout_s) as client:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(experiment)
        if found is None:
            # MLflow makes this absolute. No artifact is kept there: they stay in the results
            # folder, and runs name them by paths relative to it.
            location = paths.experiment_folder(experiment).as_posix() if path else None
            try:
                client.create_experiment(experiment, artifact_location=location)
            except MlflowException as error:
                # Another process of the same server was quicker.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = client.get_experiment_by_name(experiment)
        if found is None:
            raise unreachable(uri, f"the experiment {experiment} was created but is not there")
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def prepare_store(uri: str, experiment: str, timeout_s: float = LOCK_TIMEOUT_S) -> str:
    """Id of the experiment; creates database and experiment where they are missing.

    Safe when many processes start at once: one creates, the others wait for it. An experiment
    that was deleted in MLflow's pages is restored.

    Raises:
        MinivessError: MV-TRACK-001, MV-TRACK-002, see `connection`.
    """
    check_kind(uri)
    with exclusive(uri):
        return prepare_locked(uri, experiment, timeout_s)
