"""What differs between two files of the same name: the first place, and by how much."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minivess.types import Array


def difference(expected: Path, found: Path) -> str:
    """The difference between two files in a sentence, by their kind; empty if bytes are equal.

    Raises:
        OSError: a file cannot be read.
    """
    if expected.read_bytes() == found.read_bytes():
        return ""
    compare = next((KINDS[s] for s in KINDS if expected.name.endswith(s)), _bytes)
    return compare(expected, found) or f"the same content in other bytes: {_bytes(expected, found)}"


def arrays_differ(expected: Array, found: Array) -> str:
    """How two arrays of any shape differ; empty if they do not.

    >>> arrays_differ(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    '1 of 2 values, by at most 0.5'
    """
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{expected.dtype} {expected.shape} against {found.dtype} {found.shape}"
    other = expected != found
    if expected.dtype.kind in "fc":
        other &= ~(np.isnan(expected) & np.isnan(found))
    if not other.any():
        return ""
    if expected.dtype.kind not in "biufc":
        return f"{other.sum()} of {other.size} values"
    most = np.abs(expected[other].astype(float) - found[other].astype(float)).max()
    return f"{other.sum()} of {other.size} values, by at most {most:.4g}"


def _json(expected: Path, found: Path) -> str:
    one, two = (dict(_leaves(json.loads(path.read_text("utf-8")))) for path in (expected, found))
    for key in [*one, *(key for key in two if key not in one)]:
        left, right = one.get(key, "nothing"), two.get(key, "nothing")
        if left != right:
            return f"{key}: {_short(left)} against {_short(right)}"
    return ""


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in pairs:
            yield from _leaves(entry, f"{where}.{key}" if where else str(key))
    else:
        yield where, value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _parquet(expected: Path, found: Path) -> str:
    import polars as pl

    one, two = pl.read_parquet(expected), pl.read_parquet(found)
    if one.schema != two.schema:
        return f"columns {dict(one.schema)} against {dict(two.schema)}"
    if one.height != two.height:
        return f"{one.height} rows against {two.height}"
    for name in one.columns:
        other = (one[name].ne_missing(two[name])).to_numpy()
        if other.any():
            row = int(np.flatnonzero(other)[0])
            values = f"{_short(one[name][row])} against {_short(two[name][row])}"
            return f"column {name}, {other.sum()} of {one.height} rows, first row {row}: {values}"
    return ""


def _npy(expected: Path, found: Path) -> str:
    return arrays_differ(np.load(expected, mmap_mode="r"), np.load(found, mmap_mode="r"))


def _nifti(expected: Path, found: Path) -> str:
    import nibabel as nib

    one, two = (
        nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes())) for path in (expected, found)
    )
    if one.header != two.header:
        return "the headers"
    return arrays_differ(np.asarray(one.dataobj), np.asarray(two.dataobj))


def _safetensors(expected: Path, found: Path) -> str:
    from safetensors.numpy import load_file

    one, two = load_file(expected), load_file(found)
    if one.keys() != two.keys():
        return f"tensors {sorted(one.keys() ^ two.keys())} are in one of them only"
    differing = {name: text for name in one if (text := arrays_differ(one[name], two[name]))}
    if not differing:
        return ""
    name, text = next(iter(differing.items()))
    return f"{len(differing)} of {len(one)} tensors, first {name}: {text}"


def _png(expected: Path, found: Path) -> str:
    from PIL import Image

    with Image.open(expected) as one, Image.open(found) as two:
        return arrays_differ(np.asarray(one), np.asarray(two))


def _text(expected: Path, found: Path) -> str:
    one, two = (path.read_text("utf-8").splitlines() for path in (expected, found))
    for number, (left, right) in enumerate(zip(one, two, strict=False), 1):
        if left != right:
            return f"line {number}: {_short(left.strip())} against {_short(right.strip())}"
    return f"{len(one)} lines against {len(two)}" if len(one) != len(two) else ""


def _bytes(expected: Path, found: Path) -> str:
    one, two = (np.frombuffer(path.read_bytes(), dtype=np.uint8) for path in (expected, found))
    length = min(one.size, two.size)
    other = np.flatnonzero(one[:length] != two[:length])
    first = int(other[0]) if other.size else length
    return f"{one.size} bytes against {two.size}, first different byte {first}"


KINDS: dict[str, Callable[[Path, Path], str]] = {
    ".json": _json,
    ".parquet": _parquet,
    ".npy": _npy,
    ".nii.gz": _nifti,
    ".safetensors": _safetensors,
    ".png": _png,
    ".csv": _text,
    ".html": _text,
    ".svg": _text,
    ".txt": _text,
    ".yaml": _text,
}
