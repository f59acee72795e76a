"""The phantom: synthetic two-photon volumes of branching vessels with known centreline and radius.

Trees grow by bifurcations that obey Murray's law (parent radius cubed equals the sum of the
children's, Murray 1926, doi 10.1073/pnas.12.3.207). The image is their occupancy on a grid that is
fine along z, blurred by an anisotropic Gaussian point-spread function, dimmed with depth, laid over
uneven background with cell bodies as bright as vessels, and counted as photons (Poisson).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from minivess import output
from minivess.config.schema import PhantomConfig
from minivess.data.geometry import Geometry
from minivess.data.volume import write_volume
from minivess.seeding import generator
from minivess.types import Array, FloatArray

PSF_SIGMA_UM = (0.5, 0.5, 2.0)
ROOT_RADIUS_UM = (3.0, 4.5)
SMALLEST_RADIUS_UM = 1.4
SEGMENT_PER_RADIUS = (5.0, 9.0)
ATTENUATION_LENGTHS = (0.9, 1.6)  # depths of the volume after which 1/e of the light is left
LABEL_OCCUPANCY = 0.3  # part of a voxel that a vessel fills where an annotator would mark it
GAIN = 20.0  # digital numbers per photon


@dataclass(frozen=True)
class Segment:
    """A straight piece of vessel: two ends (x, y, z) in um, radius in um, its tree."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius_um: float
    tree: int


@dataclass(frozen=True)
class Phantom:
    """One synthetic case: image uint16 and label uint8 (x, y, z), and what they were made from."""

    image: Array
    label: Array
    segments: tuple[Segment, ...]


def case_name(index: int) -> str:
    """Name of the case with an index from 0.

    >>> case_name(0)
    'phantom_001'
    """
    return f"phantom_{index + 1:03d}"


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.linalg.norm(vector))


def grow_tree(rng: np.random.Generator, extent_um: FloatArray, tree: int) -> list[Segment]:
    """Segments of one vessel tree that enters through a side of the volume.

    Args:
        rng: source of randomness.
        extent_um: size of the volume along (x, y, z).
        tree: number kept in the segments.
    """
    side = int(rng.integers(2))
    start = rng.uniform(0.15, 0.85, 3) * extent_um
    start[side] = 0.0 if rng.random() < 0.5 else extent_um[side]
    inward = extent_um * rng.uniform(0.35, 0.65, 3) - start
    todo = [(start, _unit(inward), float(rng.uniform(*ROOT_RADIUS_UM)))]
    segments: list[Segment] = []
    while todo and len(segments) < 200:
        begin, direction, radius = todo.pop(0)
        length = radius * rng.uniform(*SEGMENT_PER_RADIUS)
        pieces = 3
        for _ in range(pieces):
            # A little wandering keeps branches from being straight lines.
            direction = _unit(direction + rng.normal(0.0, 0.18, 3))
            finish = begin + direction * length / pieces
            segments.append(Segment(_triple(begin), _triple(finish), radius, tree))
            begin = finish
        if not np.all((begin >= 0) & (begin <= extent_um)):
            continue
        share = rng.uniform(0.3, 0.7)
        side_axis = _unit(np.cross(direction, rng.normal(size=3)))
        for part, sign in ((share, 1.0), (1.0 - share, -1.0)):
            child = radius * part ** (1.0 / 3.0)
            if child >= SMALLEST_RADIUS_UM:
                bend = rng.uniform(0.35, 0.8) * sign
                todo.append((begin, _unit(direction + bend * side_axis), child))
    return segments


