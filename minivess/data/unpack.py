"""Unpacking the volumes of a ZIP source: nothing outside the folder, no half file, none skipped."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from minivess import paths
from minivess.data.case_folders import check_member
from minivess.data.sources import list_cases, source_path, volumes_of
from minivess.errors import MinivessError
from minivess.output import replacing

if TYPE_CHECKING:
    from minivess.config.schema import Experiment


def unpack_zip(zip_path: Path, members: Iterable[str], folder: Path) -> list[Path]:
    """Unpack members to the same relative names under a folder; returns the files, in order.

    Each file appears when all its bytes are there and their CRC-32 is right.

    Raises:
        MinivessError: MV-DATA-002 damaged ZIP, missing member, or one that points outside;
            MV-SYSTEM-001, MV-SYSTEM-002, see `minivess.output.replacing`.
    """
    files: list[Path] = []
    member = ""
    try:
        with zipfile.ZipFile(zip_path) as archive:
            for member in members:
                check_member(zip_path, member)
                target = folder / member
                with (
                    archive.open(member) as packed,
                    replacing(target) as temporary,
                    temporary.open("wb") as handle,
                ):
                    shutil.copyfileobj(packed, handle, 1 << 20)
                files.append(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise _damaged(zip_path, member, error) from error
    except RuntimeError as error:  # zipfile's error for encrypted members
        raise _damaged(zip_path, member, error) from error
    return files


def _damaged(zip_path: Path, member: str, error: Exception) -> MinivessError:
    return MinivessError(
        "MV-DATA-002",
        what="the ZIP cannot be unpacked",
        where=f"{zip_path}, member {member}" if member else str(zip_path),
        found=f"{type(error).__name__}: {error}",
        expected="a complete ZIP without password",
        fix="download it again, or unpack it yourself and set data.path to the folder",
    )


def unpack_source(experiment: Experiment, root: Path) -> list[Path]:
    """Unpack images and labels where the source is a ZIP; returns the files.

    Labels of locked cases stay in it.

    Raises:
        MinivessError: as `list_cases` and `unpack_zip`.
    """
    if experiment.data.source != "minivess" or not source_path(experiment).is_file():
        return []
    folder = paths.unpacked_folder(root)
    volumes = volumes_of(list_cases(experiment, root))
    members = [volume.relative_to(folder).as_posix() for volume in volumes]
    return unpack_zip(source_path(experiment), members, folder)
