"""Volumes of one set that are in another as well: an external test on them proves nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from minivess.data.manifest import Row, read_image
from minivess.data.problem import Problem
from minivess.errors import CODES

if TYPE_CHECKING:
    import polars as pl

    from minivess.types import Array


def voxels_sha256(image: Array) -> str:
    """SHA-256 of shape and intensities, whatever the file's format, header, type and compression.

    >>> image = np.arange(8).reshape(2, 2, 2)
    >>> voxels_sha256(image.astype(np.uint8)) == voxels_sha256(image.astype(np.float32))
    True
    >>> voxels_sha256(image) == voxels_sha256(image[::-1])
    False
    """
    digest = hashlib.sha256(str(image.shape).encode())
    for z in range(image.shape[2]):
        digest.update(np.ascontiguousarray(image[..., z], dtype="<f8").tobytes())
    return digest.hexdigest()


def leaks(own: pl.DataFrame, other: pl.DataFrame) -> Iterator[Problem]:
    """Volumes of another set that are the experiment's own, and a shared or unknown origin.

    Args:
        own: manifest of the experiment; its locked cases count too, only images are read.
        other: manifest of the other set.

    Raises:
        MinivessError: as `read_image`, where a file has changed since.
    """
    known = dict(_digests(own))
    for digest, row in _digests(other):
        if digest in known:
            yield Problem(
                row["case"],
                "error",
                "MV-DATA-018",
                CODES["MV-DATA-018"],
                row["image"],
                f"the same voxels as {known[digest]['case']} ({known[digest]['image']})",
                "volumes that the networks could not be trained on",
                f"leave it out with external.NAME.exclude: [{row['case']}]",
            )
    yield from _origins(own, other)


def _digests(manifest: pl.DataFrame) -> Iterator[tuple[str, Row]]:
    for row in manifest.iter_rows(named=True):
        if not row["read_error_code"]:
            yield voxels_sha256(read_image(row)), row


def _origins(own: pl.DataFrame, other: pl.DataFrame) -> Iterator[Problem]:
    mine, theirs = set(own["origin"]), set(other["origin"])
    shared = sorted(mine & theirs - {None})
    unknown = [name for name, found in (("own", mine), ("external", theirs)) if None in found]
    if shared:
        yield _origin_warning(
            f"both have cases of {', '.join(shared)}",
            "an external set of another laboratory: the same microscope, animals and annotators "
            "make it easier than it looks",
        )
    elif unknown:
        yield _origin_warning(
            f"no origin declared for cases of the {' and the '.join(unknown)} data",
            "an origin of every case, so that a shared one can be noticed",
            "the origin is not known",
        )


def _origin_warning(found: str, expected: str, what: str = "") -> Problem:
    return Problem(
        "",
        "warning",
        "MV-DATA-019",
        what or CODES["MV-DATA-019"],
        "data.origin and external.NAME.origin, or the column origin in cases.csv",
        found,
        expected,
        "state it where the result is reported, or declare the origins",
    )
