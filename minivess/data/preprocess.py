"""From a source volume to what training reads: normalised, at its own resolution, memory-mapped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minivess import output, provenance
from minivess.config.schema import DataConfig, PreprocessConfig
from minivess.data.geometry import Geometry
from minivess.data.manifest import geometry_of, read_image, read_label
from minivess.errors import MinivessError
from minivess.types import Array, BoolArray, Float32Array, Shape, Spacing

IMAGE, LABEL, FOREGROUND, CASE = "image.npy", "label.npy", "foreground.npy", "case.json"
# Only where a loss needs it: see `minivess.data.skeletons`.
LABEL_SKELETON = "label_skeleton.npy"


@dataclass(frozen=True)
class Normalisation:
    """How intensities became input: clip to [low, high], subtract shift, divide by scale."""

    low: float
    high: float
    shift: float
    scale: float


@dataclass(frozen=True)
class PreparedCase:
    """A preprocessed case; the arrays are memory maps (x, y, z).

    The label is 0 and 1, and 2 on its tubed skeleton where the case was opened with that.
    """

    case: str
    group: str
    image: Float32Array
    label: Array
    foreground: Array
    geometry: Geometry

    @property
    def spacing_um(self) -> Spacing:
        """Spacing (x, y, z) in um."""
        return self.geometry.spacing_um

    @property
    def shape(self) -> Shape:
        """Voxels along (x, y, z)."""
        return self.geometry.shape


def normalise(
    image: Array, config: PreprocessConfig, where: str = "the volume"
) -> tuple[Float32Array, Normalisation]:
    """Normalised image and the numbers that did it.

    Args:
        image: (x, y, z), any real dtype.
        config: kind of normalisation and the percentiles to clip at.
        where: case and file, for the error.

    A constant image becomes all zeros, unless the normalisation is none. The statistics are those
    of the clipped volume.

    Raises:
        MinivessError: MV-DATA-014 an image of several intensities that clipping makes one.

    >>> image, how = normalise(np.arange(8.0).reshape(2, 2, 2), PreprocessConfig())
    >>> abs(float(image.mean())) < 1e-6
    True
    """
    low, high = (float(value) for value in np.percentile(image, config.clip_percentiles))
    if low == high and image.min() < image.max():
        raise _clipped_away(image, config, where)
    clipped = np.clip(image.astype(np.float32), low, high)
    shift, scale = 0.0, 1.0
    if config.normalisation == "zscore":
        shift, scale = float(clipped.mean(dtype=np.float64)), float(clipped.std(dtype=np.float64))
    elif config.normalisation == "minmax":
        shift, scale = low, high - low
    # What float32 rounds to zero cannot divide.
    how = Normalisation(low, high, shift, scale if np.float32(scale) > 0 else 1.0)
    clipped -= np.float32(how.shift)
    clipped /= np.float32(how.scale)
    return clipped, how


def _clipped_away(image: Array, config: PreprocessConfig, where: str) -> MinivessError:
    """The error for a volume so sparse that nothing but its background is left."""
    first, last = config.clip_percentiles
    value = np.percentile(image, first)
    return MinivessError(
        "MV-DATA-014",
        what="clipping leaves one intensity of the image",
        where=where,
        found=f"intensities from {image.min():g} to {image.max():g}, of which the percentiles "
        f"{first:g} and {last:g} are both {value:g}",
        expected="more than one intensity, or nothing could be learned from the volume",
        fix="set preprocess.clip_percentiles wider, for example [0, 100], or leave the case out "
        "with data.exclude",
    )


def preprocess_case(
    row: dict[str, Any], data: DataConfig, config: PreprocessConfig, folder: Path
) -> None:
    """Write image.npy (float32), label.npy (uint8), foreground.npy and case.json of one case.

    Args:
        row: the case's row of the manifest.
        data: mapping of label values.
        config: normalisation.
        folder: where the files go; plain .npy, so that patches are read by memory map.

    Raises:
        MinivessError: MV-DATA-... from reading and normalising, MV-SYSTEM-... from writing.
    """
    where = f"case {row['case']}, file {row['image']}"
    image, how = normalise(read_image(row), config, where)
    label = read_label(row, data.vessel_labels)
    _forget_other_skeleton(label, folder)
    for name, array in (
        (IMAGE, image),
        (LABEL, label.astype(np.uint8)),
        (FOREGROUND, np.flatnonzero(label).astype(np.int64)),
    ):
        with output.replacing(folder / name) as temporary:
            np.save(temporary, np.ascontiguousarray(array), allow_pickle=False)
    geometry = geometry_of(row)
    output.write_json(
        {
            "case": row["case"],
            "group": row["group"],
            "shape": list(geometry.shape),
            "affine": np.asarray(geometry.affine).ravel().tolist(),
            "unit_um": geometry.unit_um,
            "spacing_um": list(geometry.spacing_um),
            "image_sha256": row["image_sha256"],
            "label_sha256": row["label_sha256"],
            # Also what label mapping and normalisation made of the files.
            "prepared_sha256": {
                name: provenance.file_sha256(folder / name) for name in (IMAGE, LABEL)
            },
            "normalisation": {"kind": config.normalisation, **asdict(how)},
        },
        folder / CASE,
    )


def _forget_other_skeleton(label: BoolArray, folder: Path) -> None:
    """Remove the tubed skeleton of another label than this, which a training would take for it."""
    skeleton = folder / LABEL_SKELETON
    if skeleton.exists() and not np.array_equal(output.read_array(skeleton) > 0, label):
        skeleton.unlink()


def open_case(folder: Path, with_skeleton: bool = False) -> PreparedCase:
    """Open a preprocessed case without reading its voxels.

    Args:
        folder: of the case.
        with_skeleton: whether its label has the value 2 on its tubed skeleton.

    Raises:
        MinivessError: MV-STATE-002 where a file is missing, MV-STATE-003 where one is damaged.
    """
    label = LABEL_SKELETON if with_skeleton else LABEL
    names = dict.fromkeys((IMAGE, LABEL, FOREGROUND, CASE, label))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise MinivessError(
            "MV-STATE-002",
            what=f"the preprocessed case {folder.name} is incomplete",
            where=str(folder),
            found=f"missing: {', '.join(missing)}",
            fix="run minivess data skeletons, or the whole experiment"
            if missing == [LABEL_SKELETON]
            else "run minivess data preprocess for it, or the whole experiment",
        )
    facts = output.read_json(folder / CASE, "case", "group", "shape", "affine", "unit_um")
    x, y, z = facts["shape"]
    affine = np.array(facts["affine"]).reshape(4, 4)
    return PreparedCase(
        case=facts["case"],
        group=facts["group"],
        image=output.read_array(folder / IMAGE),
        label=output.read_array(folder / label),
        foreground=output.read_array(folder / FOREGROUND),
        geometry=Geometry((x, y, z), affine, facts["unit_um"]),
    )
