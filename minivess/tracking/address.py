"""Addresses of the tracking store: the default, the kinds that work, the errors that name them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from minivess.config.settings import load_settings
from minivess.errors import MinivessError

DEFAULT_URI = "sqlite:///mlflow.db"


def tracking_uri() -> str:
    """Address of the tracking store: MLFLOW_TRACKING_URI, else the setting `mlflow_uri`.

    Raises:
        MinivessError: MV-TRACK-002 where it names a file store, MV-CONFIG-... wrong settings.

    >>> import os
    >>> _ = os.environ.pop("MLFLOW_TRACKING_URI", None)
    >>> tracking_uri()
    'sqlite:///mlflow.db'
    """
    uri = load_settings().mlflow_uri
    check_kind(uri)
    return uri


def check_kind(uri: str) -> None:
    """Refuse stores that keep nothing or that MLflow no longer opens.

    Raises:
        MinivessError: MV-TRACK-002.
    """
    scheme = urlsplit(uri).scheme
    # One letter is the drive of a Windows path.
    if scheme == "file" or len(scheme) < 2:
        folder = Path(url2pathname(urlsplit(uri).path) if scheme == "file" else uri)
        source = folder.parent if folder.name == "mlruns" else folder
        raise MinivessError(
            "MV-TRACK-002",
            what="the tracking store is a folder of files, which MLflow no longer opens",
            where=uri,
            expected="a database such as sqlite:///mlflow.db, or the address of an MLflow server",
            fix=f"convert it once: mlflow migrate-filestore --source {source} --target "
            f"{DEFAULT_URI}; then set MLFLOW_TRACKING_URI={DEFAULT_URI}",
        )
    if scheme == "sqlite" and uri.partition("///")[2] in ("", ":memory:"):
        raise MinivessError(
            "MV-TRACK-002",
            what="a database in memory is lost when the process ends",
            where=uri,
            expected="a file, such as sqlite:///mlflow.db",
            fix=f"set MLFLOW_TRACKING_URI={DEFAULT_URI}",
        )


def sqlite_path(uri: str) -> Path | None:
    """Absolute path of a SQLite database; none where the store is a server.

    >>> sqlite_path("sqlite:////data/mlflow.db").as_posix()
    '/data/mlflow.db'
    >>> sqlite_path("http://localhost:5000") is None
    True
    """
    if urlsplit(uri).scheme != "sqlite":
        return None
    from sqlalchemy.engine import make_url

    return Path(make_url(uri).database or "").absolute()


def shown(uri: str) -> str:
    """The address without a password, for messages and logs.

    >>> shown("postgresql://ada:secret@db/mlflow")
    'postgresql://ada:***@db/mlflow'
    """
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))


def unreachable(uri: str, found: str) -> MinivessError:
    """The user's error (MV-TRACK-001) for a store that is locked, broken or not there."""
    # The rest is SQL and links.
    found = found.strip().partition("\n")[0]
    path = sqlite_path(uri)
    if path is None:
        fix = "start the server, or correct MLFLOW_TRACKING_URI; unset, it is " + DEFAULT_URI
    elif "lock" in found:
        fix = (
            "another program holds the database (a database browser, a copy, another run): "
            "end it, or wait, and run the same command again"
        )
    elif "not a database" in found or "malformed" in found:
        fix = (
            f"move {path.name} away and run the tracking step again: "
            "it fills a new database from the results folder"
        )
    else:
        fix = "run the tracking step again: it fills the database from the results folder"
    return MinivessError(
        "MV-TRACK-001",
        what="the tracking database cannot be used",
        where=shown(uri),
        found=found,
        fix=fix,
    )
