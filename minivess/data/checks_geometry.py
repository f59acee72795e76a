"""Checks of one case: shape, geometry, spacing and its unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from minivess.data.geometry import Geometry, corner_shift_voxels
from minivess.data.manifest import Row
from minivess.data.problem import Finding, listed
from minivess.data.spacing import PLAUSIBLE_UM, header_spacing, is_plausible
from minivess.data.volume import UM_PER_UNIT

if TYPE_CHECKING:
    from minivess.config.schema import Experiment

GRID_TOLERANCE_VOXELS = 1e-3


def shape(row: Row, experiment: Experiment) -> Iterator[Finding]:
    """MV-DATA-004: image and label differ in shape."""
    if row["shape"] and row["label_shape"] and row["shape"] != row["label_shape"]:
        transposed = sorted(row["shape"]) == sorted(row["label_shape"])
        yield Finding(
            "MV-DATA-004",
            f"image {listed(row['shape'])}, label {listed(row['label_shape'])}",
            "the same number of voxels along every axis",
            "the axes are permuted: save the label with the axis order of its image"
            if transposed
            else "pair the image with its own label, or crop both in the same way",
            where=row["label"],
        )


def _grids(row: Row) -> tuple[Geometry, Geometry] | None:
    """Grids of image and label as their headers have them; none unless both are calibrated."""
    affines = [row["header_affine"], row["label_affine"]]
    if None in affines or not row["shape"] or row["shape"] != row["label_shape"]:
        return None
    arrays = [np.reshape(affine, (4, 4)) for affine in affines]
    if any(header_spacing(array) is None for array in arrays):
        return None
    units = [row["header_unit"], row["label_header_unit"]]
    # a unit that only one of them names, or that was declared for both, cannot tell them apart
    factors = [1.0, 1.0]
    if None not in units and row["spacing_unit"] == "header":
        factors = [UM_PER_UNIT[unit] for unit in units]
    x, y, z = row["shape"]
    image, label = (Geometry((x, y, z), a, f) for a, f in zip(arrays, factors, strict=True))
    return image, label


def geometry(row: Row, experiment: Experiment) -> Iterator[Finding]:
    """MV-DATA-005: both headers are calibrated and put the voxels at different places."""
    grids = _grids(row)
    if grids is None:
        return
    image, label = grids
    shift = corner_shift_voxels(image, label)
    if shift > GRID_TOLERANCE_VOXELS:
        same_spacing = np.allclose(image.spacing_um, label.spacing_um, rtol=1e-4)
        yield Finding(
            "MV-DATA-005",
            f"corners up to {shift:.4g} voxels apart; spacing of the image "
            f"{listed(image.spacing_um)}, of the label {listed(label.spacing_um)}"
            + ("; origin or orientation differ" if same_spacing else ""),
            f"the same grid within {GRID_TOLERANCE_VOXELS:g} voxels",
            "copy the header of the image to its label if the voxels match, else resample the "
            "label onto its image",
            where=row["label"],
        )


def spacing(row: Row, experiment: Experiment) -> Iterator[Finding]:
    """MV-DATA-009: no spacing, a zero in it, or no unit."""
    if row["spacing_um"] is not None or row["read_error_code"]:
        return
    affine = row["header_affine"]
    lengths = None if affine is None else header_spacing(np.reshape(affine, (4, 4)))
    give = (
        "set data.spacing_um: [x, y, z] for all volumes, or give the columns "
        "spacing_x_um,spacing_y_um,spacing_z_um in cases.csv"
    )
    expected = "three positive numbers whose unit is known"
    if affine is None:
        yield Finding("MV-DATA-009", "no spacing in the file", expected, give)
    elif lengths is None:
        norms = np.linalg.norm(np.reshape(affine, (4, 4))[:3, :3], axis=0)
        yield Finding("MV-DATA-009", f"spacing {listed(norms)} in the header", expected, give)
    else:
        yield Finding(
            "MV-DATA-009",
            f"spacing {listed(lengths)} without a unit in the header",
            expected,
            "set data.spacing_unit: um if these are micrometres, data.spacing_unit: mm if "
            "millimetres",
        )


def unit(row: Row, experiment: Experiment) -> Iterator[Finding]:
    """MV-DATA-010: the unit of the header, or of its layout, makes voxels of implausible size."""
    sizes, (low, high) = row["spacing_um"], PLAUSIBLE_UM
    by_layout = _of_layout(row, experiment)
    declared = row["spacing_unit"] != "header" and not by_layout
    if sizes is None or row["spacing_source"] != "header" or declared:
        return
    if not is_plausible(sizes):
        lengths = listed(np.array(sizes) / row["unit_um"])
        named = f" {row['header_unit']}" if row["header_unit"] else ""
        named += ", taken for micrometres" if by_layout else ""
        yield Finding(
            "MV-DATA-010",
            f"the header says {lengths}{named}: voxels of {listed(sizes)} um",
            f"voxels of {low:g} to {high:g} um, as in microscopy",
            f"set data.spacing_unit: um if {lengths} are micrometres, data.spacing_unit: mm if "
            "they are truly millimetres",
        )


def layout_unit(row: Row, experiment: Experiment) -> Iterator[Finding]:
    """MV-DATA-010: micrometres by the layout, against the unit that the header names."""
    sizes, named = row["spacing_um"], row["header_unit"]
    if sizes is None or row["spacing_source"] != "header" or not _of_layout(row, experiment):
        return
    if named not in (None, row["spacing_unit"]) and is_plausible(sizes):
        low, high = PLAUSIBLE_UM
        yield Finding(
            "MV-DATA-010",
            f"the header says {listed(sizes)} {named}, which are taken for micrometres",
            f"voxels of {low:g} to {high:g} um, as in microscopy",
            f"correct the headers, or set data.spacing_unit: um to say so, {named} if they are "
            "right",
            what="the header's unit makes no plausible voxels, that of the data set's layout does",
        )


def _of_layout(row: Row, experiment: Experiment) -> bool:
    """Whether the unit is that of the MiniVess layout, where nobody has declared one."""
    data = experiment.data
    by_layout: bool = row["spacing_unit"] == "um"
    return data.source == "minivess" and data.spacing_unit == "header" and by_layout


def declared(row: Row, experiment: Experiment) -> Iterator[Finding]:
    """MV-DATA-010: a spacing that was typed in makes voxels of implausible size."""
    sizes, (low, high) = row["spacing_um"], PLAUSIBLE_UM
    if sizes is None or row["spacing_source"] == "header":
        return
    if not is_plausible(sizes):
        yield Finding(
            "MV-DATA-010",
            f"declared: voxels of {listed(sizes)} um",
            f"voxels of {low:g} to {high:g} um, as in microscopy",
            "the declaration is used; correct it if it was meant in another unit",
            what="the declared spacing is implausible for microscopy",
        )


def contradiction(row: Row, experiment: Experiment) -> Iterator[Finding]:
    """MV-DATA-010: the declared spacing replaced another one of the header."""
    sizes, affine = row["spacing_um"], row["header_affine"]
    if sizes is None or affine is None or row["affine"] is None or row["affine"] == affine:
        return
    lengths = header_spacing(np.reshape(affine, (4, 4)))
    if lengths is not None:
        yield Finding(
            "MV-DATA-010",
            f"declared {listed(sizes)} um, header {listed(lengths)} {row['header_unit'] or ''}",
            "a header that agrees with the declared spacing",
            "the declared spacing is used; correct whichever is wrong",
            what="the declared spacing contradicts the header",
        )
