"""What makes a bundle a model that MLflow loads: MLmodel, an input example, requirements.

`mlflow.onnx.load_model` and `mlflow.pyfunc.load_model` take the folder. MLflow's own writers put a
random identity and the time into MLmodel; here both come from the network, so that the same network
is the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from minivess import output, paths
from minivess.deploy.segment import INPUT, OUTPUT

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.deploy.bundle import Bundle
    from minivess.types import Float32Array, Shape

FLAVOR, PYFUNC = "onnx", "python_function"


def example_window(window: Shape, divisor: Shape, any_window: bool) -> Shape:
    """The size of the input example: small where the network takes small windows.

    >>> example_window((64, 64, 16), (4, 4, 2), True)
    (16, 16, 8)
    """
    if not any_window:
        return window
    x, y, z = (min(size, 4 * step) for size, step in zip(window, divisor, strict=True))
    return x, y, z


def write_example(image: Float32Array, bundle: Bundle) -> None:
    """Write the middle of a normalised image as input example (batch, channel, x, y, z).

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    size = example_window(bundle.window, bundle.divisor, bundle.any_window)
    wanted = np.zeros(size, dtype=np.float32)
    places = [
        slice((have - min(have, want)) // 2, (have - min(have, want)) // 2 + min(have, want))
        for have, want in zip(image.shape, size, strict=True)
    ]
    part = np.asarray(image[tuple(places)], dtype=np.float32)
    wanted[tuple(slice(0, length) for length in part.shape)] = part
    values = np.round(wanted.astype(np.float64), 4)[None, None].tolist()
    text = json.dumps({"inputs": {INPUT: values}}, separators=(",", ":"))
    output.write_text(text + "\n", paths.bundle_example(bundle.folder))


def write_mlmodel(bundle: Bundle, versions: Mapping[str, str], digest: str) -> None:
    """Write MLmodel and requirements.txt.

    Args:
        bundle: the network's.
        versions: of the packages that run it.
        digest: SHA-256 of the network.

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    kind = np.dtype(np.float32)
    spatial = (-1, -1, -1) if bundle.any_window else bundle.window
    signature = ModelSignature(
        inputs=Schema([TensorSpec(kind, (-1, 1, *spatial), INPUT)]),
        outputs=Schema([TensorSpec(kind, (-1, 1, *spatial), OUTPUT)]),
    )
    name = bundle.model.name
    model = Model(
        utc_time_created="1970-01-01 00:00:00",
        model_uuid=digest[:32],
        signature=signature,
        saved_input_example_info={
            "artifact_path": paths.bundle_example(bundle.folder).name,
            "type": "ndarray",
            "format": "tf-serving",
        },
        flavors={
            FLAVOR: {
                "data": name,
                "onnx_version": versions["onnx"],
                "providers": ["CPUExecutionProvider"],
                "onnx_session_options": None,
                "code": None,
            },
            PYFUNC: {"loader_module": "mlflow.onnx", "data": name},
        },
        metadata={"minivess.run": bundle.run, "licence": bundle.licence},
    )
    output.write_text(model.to_yaml(), paths.bundle_mlmodel(bundle.folder))
    lines = [f"{package}=={versions[package]}\n" for package in ("onnx", "onnxruntime")]
    output.write_text("".join(lines), paths.bundle_requirements(bundle.folder))


def signature_text(bundle: Bundle) -> str:
    """Input and output in words."""
    size = "x, y, z" if bundle.any_window else " x ".join(map(str, bundle.window))
    return f"`{INPUT}` (batch, 1, {size}) float32 to `{OUTPUT}` of the same shape, 0 to 1"


def bundle_files(folder: Path) -> list[Path]:
    """The files of MLflow in a bundle."""
    return [
        paths.bundle_mlmodel(folder),
        paths.bundle_example(folder),
        paths.bundle_requirements(folder),
    ]
