"""The manifest: one row of facts per case, from which everything later is decided."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from minivess import output
from minivess.data.geometry import Geometry
from minivess.data.locked import locked_label
from minivess.data.spacing import resolve_spacing, unit_that_counts
from minivess.data.volume import data_files, read_volume
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import pandera.polars as pa

    from minivess.config.schema import DataConfig
    from minivess.data.sources import SourceCase
    from minivess.data.volume import SourceVolume
    from minivess.types import Array, BoolArray

type Row = Mapping[str, Any]

_INTS, _FLOATS = pl.List(pl.Int64), pl.List(pl.Float64)
_REQUIRED = ("case", "image", "label", "group", "locked", "spacing_unit")
SHOWN_VALUES = 16
# Where nothing else is declared: the layout says whose the volumes are.
ORIGINS = {"minivess": "MiniVess", "phantom": "phantom"}

MANIFEST: dict[str, tuple[pl.DataType, str]] = {
    "case": (pl.String(), "name of the case"),
    "image": (pl.String(), "file of the volume"),
    "label": (pl.String(), "file of the label"),
    "group": (pl.String(), "cases of one group never straddle a fold"),
    "origin": (pl.String(), "laboratory or data set that the case is from, where declared"),
    "locked": (pl.Boolean(), "a test case: nothing of its label is known"),
    "image_sha256": (pl.String(), "SHA-256 of the volume's file (header and voxels)"),
    "label_sha256": (pl.String(), "SHA-256 of the label's file"),
    "image_md5": (pl.String(), "MD5 of the volume's file, as publishers list it"),
    "label_md5": (pl.String(), "MD5 of the label's file"),
    "shape": (_INTS, "voxels along (x, y, z)"),
    "dtype": (pl.String(), "stored type of the voxels"),
    "label_dtype": (pl.String(), "stored type of the label"),
    "spacing_um": (_FLOATS, "spacing along (x, y, z) in um; null where nothing declares it"),
    "spacing_source": (pl.String(), "header, csv or config"),
    "spacing_unit": (pl.String(), "unit that counts for the header: um, mm, or header for its own"),
    "header_unit": (pl.String(), "unit that the header names: um, mm or null"),
    "header_affine": (_FLOATS, "affine in the file, 16 numbers by rows; null without calibration"),
    "affine": (_FLOATS, "affine that counts, 16 numbers by rows"),
    "unit_um": (pl.Float64(), "micrometres per unit of the affine"),
    "intensity_min": (pl.Float64(), "smallest finite intensity"),
    "p1": (pl.Float64(), "1st percentile of the finite intensities"),
    "p50": (pl.Float64(), "median"),
    "p99": (pl.Float64(), "99th percentile"),
    "p999": (pl.Float64(), "99.9th percentile"),
    "intensity_max": (pl.Float64(), "largest finite intensity"),
    "two_valued": (pl.Boolean(), "whether the finite intensities are two values, as in a mask"),
    "n_nonfinite": (pl.Int64(), "NaN and infinite voxels"),
    "label_shape": (_INTS, "voxels of the label along (x, y, z)"),
    "label_header_unit": (pl.String(), "unit that the label's header names"),
    "label_affine": (_FLOATS, "affine in the label's file; null without calibration"),
    "label_values": (_INTS, "label values, the 16 smallest"),
    "vessel_fraction": (pl.Float64(), "part of the voxels that is vessel; null without mapping"),
    "n_components": (pl.Int64(), "26-connected components of the vessels"),
    "read_error_code": (pl.String(), "code of what is wrong with the volume's file, or empty"),
    "read_error": (pl.String(), "what is wrong with it, or empty"),
    "read_error_fix": (pl.String(), "what to do about it, or empty"),
    "label_read_error_code": (pl.String(), "the same for the label's file"),
    "label_read_error": (pl.String(), "the same for the label's file"),
    "label_read_error_fix": (pl.String(), "the same for the label's file"),
}


def manifest_schema() -> pa.DataFrameSchema:
    """The Pandera schema of the manifest: exactly these columns, in this order, unique cases."""
    import pandera.polars as pa

    never_null = {*_REQUIRED, *(name for name in MANIFEST if "read_error" in name)}
    columns = {
        name: pa.Column(
            dtype, nullable=name not in never_null, unique=name == "case", description=text
        )
        for name, (dtype, text) in MANIFEST.items()
    }
    return pa.DataFrameSchema(columns, strict=True, ordered=True)


def build_manifest(cases: list[SourceCase], data: DataConfig) -> pl.DataFrame:
    """One row per case, in the order of the cases; one volume in memory at a time.

    A file that cannot be read leaves nulls and the reason in its row; nothing is raised, so that
    `validate` can report all problems of all cases together. The label of a locked case is not
    opened, not even for its digest.
    """
    rows = [_row(case, data) for case in cases]
    table = pl.DataFrame(
        rows, schema={name: dtype for name, (dtype, _) in MANIFEST.items()}, orient="row"
    )
    checked: pl.DataFrame = manifest_schema().validate(table)
    return checked


def read_manifest(path: Path) -> pl.DataFrame:
    """Read and check a manifest.

    Raises:
        MinivessError: MV-STATE-002 where the file is missing, MV-STATE-003 where it is damaged or
            not a manifest.
    """
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what="the manifest is missing",
            where=str(path),
            fix=f"run the experiment up to it: snakemake --cores all {path}",
        )
    return output.read_parquet(path, manifest_schema())


def _row(case: SourceCase, data: DataConfig) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(MANIFEST)
    row |= {"case": case.case, "image": case.image.as_posix(), "label": case.label.as_posix()}
    row |= {"group": case.group, "spacing_unit": unit_that_counts(None, None, case, data)}
    row |= {"locked": case.locked, "origin": case.origin or data.origin or ORIGINS.get(data.source)}
    row |= _guarded(lambda: _image_facts(case, data), case.image, "image", "read_error")
    if case.locked:
        return row | _no_error("label_read_error")
    row |= _guarded(
        lambda: _label_facts(case.label, data.vessel_labels),
        case.label,
        "label",
        "label_read_error",
    )
    return row


def _no_error(prefix: str) -> dict[str, Any]:
    return {f"{prefix}_code": "", prefix: "", f"{prefix}_fix": ""}


def _guarded(read: Any, path: Path, kind: str, prefix: str) -> dict[str, Any]:
    """Hashes and facts of a file, or its hashes and the reason why there are no facts."""
    facts = _no_error(prefix)
    try:
        facts |= dict(zip((f"{kind}_sha256", f"{kind}_md5"), _digests(path), strict=True))
        facts |= read()
    except MinivessError as error:
        facts |= {f"{prefix}_code": error.code, f"{prefix}_fix": error.fix}
        facts[prefix] = error.found
    return facts


def _digests(path: Path) -> tuple[str | None, str | None]:
    """SHA-256 and MD5 of a volume's file or files; none where one is missing or not readable."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for file in data_files(path):
        try:
            with file.open("rb") as handle:
                while chunk := handle.read(1 << 20):
                    sha256.update(chunk)
                    md5.update(chunk)
        except OSError:  # read_volume reports it, with the fix
            return None, None
    return sha256.hexdigest(), md5.hexdigest()


