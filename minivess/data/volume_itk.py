"""Reading NRRD and MetaImage through SimpleITK: LPS to RAS, no calibration that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minivess.data.geometry import lps_affine
from minivess.data.volume import (
    SourceVolume,
    Unit,
    not_three_dimensional,
    unreadable,
    volume_suffix,
)

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import FloatArray

_UNITS: dict[str, Unit] = {
    "um": "um",
    "µm": "um",  # micro sign
    "μm": "um",  # Greek mu
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "micrometre": "um",
    "mm": "mm",
    "millimeter": "mm",
    "millimetre": "mm",
}
_CALIBRATION = {
    ".nrrd": ("space directions", "spacings"),
    ".nhdr": ("space directions", "spacings"),
    ".mha": ("elementspacing", "elementsize"),
    ".mhd": ("elementspacing", "elementsize"),
}
_LONGEST_HEADER = 1 << 16


def text_header(path: Path) -> dict[str, str]:
    """The fields of an NRRD or MetaImage header, names in lower case.

    Source: the NRRD format definition (header ends at the first empty line) and the MetaIO
    documentation (header ends with ElementDataFile).
    """
    with path.open("rb") as handle:
        head = handle.read(_LONGEST_HEADER)
    fields: dict[str, str] = {}
    for raw in head.splitlines():
        line = _decode(raw).strip()
        if not line:
            break
        separator = ":" if head.startswith(b"NRRD") else "="
        name, found, value = line.partition(separator)
        if not line.startswith("#") and found:
            fields[name.strip().lower()] = value.lstrip("=").strip()
        if name.strip().lower() == "elementdatafile":
            break
    return fields


def data_file(path: Path) -> str | None:
    """The one file that a detached header names for its voxels, if it names one."""
    name = _named(path)
    return None if name.upper() in ("", "LOCAL") or _is_several(name) else name


def _named(path: Path) -> str:
    header = text_header(path)
    names = ("elementdatafile", "data file", "datafile")
    return next((header[name] for name in names if header.get(name)), "")


def _is_several(name: str) -> bool:
    return name.upper().split()[:1] == ["LIST"] or "%" in name


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:  # older writers store the micro sign as Latin-1
        return line.decode("latin-1")


def declared_unit(fields: dict[str, str]) -> Unit | None:
    """The unit that all axes share, by `space units`, `units` (NRRD) or `DistanceUnits` (MetaIO).

    >>> declared_unit({"space units": '"um" "um" "um"'})
    'um'
    >>> declared_unit({"space units": '"um" "um" "s"'}) is None
    True
    """
    text = fields.get("space units") or fields.get("units") or fields.get("distanceunits") or ""
    names = {name.lower() for name in text.replace('"', " ").split()}
    units = {_UNITS.get(name) for name in names}
    return units.pop() if len(units) == 1 else None


def read_itk(path: Path) -> SourceVolume:
    """Read NRRD or MetaImage as (x, y, z); see `minivess.data.volume.read_volume`.

    Raises:
        MinivessError: MV-DATA-002 its voxels are in several files, MV-DATA-003 not one number per
            voxel of three dimensions.
        RuntimeError: SimpleITK cannot read the file.
    """
    import SimpleITK as sitk

    if volume_suffix(path) in (".mhd", ".nhdr") and _is_several(_named(path)):
        raise unreadable(
            path, f"its voxels are in several files ({_named(path)})", "save it as one file"
        )
    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise not_three_dimensional(path, f"{image.GetNumberOfComponentsPerPixel()} channels")
    array = sitk.GetArrayFromImage(image).transpose()
    dimension = image.GetDimension()
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise not_three_dimensional(path, f"shape {' x '.join(map(str, image.GetSize()))}")
    fields = text_header(path)
    affine: FloatArray | None = None
    if any(fields.get(name) for name in _CALIBRATION[volume_suffix(path) or ""]):
        direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
        spacing, origin = np.array(image.GetSpacing()[:3]), np.array(image.GetOrigin()[:3])
        affine = lps_affine(direction, spacing, origin)
    return SourceVolume(array, affine, declared_unit(fields))
