"""Segmentation from points that a person has set, by a network that takes them as its prompt."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minivess.data.patches import extract
from minivess.errors import MinivessError
from minivess.types import Float32Array, Shape

if TYPE_CHECKING:
    from minivess.models.one_logit import ClassPrompted

COLUMNS = ("x", "y", "z", "inside")


@dataclass(frozen=True)
class Point:
    """A voxel, and whether it is in a vessel."""

    voxel: Shape
    inside: bool


def read_points(path: Path, shape: Shape) -> list[Point]:
    """Points of a CSV with the columns x, y, z (voxels, from 0) and inside (1 or 0).

    Args:
        path: the file.
        shape: voxels of the volume that they are in.

    Raises:
        MinivessError: MV-DATA-001 no such file, MV-DATA-013 wrong columns or values, a point
            outside the volume, or none in a vessel.
    """
    if not path.is_file():
        raise MinivessError(
            "MV-DATA-001", what="there is no file of points", where=str(path), fix="check the path"
        )
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    points = []
    for number, row in enumerate(rows, start=2):
        try:
            x, y, z, inside = (int(row[name]) for name in COLUMNS)
        except (KeyError, TypeError, ValueError):
            raise _unusable(path, f"line {number}: {row}") from None
        if inside not in (0, 1) or any(
            not 0 <= place < length for place, length in zip((x, y, z), shape, strict=True)
        ):
            raise _unusable(path, f"line {number}: {x}, {y}, {z}, {inside}; volume {list(shape)}")
        points.append(Point((x, y, z), bool(inside)))
    if not any(point.inside for point in points):
        raise _unusable(path, "no point that is in a vessel")
    return points


def _unusable(path: Path, found: str) -> MinivessError:
    return MinivessError(
        "MV-DATA-013",
        what="the list of points cannot be used",
        where=str(path),
        found=found,
        expected="columns x,y,z,inside: voxels of the volume from 0, and 1 (in a vessel) or 0",
        fix="correct that line",
    )


def probability_from_points(
    network: ClassPrompted, image: Float32Array, points: list[Point], window: Shape
) -> Float32Array:
    """Vessel probability (x, y, z): in a window around each point in a vessel, and 0 elsewhere.

    A window has all points that lie in it as its prompt. Where windows overlap, their logits are
    averaged. Windows lie inside the volume; one that is thinner is mirrored up to it.

    Args:
        network: in evaluation mode.
        image: normalised, (x, y, z).
        points: at least one in a vessel.
        window: voxels, multiples of the network's divisor.

    Source: the point-based windows of VISTA-3D (He et al. 2025, arXiv:2406.05285).
    """
    import torch

    device = next(network.parameters()).device
    logits = np.zeros(image.shape, dtype=np.float32)
    count = np.zeros(image.shape, dtype=np.float32)
    room = np.maximum(np.array(image.shape) - window, 0)
    for centre in (point for point in points if point.inside):
        start = np.clip(np.array(centre.voxel) - np.array(window) // 2, 0, room)
        patch = extract(image, start.tolist(), window)
        own = [p for p in points if np.all((start <= p.voxel) & (p.voxel < start + window))]
        places = torch.tensor(np.array([p.voxel for p in own]) - start, device=device)
        inside = torch.tensor([p.inside for p in own], device=device)
        with torch.no_grad():
            found = network.points(torch.from_numpy(patch[None, None]).to(device), places, inside)
        vessel = found[0, 1].float().cpu().numpy()
        box = tuple(slice(a, a + b) for a, b in zip(start, window, strict=True))
        shape = logits[box].shape
        logits[box] += vessel[tuple(slice(length) for length in shape)]
        count[box] += 1
    mean = logits / np.maximum(count, 1)
    return np.where(count > 0, 1 / (1 + np.exp(-mean)), 0).astype(np.float32)
