"""Exported networks of lower precision: smaller files, other numbers. Each is measured.

bfloat16 is none of them: ONNX has no convolution of that type in this opset, and ONNX Runtime
refuses such a graph.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess.deploy.segment import INPUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from minivess.config.deploy import Variant
    from minivess.types import Float32Array


def make_variant(model: bytes, variant: Variant, calibration: Iterable[Float32Array]) -> bytes:
    """A network of lower precision; its input and output stay float32.

    Args:
        model: the exported network in float32.
        variant: fp16 or int8.
        calibration: batches of windows (B, x, y, z) that the ranges of int8 are measured on.
    """
    return _int8(model, calibration) if variant == "int8" else _fp16(model)


def _fp16(model: bytes) -> bytes:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _silent():
        converted = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    return _serialised(converted)


def _int8(model: bytes, calibration: Iterable[Float32Array]) -> bytes:
    """Convolutions with 8-bit weights, a scale for each channel, and 8-bit activations.

    Source: Jacob et al. 2018, Quantization and training of neural networks for efficient
    integer-arithmetic-only inference, arXiv:1712.05877; ONNX Runtime's implementation.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Windows(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Float32Array] = iter(calibration)

        def get_next(self) -> dict[str, Float32Array] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch[:, None]}

    with tempfile.TemporaryDirectory() as folder, _silent():
        made = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.load_from_string(model),
            str(made),
            Windows(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _serialised(onnx.load(str(made)))


def _serialised(model: onnx.ModelProto) -> bytes:
    model.producer_name, model.producer_version = "minivess", metadata.version("minivess")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without advice on how to prepare networks that are not ours."""
    before: Any = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
