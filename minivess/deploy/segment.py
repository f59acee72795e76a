"""Segmenting a volume with an exported champion: as the DAG predicts, without torch.

Normalisation, windows, weights and threshold are the very functions that the DAG uses; only the
network itself runs in ONNX Runtime.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minivess.data.preprocess import normalise
from minivess.data.volume import Volume
from minivess.deploy.bundle import Bundle
from minivess.errors import MinivessError
from minivess.inference.windows import blended

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import onnxruntime

    from minivess.config.schema import PreprocessConfig
    from minivess.data.geometry import Geometry
    from minivess.types import Float32Array

INPUT, OUTPUT = "image", "probability"
_ERRORS_ONLY = 3


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A mask and the probability behind it, in the geometry of the volume.

    Attributes:
        mask: (x, y, z) uint8, 1 where there is vessel.
        probability: (x, y, z) float32 in 0..1.
        geometry: that of the volume.
    """

    mask: npt.NDArray[np.uint8]
    probability: Float32Array
    geometry: Geometry


def open_session(
    bundle: Bundle, threads: int = 1, variant: str | None = None
) -> onnxruntime.InferenceSession:
    """The network of a bundle, ready to run on the CPU.

    Args:
        bundle: as `read_bundle` gives it.
        threads: threads of a forward pass.
        variant: one of `bundle.variants`; none for the network as it was trained, in float32.

    Raises:
        MinivessError: MV-SYSTEM-004 ONNX Runtime is not installed, MV-STATE-003 it does not take
            the network, MV-CONFIG-003 there is no such variant.
    """
    path = bundle.model if variant is None else _variant(bundle, variant)
    # It reads the variable on import, and would otherwise report to its maker.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MinivessError(
            "MV-SYSTEM-004",
            what="ONNX Runtime is not installed",
            where=str(path),
            fix="install the extra serve: uv sync --extra serve",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        # Bytes, not a path: the graph can then not name other files.
        return onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors have no common class of their own
        raise MinivessError(
            "MV-STATE-003",
            what="ONNX Runtime does not take the exported network",
            where=str(path),
            found=str(error).splitlines()[0],
            fix="export it again: minivess experiment NAME deploy",
        ) from error


def _variant(bundle: Bundle, variant: str) -> Path:
    if variant not in bundle.variants:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"the exported champion has no variant {variant}",
            where=str(bundle.folder),
            found=", ".join(bundle.variants) or "none but float32",
            fix=f"add it to deploy.variants and run minivess experiment {bundle.experiment} deploy",
        )
    return bundle.folder / bundle.variants[variant]


def segment(
    session: onnxruntime.InferenceSession,
    bundle: Bundle,
    volume: Volume,
    progress: Callable[[float], None] | None = None,
) -> Segmentation:
    """Vessel mask and probability of a volume, at its own resolution.

    The memory beside the volume is that of normalising it (its voxels as float64 for a moment),
    three volumes of float32, and one batch of windows.

    Args:
        session: as `open_session` gives it; several threads may share one.
        bundle: the champion that the session runs.
        volume: (x, y, z), any real type, as it was imaged.
        progress: told after each batch of windows which part is done, 0 to 1. What it raises ends
            the segmentation.

    Raises:
        MinivessError: MV-DATA-006 NaN or infinite voxels, MV-UPLOAD-007 one intensity after
            clipping.
    """
    _check_finite(volume)
    image = _normalised(volume, bundle.preprocess)

    def predict(batch: Float32Array) -> Float32Array:
        (found,) = session.run([OUTPUT], {INPUT: batch[:, None]})
        probability: Float32Array = found[:, 0]
        return probability

    probability = blended(
        image, bundle.window, bundle.overlap, bundle.window_batch, predict, progress
    )
    mask = (probability > bundle.threshold).astype(np.uint8)
    return Segmentation(mask, probability, volume.geometry)


def _normalised(volume: Volume, config: PreprocessConfig) -> Float32Array:
    """The image as the network gets it. Who uploads a volume cannot change how it is clipped."""
    try:
        return normalise(volume.array, config)[0]
    except MinivessError as error:
        raise MinivessError(
            "MV-UPLOAD-007",
            what="almost all voxels of the volume have one intensity",
            found=error.found,
            fix="cut it to the part that has vessels",
        ) from error


def _check_finite(volume: Volume) -> None:
    if volume.array.dtype.kind != "f":
        return
    count = volume.array.size - int(np.isfinite(volume.array).sum())
    if count:
        raise MinivessError(
            "MV-DATA-006",
            what="the volume has voxels that are no numbers",
            found=f"{count} NaN or infinite voxels",
            expected="a finite intensity in every voxel",
            fix="replace them in the program that wrote the file",
        )