def _image_facts(case: SourceCase, data: DataConfig) -> dict[str, Any]:
    volume = read_volume(case.image)
    spacing = resolve_spacing(volume.affine, volume.unit, case, data)
    return {
        "spacing_unit": unit_that_counts(volume.affine, volume.unit, case, data),
        **_header_facts(volume, "shape", "dtype", "header_unit", "header_affine"),
        "spacing_um": None if spacing.spacing_um is None else list(spacing.spacing_um),
        "spacing_source": spacing.source,
        "affine": None if spacing.affine is None else spacing.affine.ravel().tolist(),
        "unit_um": spacing.unit_um,
        **_intensities(volume.array),
    }


def _header_facts(
    volume: SourceVolume, shape: str, dtype: str, unit: str, affine: str
) -> dict[str, Any]:
    return {
        shape: list(volume.array.shape),
        dtype: str(volume.array.dtype),
        unit: volume.unit,
        affine: None if volume.affine is None else volume.affine.ravel().tolist(),
    }


def _intensities(array: Array) -> dict[str, Any]:
    names = ("intensity_min", "p1", "p50", "p99", "p999", "intensity_max")
    values = array.ravel(order="K")
    n_nonfinite = 0
    if array.dtype.kind == "f":
        finite = np.isfinite(values)
        n_nonfinite = int(values.size - np.count_nonzero(finite))
        # percentiles of float16 and float32 would be interpolated in their own precision
        values = values[finite].astype(np.float64, copy=False)
    if values.size == 0:
        return {"n_nonfinite": n_nonfinite}
    found = np.percentile(values, [0, 1, 50, 99, 99.9, 100])
    low, high = found[0], found[-1]
    two_valued = low < high and bool(((values == low) | (values == high)).all())
    facts = {**dict(zip(names, found.tolist(), strict=True)), "two_valued": two_valued}
    return facts | {"n_nonfinite": n_nonfinite}