def _triple(point: FloatArray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def rasterise(segments: list[Segment], shape: tuple[int, int, int], spacing: FloatArray) -> Array:
    """Boolean grid of the voxels whose centre lies in a segment (a capsule).

    Args:
        segments: pieces of vessel, in um.
        shape: voxels along (x, y, z).
        spacing: um per voxel along (x, y, z); voxel centres lie at (index + 0.5) * spacing.
    """
    grid = np.zeros(shape, dtype=bool)
    for segment in segments:
        start, end = np.array(segment.start), np.array(segment.end)
        low = np.floor((np.minimum(start, end) - segment.radius_um) / spacing - 0.5).astype(int)
        high = np.ceil((np.maximum(start, end) + segment.radius_um) / spacing + 0.5).astype(int)
        low, high = np.maximum(low, 0), np.minimum(high, shape)
        if np.any(low >= high):
            continue
        axes = [(np.arange(a, b) + 0.5) * s for a, b, s in zip(low, high, spacing, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        along = end - start
        position = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
        squared = np.sum((points - start - position[..., None] * along) ** 2, axis=-1)
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid[window] |= squared <= segment.radius_um**2
    return grid


def _cell_bodies(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: FloatArray
) -> FloatArray:
    """Bright round structures that are no vessels: what a threshold cannot tell from them."""
    extent = np.array(shape) * spacing
    count = round(float(np.prod(extent)) / 40_000.0)
    field = np.zeros(shape)
    for _ in range(count):
        centre = rng.uniform(0, 1, 3) * extent
        body = Segment(_triple(centre), _triple(centre + 0.5), float(rng.uniform(3.0, 5.5)), -1)
        field[rasterise([body], shape, spacing)] = rng.uniform(0.6, 1.2)
    return field


def make_phantom(config: PhantomConfig, index: int) -> Phantom:
    """The synthetic case with an index from 0; the same arguments give the same voxels.

    Args:
        config: shape, spacing in um, number of trees, photons, seed.
        index: number of the case.

    >>> phantom = make_phantom(PhantomConfig(phantom_shape=(32, 32, 8)), 0)
    >>> phantom.image.shape, phantom.image.dtype.name, sorted(set(phantom.label.flat)) == [0, 1]
    ((32, 32, 8), 'uint16', True)
    """
    rng = generator(config.phantom_seed, "phantom", index)
    shape, spacing = config.phantom_shape, np.array(config.phantom_spacing_um)
    fine = max(1, round(spacing[2] / spacing[0]))
    fine_shape = (shape[0], shape[1], shape[2] * fine)
    fine_spacing = spacing / (1.0, 1.0, fine)
    extent = np.array(shape) * spacing
    vessels, segments = np.zeros(fine_shape), []
    occupied = np.zeros(fine_shape, dtype=bool)
    for tree in range(config.n_trees):
        grown = grow_tree(rng, extent, tree)
        raster = rasterise(grown, fine_shape, fine_spacing)
        vessels[raster] = rng.uniform(0.7, 1.1)
        occupied |= raster
        segments.extend(grown)
    bodies = np.where(occupied, 0.0, _cell_bodies(rng, fine_shape, fine_spacing))
    sigma = np.array(PSF_SIGMA_UM) / fine_spacing
    blurred = ndimage.gaussian_filter(vessels + bodies, sigma)
    # One optical section per voxel along z: what lies between two sections is half seen in each.
    sections = blurred.reshape(*shape, fine).mean(axis=-1)
    haze_scale = np.array(shape) / 4.0
    haze = ndimage.gaussian_filter(rng.normal(size=shape), haze_scale, mode="reflect")
    haze = 0.12 + 0.06 * haze / max(float(np.abs(haze).max()), 1e-12)
    depth = (np.arange(shape[2]) + 0.5) / shape[2]
    light = np.exp(-depth / rng.uniform(*ATTENUATION_LENGTHS))
    counts = rng.poisson(config.photons * light * (sections + haze))
    image = np.clip(np.round(counts * GAIN), 0, 65535).astype(np.uint16)
    share = occupied.reshape(*shape, fine).mean(axis=-1)
    return Phantom(image, (share >= LABEL_OCCUPANCY).astype(np.uint8), tuple(segments))


def write_phantom(
    config: PhantomConfig, folder: Path, locked: Collection[str] = (), only: Collection[str] = ()
) -> list[str]:
    """Write cases as images/<case>.nii.gz and labels/<case>.nii.gz, and cases.csv.

    Args:
        config: shape, spacing in um, number of trees, photons, seed.
        folder: where to.
        locked: cases whose labels are not written; cases.csv leaves them out.
        only: the cases to write; all of them where it is empty.

    Returns the names of the cases.

    Raises:
        MinivessError: MV-SYSTEM-001 not writable, MV-SYSTEM-002 disk full.
    """
    names = [case_name(index) for index in range(config.n_cases)]
    affine = np.diag([*config.phantom_spacing_um, 1.0])
    for index, name in enumerate(names):
        if only and name not in only:
            continue
        phantom = make_phantom(config, index)
        geometry = Geometry(config.phantom_shape, affine, unit_um=1.0)
        write_volume(phantom.image, folder / "images" / f"{name}.nii.gz", geometry)
        if name not in locked:
            write_volume(phantom.label, folder / "labels" / f"{name}.nii.gz", geometry)
    made = [name for name in names if not only or name in only]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "image", "label"])
    writer.writerows(
        [name, f"images/{name}.nii.gz", f"labels/{name}.nii.gz"]
        for name in made
        if name not in locked
    )
    output.write_text(text.getvalue(), folder / "cases.csv")
    return made
