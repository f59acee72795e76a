"""Small pictures of volumes: maximum along z, with the outline of the label on top."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

    from minivess.types import Array, BoolArray, Spacing

LARGEST = 256
OUTLINE = (230, 159, 0)  # orange of Okabe and Ito's palette


def picture_size(shape: tuple[int, int], spacing: tuple[float, float]) -> tuple[int, int]:
    """Width and height in pixels of a plane shown true to scale, the longer side 256.

    >>> picture_size((512, 256), (1.0, 1.0))
    (256, 128)
    """
    width, height = shape[0] * spacing[0], shape[1] * spacing[1]
    scale = LARGEST / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def projection(volume: Array, spacing: Spacing) -> str:
    """Maximum-intensity projection along z as a PNG data URI, grey from 1st to 99.9th percentile.

    Args:
        volume: (x, y, z); voxels that are not finite are shown black.
        spacing: voxel size (x, y, z), in any unit.

    x runs to the right, y down.
    """
    from PIL import Image

    plane = np.where(np.isfinite(volume), volume, -np.inf).max(axis=2)
    finite = plane[np.isfinite(plane)]
    low, high = np.percentile(finite, [1, 99.9]) if finite.size else (0.0, 0.0)
    range_ = high - low if high > low else 1.0
    grey = np.clip((np.where(np.isfinite(plane), plane, low) - low) / range_ * 255, 0, 255)
    image = Image.fromarray(np.rint(grey.T).astype(np.uint8))
    shape = (plane.shape[0], plane.shape[1])
    size = picture_size(shape, (spacing[0], spacing[1]))
    return data_uri(image.resize(size, Image.Resampling.BOX))


def outline(label: BoolArray, spacing: Spacing) -> str:
    """Outline of the projection along z of a label (x, y, z) as a transparent PNG data URI."""
    from PIL import Image
    from scipy import ndimage

    plane = label.any(axis=2)
    size = picture_size((plane.shape[0], plane.shape[1]), (spacing[0], spacing[1]))
    filled = Image.fromarray(plane.T.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    mask = np.asarray(filled) >= 128
    edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
    picture = Image.fromarray(edge.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, *OUTLINE])
    return data_uri(picture, transparency=0)


def data_uri(image: Image, transparency: int | None = None) -> str:
    """A picture as a PNG data URI; equal bytes for equal pictures."""
    buffer = io.BytesIO()
    options = {} if transparency is None else {"transparency": transparency}
    image.save(buffer, format="PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
