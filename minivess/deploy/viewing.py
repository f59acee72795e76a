"""What the page holds of one volume, and the files it offers: no page in here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minivess import output
from minivess.config.schema import PhantomConfig
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.phantom import make_phantom
from minivess.data.volume import volume_suffix, write_volume
from minivess.deploy import views
from minivess.deploy.surface import as_glb, vessel_surface

if TYPE_CHECKING:
    from minivess.data.volume import Volume
    from minivess.deploy.views import Statistic
    from minivess.types import BoolArray, Float32Array, Spacing

EXAMPLE = "example.nii.gz"
# No data set of an experiment has this seed: nobody numbers their seeds so.
_EXAMPLE_SEED = 2_147_483_629


@dataclass(frozen=True, eq=False)
class Viewed:
    """A volume, and its segmentation where it has one.

    Attributes:
        name: file name as it was uploaded.
        choice: which of its visitor's choices it is.
        volume: voxels and grid.
        window: intensities of black and white.
        probability: vessel probability (x, y, z); none before segmentation.
        threshold: what made the mask of it.
        mask: the mask; empty before segmentation.
    """

    name: str
    choice: str
    volume: Volume
    window: tuple[float, float]
    probability: Float32Array | None
    threshold: float
    mask: BoolArray

    @property
    def spacing_um(self) -> Spacing:
        """Spacing (x, y, z) in um."""
        return self.volume.geometry.spacing_um

    @property
    def fullest_slice(self) -> int:
        """Slice with the most vessel voxels; the middle one where no slice has any."""
        counts = np.count_nonzero(self.mask, axis=(0, 1))
        return int(counts.argmax()) if counts.any() else self.n_slices // 2

    @property
    def n_slices(self) -> int:
        """Slices along z."""
        return self.volume.geometry.shape[2]


@dataclass(frozen=True)
class Offered:
    """The files made of a segmentation, and its statistics."""

    mask: Path
    statistics_csv: Path
    statistics: tuple[Statistic, ...]


def view(name: str, volume: Volume, choice: str = "") -> Viewed:
    """A volume that is not segmented yet."""
    empty = np.zeros(volume.geometry.shape, dtype=np.bool_)
    return Viewed(name, choice, volume, views.grey_window(volume.array), None, float("nan"), empty)


def with_probability(viewed: Viewed, probability: Float32Array) -> Viewed:
    """A volume with its probability, before a threshold is chosen."""
    return replace(viewed, probability=probability)


def at_threshold(viewed: Viewed, threshold: float) -> Viewed:
    """The same segmentation with the mask of another threshold; nothing is predicted again.

    Raises:
        ValueError: it is not segmented.
    """
    if viewed.probability is None:
        raise ValueError(f"{viewed.name} is not segmented")
    return replace(viewed, threshold=threshold, mask=viewed.probability > threshold)


def stem(name: str) -> str:
    """A file name without the ending of its format, safe as a part of other names.

    >>> stem("Mouse 3/scan.ome.tif"), stem("a.nii.gz"), stem("..")
    ('scan.ome', 'a', 'volume')
    """
    last = re.split(r"[/\\\\]", name)[-1]
    suffix = volume_suffix(Path(last)) or ""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", last[: len(last) - len(suffix)]).strip("._")
    return kept[:120] or "volume"


def offer(viewed: Viewed, origin: dict[str, str], folder: Path) -> Offered:
    """Measure a segmentation and write its mask (NIfTI) and its statistics (CSV).

    Args:
        viewed: a segmented volume.
        origin: what else every row of the CSV says, before file and threshold.
        folder: where to; the files of an earlier threshold are replaced.

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    name = stem(viewed.name)
    offered = Offered(
        folder / f"{name}_vessels.nii.gz",
        folder / f"{name}_statistics.csv",
        views.vessel_statistics(viewed.mask, viewed.spacing_um),
    )
    write_volume(viewed.mask, offered.mask, viewed.volume.geometry)
    rows = {**origin, "file": viewed.name, "threshold": f"{viewed.threshold:g}"}
    output.write_text(views.statistics_csv(offered.statistics, rows), offered.statistics_csv)
    return offered


def surface_file(viewed: Viewed, folder: Path) -> Path:
    """Where `write_surface` puts the surface of a volume's vessels."""
    return folder / f"{stem(viewed.name)}_surface.glb"


def write_surface(viewed: Viewed, folder: Path) -> Path:
    """Write the surface of a segmentation (binary glTF).

    Raises:
        ValueError: it is not segmented.
        MinivessError: MV-SYSTEM-... from writing.
    """
    if viewed.probability is None:
        raise ValueError(f"{viewed.name} is not segmented")
    spacing, path = viewed.spacing_um, surface_file(viewed, folder)
    surface = vessel_surface(viewed.probability, viewed.mask, viewed.threshold, spacing)
    x, y, z = (n * um for n, um in zip(viewed.mask.shape, spacing, strict=True))
    with output.replacing(path) as temporary:
        temporary.write_bytes(as_glb(surface, (x, y, z)))
    return path


def write_example(folder: Path) -> Path:
    """Write the example: a phantom of the demo's kind that no network was trained on."""
    config = PhantomConfig(phantom_shape=(128, 128, 24), n_trees=4, phantom_seed=_EXAMPLE_SEED)
    geometry = Geometry(config.phantom_shape, diagonal_affine(config.phantom_spacing_um), 1.0)
    write_volume(make_phantom(config, 0).image, folder / EXAMPLE, geometry)
    return folder / EXAMPLE
