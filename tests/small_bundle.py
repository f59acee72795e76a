"""A bundle whose network is written down by hand: milliseconds, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess import output, paths
from minivess.config.schema import PreprocessConfig
from minivess.deploy.bundle import Bundle, BundleMetric, file_digests, write_bundle

if TYPE_CHECKING:
    from minivess.types import Float32Array

WINDOW = (16, 16, 8)


def small_network(gain: float = 2.0) -> bytes:
    """Probability of vessel: the logistic function of the mean of a voxel and its neighbours."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = ["batch", 1, "x", "y", "z"]
    weight = np.full((1, 1, 3, 3, 1), gain / 9, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["logit"], pads=[1, 1, 0, 1, 1, 0]),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, size)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def make_bundle(folder: Path, model: bytes | None = None, **changes: Any) -> Bundle:
    """Write a bundle; `changes` are fields of it that are other than below."""
    folder.mkdir(parents=True, exist_ok=True)
    paths.bundle_model(folder).write_bytes(small_network() if model is None else model)
    output.write_text("# A small network\n", paths.model_card(folder))
    output.write_json({"cases": []}, paths.bundle_parity(folder))
    files = (paths.bundle_model(folder), paths.model_card(folder), paths.bundle_parity(folder))
    dice = BundleMetric(
        metric="dice",
        label="Dice",
        unit="1",
        mean=0.8,
        ci_low=0.7,
        ci_high=0.9,
        confidence=0.95,
        n_cases=4,
        n_not_ok=0,
    )
    values: dict[str, Any] = {
        "folder": folder,
        "experiment": "small",
        "kind": "balanced",
        "also": ("overlap",),
        "run": "small/dice_ce/seed0/fold0",
        "weights_sha256": "0" * 64,
        "architecture": "dynunet",
        "spacing_um": (1.0, 1.0, 5.0),
        "preprocess": PreprocessConfig(),
        "window": WINDOW,
        "divisor": (4, 4, 1),
        "any_window": True,
        "overlap": 0.5,
        "window_batch": 4,
        "threshold": 0.5,
        "metrics": (dice,),
        "licence": "CC-BY-4.0",
        "versions": {"minivess": "0.1.0"},
        "files": file_digests(files),
    }
    bundle = Bundle(**{**values, **changes})
    write_bundle(bundle)
    return bundle


def vessel_image(shape: tuple[int, int, int] = (40, 33, 11), seed: int = 0) -> Float32Array:
    """A bright tube along x in noise."""
    random = np.random.default_rng(seed)
    image = random.normal(100.0, 10.0, shape)
    image[:, shape[1] // 2 - 3 : shape[1] // 2 + 3, shape[2] // 2 - 1 : shape[2] // 2 + 2] += 80.0
    return image.astype(np.float32)
