"""Checks of one case each: what is wrong with a row of the manifest, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from minivess.data import checks_geometry
from minivess.data.manifest import SHOWN_VALUES, Row, unmapped_label
from minivess.data.problem import Finding, Problem, Severity
from minivess.data.published import MINIVESS_MD5
from minivess.errors import CODES

if TYPE_CHECKING:
    from minivess.config.schema import Experiment

PLAUSIBLE_FRACTION = (0.001, 0.5)
# Of files that cannot be used; other problems say themselves what else would help.
_FILE_CODES = ("MV-DATA-001", "MV-DATA-002", "MV-DATA-003")


def _image_file(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if row["read_error_code"]:
        yield Finding(
            row["read_error_code"],
            row["read_error"],
            "a complete three-dimensional volume",
            _or_exclude(row["read_error_code"], row["read_error_fix"]),
        )


def _or_exclude(code: str, fix: str) -> str:
    return f"{fix}, or leave the case out with data.exclude" if code in _FILE_CODES else fix


def _label_file(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if row["label_read_error_code"]:
        yield Finding(
            row["label_read_error_code"],
            row["label_read_error"],
            "a complete three-dimensional label",
            _or_exclude(row["label_read_error_code"], row["label_read_error_fix"]),
            where=row["label"],
        )


def _nonfinite(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if row["n_nonfinite"]:
        yield Finding(
            "MV-DATA-006",
            f"{row['n_nonfinite']} of {int(np.prod(row['shape']))} voxels",
            "finite intensities",
            "replace these voxels (for example by the median of their neighbours) and save again",
        )


def _constant(row: Row, experiment: Experiment) -> Iterator[Finding]:
    low, high = row["intensity_min"], row["intensity_max"]
    if low is not None and low == high:
        yield Finding(
            "MV-DATA-014",
            f"every voxel is {low:g}",
            "a volume in which vessels differ from the rest",
            "export the volume again, or leave the case out with data.exclude",
        )


def _is_image(row: Row) -> bool:
    """Whether a label has as many values as an image, or more than an image that has but two."""
    n_values = len(row["label_values"] or ())
    return n_values >= SHOWN_VALUES or (n_values > 2 and row["two_valued"] is True)


def _swapped(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if not _is_image(row):
        return
    values = row["label_values"]
    if len(values) < SHOWN_VALUES:
        found = f"{len(values)} values in the label, 2 in the image"
    else:
        found = f"{SHOWN_VALUES} values or more in the label: {', '.join(map(str, values))}"
    yield Finding(
        "MV-DATA-020",
        found,
        f"a label of fewer than {SHOWN_VALUES} values, and no more than its image has",
        "are image and label swapped? name each in its own column or folder; else save the label "
        "with 0 for background and one value for vessel",
        where=row["label"],
    )


def _label_values(row: Row, experiment: Experiment) -> Iterator[Finding]:
    values = row["label_values"]
    if values and row["vessel_fraction"] is None and not _is_image(row):
        error = unmapped_label(row["case"], row["label"], values)
        yield Finding(error.code, error.found, error.expected, error.fix, where=row["label"])


def _other_values(row: Row, experiment: Experiment) -> Iterator[Finding]:
    mapped = experiment.data.vessel_labels
    values = row["label_values"]
    if mapped is None or not values or _is_image(row):
        return
    others = sorted(set(values) - {0, *mapped})
    if others:
        yield Finding(
            "MV-DATA-007",
            f"the values {', '.join(map(str, others))} count as background",
            f"0 and the values of data.vessel_labels {list(mapped)}",
            "add them to data.vessel_labels if they mean vessel",
            where=row["label"],
            what="the label has values besides 0 and data.vessel_labels",
        )


def _empty_label(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if row["vessel_fraction"] == 0:
        mapped = experiment.data.vessel_labels
        meant = f"data.vessel_labels {list(mapped)}" if mapped is not None else "1"
        yield Finding(
            "MV-DATA-008",
            f"no voxel means vessel; the values are {', '.join(map(str, row['label_values']))}, "
            f"vessel is {meant}",
            "at least one vessel voxel",
            "correct the label or data.vessel_labels, or leave the case out with data.exclude",
            where=row["label"],
        )


def _full_label(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if row["vessel_fraction"] == 1:
        yield Finding(
            "MV-DATA-016",
            f"every voxel is vessel; the values are {', '.join(map(str, row['label_values']))}",
            "a label with background",
            "correct the label or data.vessel_labels, or leave the case out with data.exclude",
            where=row["label"],
        )


def _vessel_fraction(row: Row, experiment: Experiment) -> Iterator[Finding]:
    fraction, (low, high) = row["vessel_fraction"], PLAUSIBLE_FRACTION
    if fraction is not None and 0 < fraction < 1 and not low <= fraction <= high:
        yield Finding(
            "MV-DATA-016",
            f"{fraction:.4%} of the voxels",
            f"{low:.1%} to {high:.0%}",
            "look at the picture: is the label inverted, nearly empty, or of another volume?",
            where=row["label"],
        )


def _image_as_label(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if row["image_sha256"] and row["image_sha256"] == row["label_sha256"]:
        yield Finding(
            "MV-DATA-012",
            "image and label are the same file",
            "a label beside its image",
            "name the label's own file",
            where=row["label"],
        )


def _published(row: Row, experiment: Experiment) -> Iterator[Finding]:
    if experiment.data.source != "minivess" or row["case"] not in MINIVESS_MD5:
        return
    for kind, expected in zip(("image", "label"), MINIVESS_MD5[row["case"]], strict=True):
        found = row[f"{kind}_md5"]
        if found and found != expected:
            yield Finding(
                "MV-DATA-015",
                f"MD5 {found}",
                f"MD5 {expected} of the published file",
                "download the file again unless you changed it on purpose",
                where=row[kind],
            )


# name of the check: severity, check. The severity of each check is documented here and only here.
ROW_CHECKS: dict[str, tuple[Severity, Callable[[Row, Experiment], Iterator[Finding]]]] = {
    "image file": ("error", _image_file),
    "label file": ("error", _label_file),
    "shape": ("error", checks_geometry.shape),
    "geometry": ("error", checks_geometry.geometry),
    "non-finite voxels": ("error", _nonfinite),
    "constant image": ("error", _constant),
    "image and label swapped": ("error", _swapped),
    "label values": ("error", _label_values),
    "other label values": ("warning", _other_values),
    "empty label": ("error", _empty_label),
    "full label": ("error", _full_label),
    "spacing": ("error", checks_geometry.spacing),
    "unit": ("error", checks_geometry.unit),
    "image as label": ("error", _image_as_label),
    "vessel fraction": ("warning", _vessel_fraction),
    "unit of the layout": ("warning", checks_geometry.layout_unit),
    "declared spacing": ("warning", checks_geometry.declared),
    "spacing against header": ("warning", checks_geometry.contradiction),
    "published checksum": ("warning", _published),
}


def row_problems(row: Row, experiment: Experiment) -> Iterator[Problem]:
    """All problems of one case, in the order of `ROW_CHECKS`."""
    for severity, check in ROW_CHECKS.values():
        for found in check(row, experiment):
            yield Problem(
                row["case"],
                severity,
                found.code,
                found.what or CODES[found.code],
                found.where or row["image"],
                found.found,
                found.expected,
                found.fix,
            )
