"""What a person sees of a segmentation: slices, projection, statistics with unit and definition."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from minivess.figures.style import scale_bar_um
from minivess.metrics import METRICS
from minivess.metrics.morphometry import measures, vessels_of
from minivess.metrics.overlap import volume_fraction

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.ImageFont import FreeTypeFont

    from minivess.types import Array, BoolArray, Spacing

    type Picture = npt.NDArray[np.uint8]

type Overlay = Literal["outline", "filled", "none"]

LONGEST_SIDE = 960  # pixels of a picture
VESSEL = (240, 128, 32)  # orange, which grey images do not have
_FILL = 0.35  # of the colour, over the image
_MARGIN = 16  # pixels between the scale bar and the picture's edge
UNITS = {"1": "", "um": "µm", "um^3": "µm³"}
SHOWN = ("volume_fraction", "length_um", "radius_um", "n_branches", "n_junctions", "tortuosity")
COUNTS = ("n_branches", "n_junctions")


@dataclass(frozen=True)
class Statistic:
    """One number about the vessels of a mask."""

    id: str
    label: str
    value: float
    unit: str
    definition: str


def grey_window(volume: Array) -> tuple[float, float]:
    """Intensities to show as black and white: the 1st and the 99.8th percentile.

    >>> grey_window(np.zeros((2, 2, 2)))
    (0.0, 1.0)
    """
    low, high = (float(value) for value in np.percentile(volume, (1.0, 99.8)))
    return (low, high) if high > low else (low, low + 1.0)


def plane_picture(
    plane: Array,
    mask: BoolArray,
    spacing_um: tuple[float, float],
    window: tuple[float, float],
    overlay: Overlay = "outline",
) -> Picture:
    """Draw one plane true to scale, with its mask on top and a scale bar.

    Args:
        plane: intensities (x, y).
        mask: mask of the same shape.
        spacing_um: spacing (x, y) in um.
        window: intensities of black and white, see `grey_window`.
        overlay: outline or filled area of the mask, or none.

    Returns uint8 (rows, columns, RGB), the longer side 960 pixels; x runs to the right, y down.
    The image is interpolated, the mask is not: its outline follows the edges of the voxels. Where a
    pixel holds several voxels, it is vessel where one of them is.

    >>> plane_picture(np.zeros((4, 2)), np.ones((4, 2), bool), (1.0, 1.0), (0.0, 1.0)).shape
    (480, 960, 3)
    """
    from PIL import Image

    width_um, height_um = plane.shape[0] * spacing_um[0], plane.shape[1] * spacing_um[1]
    scale = LONGEST_SIDE / max(width_um, height_um)
    size = max(1, round(width_um * scale)), max(1, round(height_um * scale))
    low, high = window
    grey = np.clip((plane.astype(np.float32) - low) / (high - low) * 255, 0, 255)
    image = Image.fromarray(np.rint(grey.T).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    picture = np.repeat(np.asarray(image)[..., np.newaxis], 3, axis=2)
    covered = Image.fromarray(mask.T.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    several = max(plane.shape) > LONGEST_SIDE
    _lay_over(picture, np.asarray(covered) >= (1 if several else 128), overlay)
    return _with_scale_bar(picture, width_um)


def _lay_over(picture: Picture, mask: BoolArray, overlay: Overlay) -> None:
    """Draw a mask into a picture of its size."""
    from scipy import ndimage

    colour = np.array(VESSEL, dtype=np.float32)
    if overlay == "filled":
        mixed = (1 - _FILL) * picture[mask] + _FILL * colour
        picture[mask] = np.rint(mixed).astype(np.uint8)
    if overlay != "none":
        inside = ndimage.binary_erosion(mask, iterations=3, border_value=1)
        picture[mask & ~inside] = VESSEL


def _with_scale_bar(picture: Picture, width_um: float) -> Picture:
    """A white bar with its length, on black, in the lower right corner."""
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    if height < 6 * _MARGIN:
        return picture
    length_um = scale_bar_um(width_um)
    length = round(length_um / width_um * width)
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), _font()
    text = f"{length_um:g} µm"
    left, bottom = width - _MARGIN - length, height - _MARGIN
    draw.rectangle((left - 2, bottom - 8, left + length + 2, bottom + 2), fill=(0, 0, 0))
    draw.rectangle((left, bottom - 6, left + length, bottom), fill=(255, 255, 255))
    draw.text(
        (left + length / 2, bottom - 12),
        text,
        font=font,
        anchor="ms",
        fill=(255, 255, 255),
        stroke_width=3,
        stroke_fill=(0, 0, 0),
    )
    drawn: Picture = np.array(image)
    return drawn


@lru_cache(maxsize=1)
def _font() -> FreeTypeFont:
    from matplotlib import get_data_path
    from PIL import ImageFont

    # Pillow's own font has no letter for micro.
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 26)


def slice_picture(
    volume: Array,
    mask: BoolArray,
    index: int,
    spacing_um: Spacing,
    window: tuple[float, float],
    overlay: Overlay = "outline",
) -> Picture:
    """Draw the slice of a volume at an index along z; see `plane_picture`.

    Raises:
        IndexError: there is no such slice.
    """
    return plane_picture(volume[:, :, index], mask[:, :, index], spacing_um[:2], window, overlay)


def projection_picture(
    volume: Array, mask: BoolArray, spacing_um: Spacing, overlay: Overlay = "outline"
) -> Picture:
    """Draw the maximum-intensity projection along z, with that of the mask; see `plane_picture`."""
    plane: Array = volume.max(axis=2)
    return plane_picture(plane, mask.any(axis=2), spacing_um[:2], grey_window(plane), overlay)


def vessel_statistics(mask: BoolArray, spacing_um: Spacing) -> tuple[Statistic, ...]:
    """Measure the vessels of a mask as the evaluation does.

    The values are those of the table `cases` for the same mask; the length density, length over
    the volume of the whole image, is of this function.

    Args:
        mask: mask (x, y, z).
        spacing_um: spacing (x, y, z) in um.

    Raises:
        TypeError, MinivessError: see `minivess.metrics.morphometry.vessels_of`.

    >>> line = np.zeros((5, 3, 3), dtype=bool)
    >>> line[:, 1, 1] = True
    >>> [s.value for s in vessel_statistics(line, (10.0, 10.0, 10.0)) if s.id == "length_um"]
    [40.0]
    """
    values = {"volume_fraction": volume_fraction(mask), **measures(vessels_of(mask, spacing_um))}
    found = [
        Statistic(
            name,
            METRICS[name].label,
            values[name],
            UNITS[METRICS[name].unit],
            METRICS[name].meaning.removesuffix(", of the prediction"),
        )
        for name in SHOWN
    ]
    volume_um3 = mask.size * float(np.prod(spacing_um))
    density = Statistic(
        "length_density",
        "Length density",
        values["length_um"] / volume_um3 * 1e6,
        "mm/mm³",
        "length of the skeleton over the volume of the whole image",
    )
    return (*found[:2], density, *found[2:])


def shown_value(statistic: Statistic) -> str:
    """A value as people read it: counts whole, everything else with four digits.

    >>> shown_value(Statistic("length_um", "Length", 12345.678, "µm", ""))
    '12,350 µm'
    >>> shown_value(Statistic("n_branches", "Branches", 7.0, "", ""))
    '7'
    """
    value = statistic.value
    if statistic.id in COUNTS or value == 0:
        text = f"{value:,.0f}"
    elif statistic.id == "volume_fraction":
        text = f"{100 * value:.2f} %"
    else:
        digits = max(0, 3 - int(np.floor(np.log10(abs(value)))))
        text = f"{float(f'{value:.4g}'):,.{digits}f}"
    return f"{text} {statistic.unit}".strip()


def statistics_csv(statistics: tuple[Statistic, ...], origin: dict[str, str]) -> str:
    """Statistics as CSV, one a row; every row begins with what they are from.

    Args:
        statistics: see `vessel_statistics`.
        origin: name and content of the leading columns.

    >>> csv_text = statistics_csv((Statistic("n", "N", 2.0, "", "count"),), {"file": "a.nii"})
    >>> csv_text.splitlines()
    ['file,statistic,value,unit,definition', 'a.nii,n,2.0,1,count']
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*origin, "statistic", "value", "unit", "definition"])
    for s in statistics:
        writer.writerow([*origin.values(), s.id, repr(s.value), s.unit or "1", s.definition])
    return text.getvalue()
