"""Which spacing counts: the list of cases, else the header, else the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minivess.data.geometry import column_norms, diagonal_affine
from minivess.data.volume import UM_PER_UNIT

if TYPE_CHECKING:
    from minivess.config.schema import DataConfig
    from minivess.data.sources import SourceCase, SpacingUnit
    from minivess.data.volume import Unit
    from minivess.types import FloatArray, Spacing

# a voxel outside of these, in um, is taken for a unit mistake unless the unit was declared
PLAUSIBLE_UM = (0.01, 100.0)
# spacing declared in a list carries about three digits
_AGREEMENT = 2e-3


@dataclass(frozen=True, eq=False)
class ResolvedSpacing:
    """The spacing of a volume, where it is from, and the affine in the unit that fits it.

    All of them are none where nothing declares a spacing; source is header, csv or config.
    """

    spacing_um: Spacing | None = None
    source: str | None = None
    affine: FloatArray | None = None
    unit_um: float | None = None


def is_plausible(spacing_um: Iterable[float]) -> bool:
    """Whether voxels are of a size that microscopes see.

    >>> is_plausible((0.99, 0.99, 5.0)), is_plausible((990.0, 990.0, 5000.0))
    (True, False)
    """
    low, high = PLAUSIBLE_UM
    return all(low <= length <= high for length in spacing_um)


def unit_that_counts(
    affine: FloatArray | None, unit: Unit | None, case: SourceCase, data: DataConfig
) -> SpacingUnit:
    """The unit that is declared for a header: um, mm, or header for the one that it names.

    The case's own declaration counts, else the configuration's, else that of the layout: where
    the header names no unit, the same one, or one in which the voxels are implausible.
    """
    declared = case.spacing_unit or data.spacing_unit
    if declared != "header" or case.spacing_unit or case.layout_unit is None:
        return declared
    lengths = header_spacing(affine)
    if unit in (None, case.layout_unit) or lengths is None:
        return case.layout_unit
    named = (length * UM_PER_UNIT[unit] for length in lengths)
    return "header" if is_plausible(named) else case.layout_unit


def header_spacing(affine: FloatArray | None) -> Spacing | None:
    """Lengths of the voxel axes of a 4 x 4 affine, in its unit; none where one is zero or NaN.

    >>> header_spacing(np.diag([-1.5, 1.5, 1.5, 1.0]))
    (1.5, 1.5, 1.5)
    >>> header_spacing(np.diag([1.0, 1.0, 0.0, 1.0])) is None
    True
    """
    if affine is None or not np.isfinite(affine).all():
        return None
    x, y, z = (float(norm) for norm in column_norms(affine))
    return (x, y, z) if min(x, y, z) > 0 else None


def resolve_spacing(
    affine: FloatArray | None, unit: Unit | None, case: SourceCase, data: DataConfig
) -> ResolvedSpacing:
    """The spacing of a volume by the rule list of cases, header, configuration.

    A header counts when its unit is declared or named (see `unit_that_counts`). Its affine is kept
    as it is where it agrees with the spacing (in um or mm); where it contradicts, its directions
    are kept and its lengths replaced, in um.
    """
    known = unit_that_counts(affine, unit, case, data)
    name = unit if known == "header" else known
    unit_um = UM_PER_UNIT[name] if name is not None else None
    lengths = header_spacing(affine)
    if case.spacing_um is not None:
        return _with_affine(affine, lengths, unit_um, case.spacing_um, "csv")
    if lengths is not None and unit_um is not None:
        x, y, z = (length * unit_um for length in lengths)
        return ResolvedSpacing((x, y, z), "header", affine, unit_um)
    if data.spacing_um is not None:
        return _with_affine(affine, lengths, unit_um, data.spacing_um, "config")
    return ResolvedSpacing()


def _with_affine(
    affine: FloatArray | None,
    lengths: Spacing | None,
    unit_um: float | None,
    spacing_um: Spacing,
    source: str,
) -> ResolvedSpacing:
    if affine is None or lengths is None:
        return ResolvedSpacing(spacing_um, source, diagonal_affine(spacing_um), 1.0)
    for factor in [unit_um] if unit_um is not None else list(UM_PER_UNIT.values()):
        if np.allclose(np.array(lengths) * factor, spacing_um, rtol=_AGREEMENT, atol=0):
            return ResolvedSpacing(spacing_um, source, affine, factor)
    corrected = np.array(affine, dtype=np.float64)
    corrected[:3, :3] *= np.array(spacing_um) / np.array(lengths)
    corrected[:3, 3] *= 1.0 if unit_um is None else unit_um
    return ResolvedSpacing(spacing_um, source, corrected, 1.0)
