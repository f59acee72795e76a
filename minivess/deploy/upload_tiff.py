"""Untrusted TIFF files: every directory is checked before tifffile sees the file.

tifffile reads what the directories, ImageJ's description and OME-XML say, other files and lists of
any length included; what passes here is a plain stack whose pages are all in this file.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minivess.data.volume_tiff import read_tiff
from minivess.deploy.upload import (
    Limits,
    check_voxels,
    contradiction,
    damaged,
    not_one_channel,
    refusal,
)
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from minivess.data.volume import SourceVolume

MOST_PAGES = 1 << 14
MOST_TAGS = 256
MOST_SEGMENTS = 1 << 20
MOST_TAG_BYTES = 1 << 24

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
# Tags by their numbers in TIFF 6.0, Adobe's supplement and libtiff.
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION = 256, 257, 258, 259, 262, 270
_STRIPS, _SAMPLES, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 277, 279, 324, 325
_SUBIFDS, _DEPTH = 330, 32997
_SEGMENTS = (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
_READ = (_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _DEPTH, *_SEGMENTS)
_NONE, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 8, 32946, 32773
# What tifffile makes plain stacks of; its other kinds read more than the pages.
_KINDS = frozenset({"ome", "imagej", "shaped", "scanimage", "uniform", "generic"})


@dataclass(frozen=True)
class _Layout:
    """Byte order and widths of classic TIFF and BigTIFF."""

    order: str
    count: str  # of the tags of a directory
    offset: str
    entry: int  # bytes of a tag

    def number(self, kind: str, data: bytes) -> int:
        return int(struct.unpack(self.order + kind, data)[0])


@dataclass(frozen=True)
class _Page:
    values: dict[int, tuple[int, ...]]
    description: bytes

    def first(self, tag: int, default: int) -> int:
        values = self.values.get(tag) or (default,)
        return values[0]

    @property
    def pixels(self) -> int:
        return self.first(_WIDTH, 0) * self.first(_LENGTH, 0) * self.first(_SAMPLES, 1)


def read_untrusted_tiff(path: Path, limits: Limits) -> SourceVolume:
    """Read a TIFF, OME-TIFF or ImageJ stack after all checks; other files are never opened.

    Raises:
        MinivessError: MV-UPLOAD-002 to MV-UPLOAD-009; MV-DATA-002, MV-DATA-003 as `read_tiff`.
    """
    with path.open("rb") as file:
        pages = list(_checked_pages(file, path.name, limits))
    _check_description(pages, path.name, limits)
    try:
        _check_series(path, sum(page.pixels for page in pages), limits)
        return read_tiff(path, alone=True)
    except (MinivessError, MemoryError):
        raise
    except Exception as error:  # tifffile and Pillow raise errors of every kind for damaged files
        raise damaged(path.name, f"{type(error).__name__}: {error}") from error


def _checked_pages(file: BinaryIO, name: str, limits: Limits) -> Iterator[_Page]:
    size = os.fstat(file.fileno()).st_size
    voxels = segments = 0
    for page in _pages(file, size, name):
        if page.pixels < 1:
            raise contradiction(name, f"a page of {page.first(_WIDTH, 0)} pixels width, or none")
        voxels += page.pixels
        check_voxels(voxels, limits, name)
        if page.first(_SAMPLES, 1) != 1 or page.first(_PHOTOMETRIC, 1) in (2, 5, 6, 8):
            raise not_one_channel(name, f"{page.first(_SAMPLES, 1)} samples per pixel: colours")
        if page.first(_DEPTH, 1) != 1 or _SUBIFDS in page.values:
            raise _not_plain(name, "pages with a depth, or of several resolutions")
        segments += _check_segments(file, page, size, name)
        if segments > MOST_SEGMENTS:
            raise contradiction(name, f"more than {MOST_SEGMENTS} strips or tiles")
        yield page


def _layout(head: bytes, name: str) -> tuple[_Layout, int]:
    """The layout of a file and the offset of its first directory, by its first 16 bytes."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is not None and len(head) >= 8:
        version = struct.unpack(order + "H", head[2:4])[0]
        if version == 42:
            layout = _Layout(order, "H", "I", 12)
            return layout, layout.number("I", head[4:8])
        big = version == 43 and len(head) == 16
        if big and struct.unpack(order + "HH", head[4:8]) == (8, 0):
            layout = _Layout(order, "Q", "Q", 20)
            return layout, layout.number("Q", head[8:16])
    raise refusal(
        "MV-UPLOAD-003",
        "the file is not of the format that its name says",
        name,
        f"no TIFF; it begins with {head[:8]!r}",
        "save the volume as TIFF, or give it the ending of its format",
    )


