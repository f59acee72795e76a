"""The surface of segmented vessels as a triangle mesh, in the format that browsers show (glTF)."""

from __future__ import annotations

import itertools
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from minivess.types import BoolArray, Float32Array, Spacing

MOST_TRIANGLES = 400_000
_VESSEL = (0.80, 0.18, 0.03, 1.0)  # linear RGBA
_FRAME = (0.45, 0.45, 0.45, 1.0)
_FLOAT, _UINT = 5126, 5125  # component types
_LINES = 1  # mode of a primitive; triangles have none
_VERTICES, _INDICES = 34962, 34963  # what a buffer view is for


@dataclass(frozen=True, eq=False)
class Surface:
    """A closed triangle mesh.

    Attributes:
        vertices_um: (n, 3) positions (x, y, z) in um; the first voxel's outer corner is 0.
        normals: (n, 3) unit vectors out of the vessels.
        faces: (m, 3) vertices of each triangle, counter-clockwise seen from outside.
        extent_um: size of the volume along (x, y, z).
    """

    vertices_um: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    faces: npt.NDArray[np.uint32]
    extent_um: tuple[float, float, float]


def vessel_surface(
    probability: Float32Array, mask: BoolArray, threshold: float, spacing_um: Spacing
) -> Surface | None:
    """Return the surface on which the probability has the threshold, around the mask's vessels.

    What is no vessel in the mask but is above the threshold (removed afterwards) gets no surface.
    Vessels that reach the volume's border end there. A surface of more than 400,000 triangles is
    made again from every second voxel, then every third, and so on. Empty mask: none.

    Args:
        probability: vessel probability (x, y, z).
        mask: mask of the same shape.
        threshold: the one that made the mask, between 0 and 1.
        spacing_um: spacing (x, y, z) in um.

    Source: Lewiner et al. 2003, doi 10.1080/10867651.2003.10487582, through scikit-image.

    >>> mask = np.zeros((6, 6, 6), dtype=bool)
    >>> mask[2:4, 2:4, 2:4] = True
    >>> found = vessel_surface(mask.astype(np.float32), mask, 0.5, (1.0, 1.0, 2.0))
    >>> (found.vertices_um.min(axis=0).tolist(), found.vertices_um.max(axis=0).tolist())
    ([2.0, 2.0, 4.0], [4.0, 4.0, 8.0])
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes

    if not mask.any():
        return None
    near = ndimage.binary_dilation(mask, np.ones((3, 3, 3), dtype=np.bool_))
    # A margin below every threshold: the surface closes at the volume's border.
    field = np.pad(np.where(near, probability, 0.0).astype(np.float32), 1)
    field[np.pad(near & ~mask, 1)] = np.minimum(field[np.pad(near & ~mask, 1)], threshold)
    faces, step = np.zeros((MOST_TRIANGLES + 1, 3)), 0
    while len(faces) > MOST_TRIANGLES:
        step += 1
        try:
            vertices, faces, normals, _ = marching_cubes(  # type: ignore[no-untyped-call]
                field, threshold, step_size=step
            )
        except (ValueError, RuntimeError):  # every vessel fell between the voxels that are left
            return None
    spacing = np.asarray(spacing_um)
    # The library's normals are those of cubic voxels, and its triangles run clockwise.
    normals = normals / spacing
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    x, y, z = (float(n * um) for n, um in zip(mask.shape, spacing_um, strict=True))
    return Surface(
        ((vertices - 0.5) * spacing).astype(np.float32),
        normals.astype(np.float32),
        faces[:, ::-1].astype(np.uint32),
        (x, y, z),
    )


def as_glb(surface: Surface | None, extent_um: tuple[float, float, float]) -> bytes:
    """Return a surface and the frame of its volume as binary glTF 2.0; equal bytes for equal input.

    One unit of length is 1 um. x stays, the optical axis z points down, so that what is seen from
    above is a slice as it is drawn: x to the right, y towards the reader.

    Args:
        surface: the vessels; none draws the frame alone.
        extent_um: size of the volume along (x, y, z) in um.

    Source: Khronos, glTF 2.0, ISO/IEC 12113.

    >>> as_glb(None, (1.0, 1.0, 1.0))[:4]
    b'glTF'
    """
    content = _Content()
    corners = np.array(list(itertools.product(*((0.0, um) for um in extent_um))), np.float32)
    edges = [
        pair
        for pair in itertools.combinations(range(8), 2)
        if (corners[pair[0]] != corners[pair[1]]).sum() == 1
    ]
    frame = {
        "attributes": {"POSITION": content.vectors(_upright(corners))},
        "indices": content.indices(np.array(edges, np.uint32)),
        "material": 0,
        "mode": _LINES,
    }
    primitives: list[dict[str, Any]] = [frame]
    if surface is not None:
        attributes = {
            "POSITION": content.vectors(_upright(surface.vertices_um)),
            "NORMAL": content.vectors(_upright(surface.normals)),
        }
        indices = content.indices(surface.faces)
        primitives.append({"attributes": attributes, "indices": indices, "material": 1})
    return content.packed(primitives)


def _upright(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(x, y, z) with z down, as glTF has its axes: right, up, towards the reader."""
    return np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], axis=1)


class _Content:
    """The binary part of a glTF file while it grows, and what lies in it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def vectors(self, values: npt.NDArray[np.float32]) -> int:
        """Number of the accessor of (n, 3) vectors."""
        bounds = {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        return self._append(values.astype("<f4").tobytes(), len(values), "VEC3", bounds)

    def indices(self, values: npt.NDArray[np.uint32]) -> int:
        """Number of the accessor of indices."""
        return self._append(values.astype("<u4").tobytes(), values.size, "SCALAR", {})

    def _append(self, data: bytes, count: int, kind: str, bounds: dict[str, Any]) -> int:
        vector = kind == "VEC3"
        place = {"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data)}
        self._views.append({**place, "target": _VERTICES if vector else _INDICES})
        self._data += data
        number = len(self._accessors)
        what = {"bufferView": number, "componentType": _FLOAT if vector else _UINT}
        self._accessors.append({**what, "count": count, "type": kind, **bounds})
        return number

    def packed(self, primitives: list[dict[str, Any]]) -> bytes:
        """The file."""
        materials = [
            {
                "pbrMetallicRoughness": {
                    "baseColorFactor": colour,
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.55,
                }
            }
            for colour in (_FRAME, _VESSEL)
        ]
        text = json.dumps(
            {
                "asset": {"version": "2.0", "generator": "MiniVess"},
                "scene": 0,
                "scenes": [{"nodes": [0]}],
                "nodes": [{"mesh": 0, "name": "vessels"}],
                "meshes": [{"primitives": primitives}],
                "materials": materials,
                "buffers": [{"byteLength": len(self._data)}],
                "bufferViews": self._views,
                "accessors": self._accessors,
            },
            separators=(",", ":"),
        ).encode("ascii")
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + len(self._data)
        return b"".join(
            [
                struct.pack("<4sII", b"glTF", 2, length),
                struct.pack("<I4s", len(text), b"JSON"),
                text,
                struct.pack("<I4s", len(self._data), b"BIN\0"),
                bytes(self._data),
            ]
        )
