"""Reading TIFF, OME-TIFF and ImageJ stacks through tifffile: (z, y, x) to (x, y, z)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from minivess.data.geometry import diagonal_affine
from minivess.data.volume import (
    SourceVolume,
    Unit,
    is_ome_tiff,
    not_three_dimensional,
    unreadable,
)

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile

    from minivess.types import Array, Spacing

_UM: dict[str, float] = {
    "nm": 1e-3,
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "\\u00b5m": 1.0,  # as ImageJ escapes it
    "micron": 1.0,
    "microns": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
# tifffile reads on after these and returns fewer slices, or black ones; for us the file is damaged
_DAMAGE = (
    "invalid page offset",
    "corrupted",
    "suspicious number of tags",
    "missing data are zeroed",
    "index out of range",
    "is missing files",
)
_AXIS_NAMES = {"C": "channels", "S": "colour samples", "T": "time points"}


@contextmanager
def _log_messages() -> Iterator[list[str]]:
    """Collect what tifffile logs instead of raising."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, collector = logging.getLogger("tifffile"), Collector(logging.WARNING)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


def read_tiff(path: Path, alone: bool = False) -> SourceVolume:
    """Read a stack, stored (z, y, x), as (x, y, z); see `minivess.data.volume.read_volume`.

    Args:
        path: the file.
        alone: open no other file that its OME-XML may name. Only one called .ome.tif is read
            together with others: `minivess.data.volume.data_files` lists them.

    Calibration comes from OME-XML (all three PhysicalSizes) or from ImageJ (unit, spacing and
    resolution); without one of them, or in pixels, the affine is none. The resolution tags of
    other TIFFs are print resolutions and are not read.

    Raises:
        MinivessError: MV-DATA-002 slices are missing or cannot be decoded, MV-DATA-003 not three
            dimensions.
    """
    import tifffile

    several = is_ome_tiff(path) and not alone
    if not several and (parts := other_parts(path)):
        raise unreadable(
            path,
            f"its OME-XML names {len(parts)} other files",
            "save the volume as one file" + ("" if alone else ", or call all of them .ome.tif"),
        )
    with _log_messages() as messages, tifffile.TiffFile(path, _multifile=several) as file:
        n_series = len(file.series)
        _refuse_damage(messages, path)
        if n_series != 1:
            raise not_three_dimensional(path, f"{n_series} separate images in one file")
        array = _stack(file, path)
        spacing = _ome_spacing(file) or _imagej_spacing(file)
    _refuse_damage(messages, path)
    if spacing is None:
        return SourceVolume(array, None, None)
    sizes, unit = spacing
    return SourceVolume(array, diagonal_affine(sizes), unit)


def other_parts(path: Path) -> list[Path]:
    """The other files of an OME-TIFF of several, as its OME-XML names them; often none.

    A file that cannot be read names none: `read_tiff` says what is wrong with it.
    """
    import tifffile

    try:
        with _log_messages(), tifffile.TiffFile(path, _multifile=False) as file:
            text = file.ome_metadata
        root = ET.fromstring(text) if text else None  # noqa: S314 - tifffile has read it too
    except (tifffile.TiffFileError, OSError, ValueError, ET.ParseError):
        return []
    if root is None:
        return []
    # A file that was renamed still names itself as before: its identifier is the root's.
    uuid = root.get("UUID")
    named = {part.get("FileName", "") for part in root.iter() if uuid is None or part.text != uuid}
    return [path.parent / name for name in sorted(named - {"", path.name})]


def _refuse_damage(messages: list[str], path: Path) -> None:
    damage = [text for text in messages if any(sign in text.lower() for sign in _DAMAGE)]
    if damage:
        raise unreadable(path, damage[0])


