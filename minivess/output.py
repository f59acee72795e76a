"""Writing files: to a temporary name, then renamed, so that none is ever half there.

And reading them again, with the error for those that something else has damaged.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess.errors import MinivessError

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl

    from minivess.types import Array

# Every file that this process has put in its place, each once, in the order of the first time.
_WRITTEN: dict[Path, None] = {}


def written() -> list[Path]:
    """The files that this process has written so far."""
    return list(_WRITTEN)


def os_error(error: OSError, path: Path) -> MinivessError:
    """The user's error for a failed write: disk full, or a folder that cannot be written."""
    # NumPy reports a short write without a number: then the disk itself is asked.
    unnumbered = error.errno is None and path.parent.is_dir()
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (unnumbered and _is_full(path.parent)):
        return MinivessError(
            "MV-SYSTEM-002",
            what="the disk is full",
            where=str(path),
            found=str(error),
            fix="free some space and run the same command again; it goes on where it stopped",
        )
    return MinivessError(
        "MV-SYSTEM-001",
        what="the file cannot be written",
        where=str(path),
        found=str(error),
        fix="give yourself the right to write there, or start from another folder",
    )


def damaged(path: Path, found: object) -> MinivessError:
    """The user's error for a file of ours that is no longer what was written."""
    return MinivessError(
        "MV-STATE-003",
        what="a file that an earlier step has written is damaged",
        where=str(path),
        found=" ".join(str(found).split())[:300],
        fix="delete the file and run the experiment again",
    )


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < 4096


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` when the block succeeds, remove it when not.

    The temporary name keeps the suffixes of `path`, since writers choose formats by them. What
    processes that were killed have left of the same file is removed first.

    Raises:
        MinivessError: MV-SYSTEM-001 not writable, MV-SYSTEM-002 disk full.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        _WRITTEN[path] = None
    except OSError as error:
        raise os_error(error, path) from error
    finally:
        # Where not even the folder could be made there is nothing to remove.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of `path` whose process no longer runs."""
    pattern = re.compile(rf"\.(\d{{1,7}})\.{re.escape(path.name)}")
    for entry in list(path.parent.iterdir()):
        match = pattern.fullmatch(entry.name)
        if match and not _runs(int(match[1])):
            entry.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def write_text(text: str, path: Path) -> None:
    """Write text as UTF-8; see `replacing` for errors."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: Any, path: Path) -> None:
    """Write JSON with sorted keys, so that equal values are equal bytes; see `replacing`."""
    write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", path)


def read_json(path: Path, *keys: str) -> Any:
    """What a JSON file of ours says.

    Args:
        path: the file.
        keys: what it has at least, where it is a mapping.

    Raises:
        OSError: there is none.
        MinivessError: MV-STATE-003 damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # neither JSON nor UTF-8
        raise damaged(path, error) from error
    lacking = [key for key in keys if not isinstance(value, dict) or key not in value]
    if lacking:
        raise damaged(path, f"no {', '.join(lacking)}")
    return value


def read_parquet(path: Path, schema: pa.DataFrameSchema | None = None) -> pl.DataFrame:
    """A table of ours.

    Args:
        path: the file.
        schema: what it has to be, where that is known.

    Raises:
        OSError: there is none.
        MinivessError: MV-STATE-003 damaged, or another table.
    """
    import polars as pl

    try:
        table = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise damaged(path, error) from error
    if schema is None:
        return table
    from pandera.errors import SchemaError, SchemaErrors

    try:
        checked: pl.DataFrame = schema.validate(table)
    except (SchemaError, SchemaErrors) as error:
        raise damaged(path, error) from error
    return checked


def read_array(path: Path) -> Array:
    """An array of ours (.npy), whose values are read from the file when they are asked for.

    Raises:
        OSError: there is none.
        MinivessError: MV-STATE-003 damaged.
    """
    import numpy as np

    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise damaged(path, error) from error
    return array


def write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write a table with equal bytes for equal values (one row group, zstd); see `replacing`."""
    content = io.BytesIO()
    table.rechunk().write_parquet(
        content, compression="zstd", statistics=True, row_group_size=max(1, table.height)
    )
    # From memory: Polars' own writer reports a full disk as a generic error.
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
