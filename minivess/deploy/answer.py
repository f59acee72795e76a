"""From an uploaded form to the file that is sent back."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess import provenance
from minivess.config.schema import EvaluationConfig
from minivess.data.volume import Volume, nifti_bytes, volume_suffix
from minivess.deploy.segment import Segmentation, segment
from minivess.deploy.upload import Limits, read_upload
from minivess.deploy.upload_reference import read_reference
from minivess.errors import MinivessError
from minivess.metrics import METRICS

if TYPE_CHECKING:
    import onnxruntime

    from minivess.deploy.bundle import Bundle
    from minivess.deploy.form import Form
    from minivess.types import BoolArray, Spacing

NIFTI, JSON, ZIP = "application/gzip", "application/json", "application/zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)


class AbandonedError(Exception):
    """The client has gone."""


@dataclass(frozen=True)
class Desk:
    """What every request is worked on with."""

    session: onnxruntime.InferenceSession
    bundle: Bundle
    limits: Limits
    max_seconds: float


@dataclass(frozen=True)
class Answer:
    """A file to send.

    Attributes:
        path: where it lies.
        name: what the client should call it.
        media_type: of its content.
        sha256: digest of its bytes.
        voxels: of the volume.
    """

    path: Path
    name: str
    media_type: str
    sha256: str
    voxels: int


def answer(desk: Desk, form: Form, folder: Path, gone: threading.Event) -> Answer:
    """Segment what was uploaded and write what was asked for.

    Args:
        desk: network and limits.
        form: what is asked for.
        folder: for the file; the caller removes it.
        gone: set when nobody waits for the answer any more.

    Raises:
        MinivessError: MV-UPLOAD-... what is wrong with the files, MV-SERVICE-005 it takes too long.
        AbandonedError: `gone` was set.
    """
    in_time = _clock(desk.max_seconds, gone)
    volume = read_upload(form.volume, desk.limits, form.spacing_um, form.spacing_unit)
    reference = None
    if form.reference is not None:
        reference = read_reference(form.reference, desk.limits, volume)
    in_time(0.0)
    found = segment(desk.session, desk.bundle, volume, in_time)
    name = form.volume.name[: -len(volume_suffix(form.volume) or "")] or "volume"
    # The very bytes that the experiment writes for the same mask and geometry.
    makers: dict[str, tuple[str, Callable[[], bytes]]] = {
        "mask": ("_mask.nii.gz", lambda: nifti_bytes(found.mask, found.geometry, True)),
        "probability": (
            "_probability.nii.gz",
            lambda: nifti_bytes(found.probability, found.geometry, True),
        ),
        "report": (
            "_report.json",
            lambda: json.dumps(report(desk.bundle, volume, found, reference), indent=1).encode(),
        ),
    }
    if form.answer == "all":
        path = folder / f"{name}.zip"
        _pack(path, name, makers, in_time)
    else:
        ending, make = makers[form.answer]
        path = folder / f"{name}{ending}"
        path.write_bytes(make())
    in_time(1.0)
    media_type = {".gz": NIFTI, ".json": JSON, ".zip": ZIP}[path.suffix]
    return Answer(path, path.name, media_type, provenance.file_sha256(path), volume.array.size)


def vessel_measures(mask: BoolArray, spacing_um: Spacing) -> dict[str, dict[str, Any]]:
    """What the evaluation measures of a prediction's vessels, with units and definitions.

    >>> line = np.zeros((5, 3, 3), dtype=bool)
    >>> line[:, 1, 1] = True
    >>> vessel_measures(line, (10.0, 10.0, 10.0))["length_um"]["value"]
    40.0
    """
    from minivess.metrics.morphometry import measures, vessels_of
    from minivess.metrics.overlap import volume_fraction

    values = {"volume_fraction": volume_fraction(mask), **measures(vessels_of(mask, spacing_um))}
    return {
        name: {
            "label": METRICS[name].label,
            "value": float(value),
            "unit": METRICS[name].unit,
            "definition": METRICS[name].meaning,
        }
        for name, value in values.items()
    }


def report(
    bundle: Bundle, volume: Volume, found: Segmentation, reference: BoolArray | None
) -> dict[str, Any]:
    """What is known of a segmentation: the network, the volume, its vessels, its metrics."""
    mask, spacing_um = found.mask.astype(np.bool_), volume.geometry.spacing_um
    made: dict[str, Any] = {
        "champion": {
            "experiment": bundle.experiment,
            "kind": bundle.kind,
            "run": bundle.run,
            "digest": bundle.digest,
            "threshold": bundle.threshold,
            "trained_on_spacing_um": list(bundle.spacing_um),
        },
        "volume": {"shape": list(volume.geometry.shape), "spacing_um": list(spacing_um)},
        "vessels": vessel_measures(mask, spacing_um),
    }
    if reference is not None:
        made["metrics"] = _metrics(found, mask, reference, spacing_um)
    return made


def _metrics(
    found: Segmentation, mask: BoolArray, reference: BoolArray, spacing_um: Spacing
) -> dict[str, Any]:
    from minivess.metrics.evaluate import evaluate_case

    tolerances = EvaluationConfig()
    values = evaluate_case(
        mask,
        reference,
        found.probability,
        spacing_um,
        tolerances.nsd_tolerance_um,
        tolerances.junction_tolerance_um,
    )
    return {
        **tolerances.model_dump(),
        "status": values[0].status,
        "values": {one.metric: {"value": one.value, "unit": one.unit} for one in values},
    }


def _clock(max_seconds: float, gone: threading.Event) -> Callable[[float], None]:
    """What is told how far the work is; it raises when that took too long or for nothing."""
    end = time.monotonic() + max_seconds

    def in_time(done: float) -> None:
        if gone.is_set():
            raise AbandonedError
        if time.monotonic() > end:
            raise MinivessError(
                "MV-SERVICE-005",
                what="the segmentation took too long",
                found=f"{done:.0%} after {max_seconds:g} s",
                fix="cut the volume into parts, or have max_seconds raised",
            )

    return in_time


def _pack(
    path: Path,
    name: str,
    makers: dict[str, tuple[str, Callable[[], bytes]]],
    in_time: Callable[[float], None],
) -> None:
    """All files in one ZIP, stored as they are: equal bytes for equal files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for ending, make in makers.values():
            archive.writestr(zipfile.ZipInfo(f"{name}{ending}", _EPOCH), make())
            in_time(1.0)