def _pages(file: BinaryIO, size: int, name: str) -> Iterator[_Page]:
    """The directories of a file in their order; each offset once, none outside the file."""
    layout, offset = _layout(file.read(16), name)
    seen: set[int] = set()
    if offset == 0:
        raise damaged(name, "no page")
    while offset:
        if offset in seen or len(seen) == MOST_PAGES:
            raise contradiction(name, f"a chain of pages without end, or above {MOST_PAGES}")
        seen.add(offset)
        width = struct.calcsize(layout.count)
        count = layout.number(layout.count, _part(file, offset, width, size, name))
        if not 1 <= count <= MOST_TAGS:
            raise contradiction(name, f"a page with {count} tags, at most {MOST_TAGS}")
        tail = struct.calcsize(layout.offset)
        block = _part(file, offset + width, count * layout.entry + tail, size, name)
        yield _page(file, block[: count * layout.entry], layout, size, name)
        offset = layout.number(layout.offset, block[-tail:])


def _part(file: BinaryIO, offset: int, length: int, size: int, name: str) -> bytes:
    if offset + length > size:
        raise damaged(name, f"byte {offset + length} is named, the file has {size}")
    file.seek(offset)
    return file.read(length)


def _page(file: BinaryIO, block: bytes, layout: _Layout, size: int, name: str) -> _Page:
    values: dict[int, tuple[int, ...]] = {}
    description = b""
    width = struct.calcsize(layout.offset)
    for start in range(0, len(block), layout.entry):
        entry = block[start : start + layout.entry]
        tag, kind = struct.unpack(layout.order + "HH", entry[:4])
        count = layout.number(layout.offset, entry[4 : 4 + width])
        length = count * _SIZES.get(kind, 1)
        if length > MOST_TAG_BYTES:
            raise contradiction(name, f"tag {tag} of {length} bytes, at most {MOST_TAG_BYTES}")
        data = entry[4 + width :][:length]
        if length > width:
            offset = layout.number(layout.offset, entry[4 + width :])
            data = _part(file, offset, length, size, name)
        if tag in values:
            raise contradiction(name, f"tag {tag} twice in one page")
        values[tag] = ()
        if tag == _DESCRIPTION:
            description = description or data
        elif tag in _READ:
            if kind not in _NUMBERS or count > MOST_SEGMENTS:
                raise contradiction(name, f"{count} values of type {kind} in tag {tag}")
            values[tag] = struct.unpack(f"{layout.order}{count}{_NUMBERS[kind]}", data)
    return _Page(values, description)


