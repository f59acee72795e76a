"""A trained network as ONNX: the same bytes whenever and wherever it is exported."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from minivess.deploy.segment import INPUT, OUTPUT
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import torch

    from minivess.types import Shape

OPSET = 20
EXPORTER = ("onnx", "onnxscript")
AXES = ("batch", "x", "y", "z")
# What the exporter fills with stack traces, paths and names of Python classes.
_TRACES = frozenset({"metadata_props", "doc_string", "value_info"})


def export_network(network: torch.nn.Module, window: Shape, any_window: bool) -> bytes:
    """A network and the softmax after it as an ONNX file.

    The graph maps `image` (batch, 1, x, y, z) to `probability` of vessel (batch, 1, x, y, z), both
    float32.

    Args:
        network: maps (B, 1, x, y, z) to logits (B, 2, x, y, z); it comes back in evaluation mode.
        window: voxels (x, y, z) that it is used with.
        any_window: whether the architecture takes windows of other sizes, and so the graph.

    Raises:
        MinivessError: MV-SYSTEM-004 the exporter is not installed, MV-DEPLOY-001 the architecture
            cannot be exported.
    """
    check_installed()
    import torch

    class Foreground(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.network(image), dim=1)[:, 1:]

    dynamic = torch.export.Dim.DYNAMIC
    axes = dict.fromkeys((0, 2, 3, 4) if any_window else (0,), dynamic)
    # An axis of length one would be taken for a constant.
    example = torch.zeros(2, 1, *window)
    try:
        with _silent(), torch.no_grad():
            program = torch.onnx.export(
                Foreground(network.cpu().eval()),
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(axes,),
            )
    except Exception as error:  # the exporter's errors have no common class
        raise MinivessError(
            "MV-DEPLOY-001",
            what="the network cannot be exported to ONNX",
            where=type(network).__name__,
            found=(str(error).strip() or repr(error)).splitlines()[0],
            expected="operations that ONNX has; fixed axes where the architecture needs them",
            fix="let any_window of its adapter be False, or choose another architecture",
        ) from error
    assert program is not None  # only the older exporter gives none
    model = program.model_proto
    _strip(model)
    model.producer_name, model.producer_version = "minivess", metadata.version("minivess")
    for value in (*model.graph.input, *model.graph.output):
        _name_axes(value.type.tensor_type.shape.dim, any_window)
    found: bytes = model.SerializeToString(deterministic=True)
    return found


def check_installed() -> None:
    """Refuse to begin without what torch's exporter imports.

    Raises:
        MinivessError: MV-SYSTEM-004.
    """
    missing = [name for name in EXPORTER if find_spec(name) is None]
    if missing:
        raise MinivessError(
            "MV-SYSTEM-004",
            what="what exports a network to ONNX is not installed",
            found=f"no {' and no '.join(missing)}",
            fix="install the extra serve: uv sync --extra serve",
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what the exporter says of its own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _strip(message: Any) -> None:
    """Remove what depends on folders and on the build of torch, from all parts of a model."""
    for field, value in message.ListFields():
        if field.name in _TRACES:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _strip(part)


def _name_axes(sizes: Any, any_window: bool) -> None:
    sizes[0].dim_param = AXES[0]
    if any_window:
        for size, name in zip(list(sizes)[2:], AXES[1:], strict=True):
            size.dim_param = name