def _stack(file: tifffile.TiffFile, path: Path) -> Array:
    series = file.series[0]
    kept = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if size > 1]
    axes = "".join(axis for axis, _ in kept)
    # a dimension that no metadata names (I, Q) is depth; channels and time are refused
    if len(series.shape) < 3 or series.axes[-2:] != "YX" or axes.strip("YXZIQ"):
        names = [f"{size} {_AXIS_NAMES[axis]}" for axis, size in kept if axis in _AXIS_NAMES]
        found = f"axes {series.axes}, shape {' x '.join(map(str, series.shape))}"
        raise not_three_dimensional(
            path,
            found + (f" ({', '.join(names)})" if names else ""),
            "save the one channel and time point that shows the vessels as its own file; where the "
            "slices are depth, say so (ImageJ: Image > Properties, swap frames and slices)",
        )
    if len(kept) - axes.count("Y") - axes.count("X") > 1:
        raise not_three_dimensional(path, f"axes {series.axes}")
    try:
        stored = series.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        stored = _decode_with_libtiff(file, path)
    # the depth axis is the longest of the others: all of them but one have length 1
    return stored.reshape(-1, *stored.shape[-2:]).transpose(2, 1, 0)


def _decode_with_libtiff(file: tifffile.TiffFile, path: Path) -> Array:
    """The pages of a compressed stack (LZW, PackBits), decoded by Pillow's libtiff."""
    import tifffile
    from PIL import Image, ImageSequence

    page = file.pages[0]
    if not isinstance(page, tifffile.TiffPage):
        raise unreadable(path, "the first page is not a whole page")
    plain = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.PALETTE)
    if page.photometric not in plain:  # libtiff would invert or convert the others
        raise unreadable(path, f"{page.compression!r} with {page.photometric!r}")
    with Image.open(path) as image:
        pages = [np.array(frame) for frame in ImageSequence.Iterator(image)]
    stored = np.stack(pages)
    series = file.series[0]
    if stored.size != int(np.prod(series.shape)) or stored.dtype != series.dtype:
        raise unreadable(
            path,
            f"{page.compression!r} of type {series.dtype} decodes to {stored.shape} {stored.dtype}",
            "save the stack without compression",
        )
    return stored


def _ome_spacing(file: tifffile.TiffFile) -> tuple[Spacing, Unit] | None:
    """PhysicalSizeX, Y and Z of OME-XML, whose default unit is the micrometre (OME 2016-06)."""
    import tifffile

    if not file.is_ome or not file.ome_metadata:
        return None
    image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    pixels: Mapping[str, Any] = (image[0] if isinstance(image, list) else image)["Pixels"]
    sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "XYZ"]
    units = [str(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XYZ"]
    return _calibration(sizes, units)


def _imagej_spacing(file: tifffile.TiffFile) -> tuple[Spacing, Unit] | None:
    """Voxel sizes that ImageJ stores: pixels per unit in the tags, spacing and unit in the text."""
    import tifffile

    page, metadata = file.pages[0], file.imagej_metadata
    if not metadata or not isinstance(page, tifffile.TiffPage):
        return None
    unit = str(metadata.get("unit", ""))
    sizes: list[Any] = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        pixels, per = (0, 1) if tag is None else tag.value
        sizes.append(per / pixels if pixels else None)
    units = [unit, str(metadata.get("yunit", unit)), str(metadata.get("zunit", unit))]
    return _calibration([*sizes, metadata.get("spacing")], units)


def _calibration(sizes: list[Any], units: list[str]) -> tuple[Spacing, Unit] | None:
    """Sizes in mm where every axis is in mm, else in um; none where an axis is uncalibrated.

    >>> _calibration([0.5, 0.5, 0.002], ["um", "um", "mm"])
    ((0.5, 0.5, 2.0), 'um')
    >>> _calibration([1, 1, 1], ["pixel", "pixel", "pixel"]) is None
    True
    """
    factors = [_UM.get(unit.strip().lower()) for unit in units]
    if None in factors or any(size is None for size in sizes):
        return None
    if set(factors) == {1e3}:
        x, y, z = (float(size) for size in sizes)
        return (x, y, z), "mm"
    x, y, z = (float(size) * (factor or 0.0) for size, factor in zip(sizes, factors, strict=True))
    return (x, y, z), "um"
