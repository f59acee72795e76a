"""Reading the label that a client sends to have its mask compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minivess.data.geometry import Geometry, corner_shift_voxels
from minivess.data.spacing import header_spacing
from minivess.data.volume import UM_PER_UNIT, SourceVolume, Volume
from minivess.deploy.upload import Limits, read_source, refusal
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from minivess.types import BoolArray

GRID_TOLERANCE_VOXELS = 1e-3
_SHOWN_VALUES = 8


def read_reference(path: Path, limits: Limits, volume: Volume) -> BoolArray:
    """Read an untrusted label of 0 and 1 as the mask (x, y, z) of a volume.

    A header without calibration is taken to lie where the volume lies, as for the labels of an
    experiment.

    Args:
        path: NIfTI or TIFF.
        limits: most bytes and voxels.
        volume: what it is the label of.

    Raises:
        MinivessError: MV-UPLOAD-010 another shape, place or other values; and as `read_source`.
    """
    source = read_source(path, limits)
    _check_grid(source, volume.geometry, path.name)
    values = np.unique(source.array)
    if not set(values.tolist()) <= {0, 1}:
        shown = ", ".join(f"{value:g}" for value in values[:_SHOWN_VALUES].tolist())
        raise _does_not_fit(
            path.name,
            f"the values {shown}{', ...' if len(values) > _SHOWN_VALUES else ''}",
            "save the label with 0 for background and 1 for vessel",
        )
    return source.array.astype(np.bool_)


def _check_grid(source: SourceVolume, geometry: Geometry, name: str) -> None:
    x, y, z = source.array.shape
    if (x, y, z) != geometry.shape:
        raise _does_not_fit(
            name,
            f"{x} x {y} x {z} voxels, the volume has {' x '.join(map(str, geometry.shape))}",
            "send the label of this volume, with the same order of axes",
        )
    if source.affine is None or header_spacing(source.affine) is None:
        return
    unit_um = geometry.unit_um if source.unit is None else UM_PER_UNIT[source.unit]
    shift = corner_shift_voxels(geometry, Geometry((x, y, z), source.affine, unit_um))
    if shift > GRID_TOLERANCE_VOXELS:
        raise _does_not_fit(
            name,
            f"corners up to {shift:.4g} voxels away from those of the volume",
            "copy the header of the volume to its label if the voxels match, else resample the "
            "label onto the volume",
        )


def _does_not_fit(name: str, found: str, fix: str) -> MinivessError:
    return refusal("MV-UPLOAD-010", "the reference does not fit the volume", name, found, fix)