def _check_segments(file: BinaryIO, page: _Page, size: int, name: str) -> int:
    """Number of strips or tiles of a page, which lie in the file and unpack to one page."""
    offsets = page.values.get(_STRIPS) or page.values.get(_TILES) or ()
    counts = page.values.get(_STRIP_BYTES) or page.values.get(_TILE_BYTES) or ()
    if not offsets or len(offsets) != len(counts):
        raise contradiction(name, f"{len(offsets)} places and {len(counts)} lengths of data")
    bits = set(page.values.get(_BITS, (1,)))
    if not bits <= {1, 8, 16, 32, 64}:
        raise _not_plain(name, f"{sorted(bits)} bits per pixel")
    ends = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    if ends > size:
        raise damaged(name, f"data up to byte {ends}, the file has {size}")
    compression = page.first(_COMPRESSION, _NONE)
    if compression not in (_NONE, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS):
        raise _not_plain(name, f"compression {compression}")
    if compression == _NONE and 8 * sum(counts) < page.pixels * max(bits):
        raise damaged(name, f"{sum(counts)} bytes for a page of {page.pixels} pixels")
    if compression in (_DEFLATE, _OLD_DEFLATE):
        # Tiles at the edges are whole ones, at most as large as four pages of their size.
        _check_deflate(file, offsets, counts, 4 * page.pixels * max(bits) // 8 + (1 << 20), name)
    return len(offsets)


def _check_deflate(
    file: BinaryIO, offsets: tuple[int, ...], counts: tuple[int, ...], most: int, name: str
) -> None:
    """Raise where strips unpack to more bytes than their page can have."""
    left = most
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(offset)
        unpacker, data = zlib.decompressobj(), file.read(count)
        try:
            while data and not unpacker.eof:
                left -= len(unpacker.decompress(data, 1 << 20))
                data = unpacker.unconsumed_tail
                if left < 0:
                    raise contradiction(name, f"a page that unpacks to more than {most} bytes")
        except zlib.error as error:
            raise damaged(name, f"deflate: {error}") from error


def _not_plain(name: str, found: str) -> MinivessError:
    return refusal(
        "MV-UPLOAD-003",
        "the kind of TIFF is not accepted",
        name,
        found,
        "save the volume as a plain stack of 8, 16 or 32 bits (ImageJ: File > Save As > Tiff), or "
        "as .nii.gz",
    )


def _check_description(pages: list[_Page], name: str, limits: Limits) -> None:
    """Raise for OME-XML that names other files or more planes than there are."""
    for page in pages:
        text = page.description
        if b"OME>" not in text:
            continue
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise contradiction(name, "XML with a document type of its own")
        uuids = set(re.findall(rb"urn:uuid:[0-9a-fA-F-]+", text))
        if len(uuids) > 1 or b"BinaryOnly" in text or b"MetadataFile" in text:
            raise refusal(
                "MV-UPLOAD-009",
                "the header points to another file with voxels",
                name,
                "OME-XML of a set of several files",
                "save the volume as one file",
            )
        if b"odulo" in text or text.count(b"DimensionOrder") > 1:
            raise not_one_channel(name, "OME-XML of several images or with modulo axes")
        planes = rb"(?:PlaneCount|NumPlanes|IFD|First[ZCT])\s*=\s*[\"']\s*([^\"']*)"
        for number in re.findall(planes, text):
            if not (number.strip().isdigit() and int(number) <= len(pages)):
                raise contradiction(name, f"plane {number[:20].decode(errors='replace')}")
        product = 1
        for number in re.findall(rb"\bSize[XYZCT]\s*=\s*[\"']\s*([^\"']*)", text):
            if not number.strip().isdigit() or len(number) > 9:
                raise contradiction(name, f"a size {number[:20].decode(errors='replace')}")
            product *= int(number)
        check_voxels(product, limits, name)


def _check_series(path: Path, stored: int, limits: Limits) -> None:
    """Raise where what tifffile makes of the pages is not one stack of the file's own voxels.

    Args:
        path: the file.
        stored: pixels of all its pages.
        limits: most voxels.
    """
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as file:
        kinds = {kind for kind in tifffile.TIFF.SERIES if getattr(file, f"is_{kind}", False)}
        if kinds - _KINDS:
            raise _not_plain(path.name, f"a file of the kind {', '.join(sorted(kinds - _KINDS))}")
        if "ome" in kinds and any(series.kind != "ome" for series in file.series):
            raise contradiction(path.name, "OME-XML that does not fit the pages")
        for series in file.series:
            check_voxels(series.size, limits, path.name)
            if any(page is None for page in series.pages):
                raise damaged(path.name, "pages are missing")
        if len(file.series) != 1 or series.size == stored:
            return  # several images are refused by the reader
        # ImageJ and tifffile may store all planes in one piece behind a single page.
        start, size = series.dataoffset, path.stat().st_size
        if series.size < stored or start is None or start + series.nbytes > size:
            raise contradiction(
                path.name, f"{stored} pixels stored, {series.size} by the description"
            )
