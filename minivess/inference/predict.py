"""Prediction of one case with the weights of one run, written in the geometry of its source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess import output, paths
from minivess.config.models import ModelConfig
from minivess.config.schema import ComputeConfig, InferenceConfig
from minivess.data.preprocess import PreparedCase
from minivess.data.volume import write_volume
from minivess.errors import MinivessError
from minivess.inference.device import choose_device, choose_precision
from minivess.inference.memory import within_memory
from minivess.inference.sliding_window import predict_probability
from minivess.inference.windows import window_for
from minivess.models import build_adapter
from minivess.models.weights import load_weights
from minivess.types import BoolArray, Float32Array, Shape

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights, and the window and divisor it was trained for."""

    network: torch.nn.Module
    patch_size: Shape
    divisor: Shape
    any_window: bool = False


def load_network(run: Path) -> TrainedNetwork:
    """The network of a finished run, in evaluation mode on the CPU.

    Raises:
        MinivessError: MV-STATE-002 the run is not finished, MV-STATE-003 its weights do not
            fit, or a file of it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record_path, weights_path = paths.run_record(run), paths.weights(run)
    if not record_path.exists() or not weights_path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what="the run has not been trained",
            where=str(run),
            fix="run minivess train for it, or the whole experiment",
        )
    record: dict[str, Any] = output.read_json(record_path, "network")
    x, y, z = record["network"]["spacing_um"]
    adapter = build_adapter(ModelConfig(**record["network"]["config"]), (x, y, z))
    network = adapter.build()
    try:
        weights = load_file(weights_path)
    except SafetensorError as error:
        raise MinivessError(
            "MV-STATE-003",
            what="the weights cannot be read",
            where=str(weights_path),
            found=str(error).splitlines()[0],
            fix="delete the file and run the experiment again",
        ) from error
    load_weights(network, weights, str(weights_path))
    px, py, pz = record["network"]["patch_size"]
    patch_size = (px, py, pz)
    return TrainedNetwork(network.eval(), patch_size, adapter.patch_divisor(), adapter.any_window())


def predict_case(
    trained: TrainedNetwork,
    case: PreparedCase,
    inference: InferenceConfig,
    compute: ComputeConfig,
    dropout: bool = False,
) -> tuple[Float32Array, BoolArray]:
    """Vessel probability (x, y, z) float32 and mask of a case.

    Args:
        trained: network, patch size and divisor.
        case: the preprocessed case.
        inference: window (the patch size unless set), overlap, threshold.
        compute: device and precision.
        dropout: leave units out as in training (Monte-Carlo dropout); torch's generator decides.

    Raises:
        MinivessError: MV-SYSTEM-003 device not there.
    """
    device, _ = choose_device(compute)
    precision, _ = choose_precision(compute, device)
    window = window_for(inference.window_size or trained.patch_size, trained.divisor)
    probability = predict_probability(
        trained.network.to(device),
        np.asarray(case.image),
        window,
        inference.overlap,
        inference.window_batch,
        precision,
        dropout,
    )
    return probability, probability > inference.probability_threshold


def predict_within_memory(
    trained: TrainedNetwork,
    case: PreparedCase,
    inference: InferenceConfig,
    compute: ComputeConfig,
) -> tuple[Float32Array, BoolArray, str]:
    """`predict_case`, with less at once where memory runs out and the profile allows it.

    Args:
        trained: network, patch size and divisor.
        case: the preprocessed case.
        inference: what is tried first.
        compute: device, precision and profile.

    Returns:
        Probability, mask, and what is to be noted of them: nothing, mostly.

    Raises:
        MinivessError: MV-SYSTEM-003 device not there; MV-SYSTEM-006 out of memory, and nothing may
            be lowered.
    """
    (probability, mask), note = within_memory(
        lambda windows: predict_case(trained, case, windows, compute), inference, compute.profile
    )
    return probability, mask, note


def write_prediction(
    run: Path, case: PreparedCase, probability: Float32Array, mask: BoolArray, note: str = ""
) -> None:
    """Write probability and mask as NIfTI with the affine of the case's source.

    Args:
        run: folder of the run.
        case: what was predicted.
        probability: (x, y, z), 0 to 1.
        mask: (x, y, z).
        note: what is to be known of how it was predicted, kept in both headers.

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    write_volume(probability, paths.probability(run, case.case), case.geometry, note)
    write_volume(mask.astype(np.uint8), paths.prediction(run, case.case), case.geometry, note)
