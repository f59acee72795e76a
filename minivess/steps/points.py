"""Segmentation of one case from points, with published weights."""

from __future__ import annotations

from pathlib import Path

from minivess import paths
from minivess.config.load import load_step
from minivess.errors import MinivessError
from minivess.logs import say


def segment_points(root: Path, model: str, case: str, points: Path, target: Path) -> None:
    """Write the mask of a case that published weights make of points.

    Args:
        root: results folder of the experiment.
        model: name of a network that takes points.
        case: the preprocessed case.
        points: CSV, see `read_points`.
        target: NIfTI file of the mask.

    Raises:
        MinivessError: MV-CONFIG-003 no such network, MV-CONFIG-004 one that takes no points,
            MV-MODEL-... its weights, MV-DATA-... the points, MV-STATE-002 not preprocessed.
    """
    from minivess.data.preprocess import open_case
    from minivess.data.volume import write_volume
    from minivess.inference.device import choose_device, prepare_torch
    from minivess.inference.points import probability_from_points, read_points
    from minivess.inference.windows import window_for
    from minivess.models import build_adapter

    experiment = load_step(paths.step_config(root, "experiment"))
    if model not in experiment.models:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no network {model} in the experiment",
            where=experiment.name,
            found=", ".join(experiment.models),
            fix="choose one of those",
        )
    prepare_torch(experiment.compute)
    from minivess.models.one_logit import ClassPrompted

    prepared = open_case(paths.preprocessed_case(root, case))
    adapter = build_adapter(experiment.models[model], prepared.spacing_um)
    wanted = read_points(points, prepared.shape)
    network = adapter.build()
    if not isinstance(network, ClassPrompted):
        raise MinivessError(
            "MV-CONFIG-004",
            what=f"{adapter.config.architecture} takes no points",
            where=f"{experiment.name}, models.{model}",
            fix="choose a network with the architecture vista3d",
        )
    adapter.start(network)
    device, _ = choose_device(experiment.compute)
    size = experiment.inference.window_size or (128, 128, 128)
    fitting = [min(a, max(b, 1)) for a, b in zip(size, prepared.shape, strict=True)]
    window = window_for((fitting[0], fitting[1], fitting[2]), adapter.patch_divisor())
    probability = probability_from_points(network.eval().to(device), prepared.image, wanted, window)
    mask = probability > experiment.inference.probability_threshold
    write_volume(mask, target, prepared.geometry)
    say(f"{case}: {int(mask.sum())} voxels from {len(wanted)} points, in {target}")