def _label_facts(path: Path, vessel_labels: tuple[int, ...] | None) -> dict[str, Any]:
    from scipy import ndimage

    volume = read_volume(path)
    values = _label_values(volume.array, path)
    facts = _header_facts(volume, "label_shape", "label_dtype", "label_header_unit", "label_affine")
    facts["label_values"] = values[:SHOWN_VALUES]
    if vessel_labels is not None or set(values) <= {0, 1}:
        vessel = np.isin(volume.array, vessel_labels if vessel_labels is not None else (1,))
        _, n_components = ndimage.label(vessel, structure=np.ones((3, 3, 3), dtype=bool))
        facts["n_components"] = int(n_components)
        facts["vessel_fraction"] = float(np.count_nonzero(vessel) / vessel.size)
    return facts


def _label_values(array: Array, path: Path) -> list[int]:
    """All values of a label, ascending.

    Raises:
        MinivessError: MV-DATA-007 values that are not whole numbers.
    """
    values = np.unique(array)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        broken = values[~np.isfinite(values) | (values != np.rint(values))]
        raise MinivessError(
            "MV-DATA-007",
            what="the label has values that are not whole numbers",
            where=str(path),
            found="not whole: " + ", ".join(f"{value:g}" for value in broken[:SHOWN_VALUES]),
            expected="0 for background and 1 for vessel",
            fix="save the label as whole numbers; a probability map needs a threshold first",
        )
    return [int(value) for value in values]


def geometry_of(row: Row) -> Geometry:
    """The geometry of a row's volume.

    Raises:
        MinivessError: MV-DATA-009 where the volume has no spacing.
    """
    if row["affine"] is None or row["unit_um"] is None:
        raise MinivessError(
            "MV-DATA-009",
            what="the volume has no spacing",
            where=f"case {row['case']}, file {row['image']}",
            found="no spacing in the manifest",
            expected="three positive numbers in um",
            fix="set data.spacing_um: [x, y, z], or name the header's unit with data.spacing_unit",
        )
    x, y, z = row["shape"]
    return Geometry((x, y, z), np.reshape(row["affine"], (4, 4)), row["unit_um"])


def read_image(row: Row) -> Array:
    """The volume of a row, (x, y, z) in its stored dtype; raises as `read_volume`."""
    return read_volume(Path(row["image"])).array


def read_label(row: Row, vessel_labels: tuple[int, ...] | None) -> BoolArray:
    """The label of a row as booleans, (x, y, z): true where its value means vessel.

    Args:
        row: a row of the manifest.
        vessel_labels: values that mean vessel; none where labels are 0 and 1.

    Raises:
        MinivessError: MV-LOCK-001 the case is locked, MV-DATA-007 values other than 0 and 1 without
            vessel_labels; and as `read_volume`.
    """
    if row["locked"]:
        raise locked_label(row["case"], row["label"])
    path = Path(row["label"])
    array = read_volume(path).array
    values = _label_values(array, path)
    if vessel_labels is None and not set(values) <= {0, 1}:
        raise unmapped_label(row["case"], row["label"], values)
    return np.isin(array, vessel_labels if vessel_labels is not None else (1,))


def unmapped_label(case: str, label: str, values: list[int]) -> MinivessError:
    """The error for label values other than 0 and 1 that no mapping explains."""
    others = [value for value in values if value != 0]
    shown = ", ".join(str(value) for value in others[:SHOWN_VALUES])
    return MinivessError(
        "MV-DATA-007",
        what="the label has values other than 0 and 1",
        where=f"case {case}, file {label}",
        found=", ".join(str(value) for value in values[:SHOWN_VALUES]),
        expected="0 for background and 1 for vessel, or data.vessel_labels",
        fix=f"name the values that mean vessel, for example data.vessel_labels: [{shown}]",
    )


def read_groups(path: Path) -> dict[str, str]:
    """The group of each case of a manifest.

    Raises:
        MinivessError: as `read_manifest`.
    """
    return dict(read_manifest(path).select("case", "group").iter_rows())
