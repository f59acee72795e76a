"""The surface of vessels and its file."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from minivess.deploy import surface
from minivess.deploy.surface import as_glb, vessel_surface

SPACING = (1.0, 2.0, 4.0)


def ball(radius: float = 6.0) -> np.ndarray:
    """A probability that is a half on a sphere of this radius in voxels."""
    places = np.indices((20, 20, 20)) - 9.5
    distance = np.sqrt((places**2).sum(axis=0))
    return (1 / (1 + np.exp(distance - radius))).astype(np.float32)


def signed_volume(found: surface.Surface) -> float:
    """Volume inside a closed mesh, positive where its faces look outwards."""
    a, b, c = (found.vertices_um[found.faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def test_a_ball_is_where_it_was_put_and_as_large() -> None:
    probability = ball()
    found = vessel_surface(probability, probability > 0.5, 0.5, SPACING)
    assert found is not None
    offset = (found.vertices_um - np.array(SPACING) * 10) / SPACING
    assert np.sqrt((offset**2).sum(axis=1)) == pytest.approx(6.0, abs=0.1)
    assert signed_volume(found) == pytest.approx(4 / 3 * np.pi * 6**3 * 8, rel=0.02)
    assert found.extent_um == (20.0, 40.0, 80.0)


def test_normals_and_faces_look_outwards() -> None:
    probability = ball()
    found = vessel_surface(probability, probability > 0.5, 0.5, SPACING)
    assert found is not None
    # Of an ellipsoid: along the gradient of the squared distance in voxels.
    outwards = (found.vertices_um / SPACING - 10.0) / SPACING
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", outwards, found.normals).min() > 0.97
    assert signed_volume(found) > 0


def test_a_vessel_at_the_border_is_closed_and_ends_there() -> None:
    mask = np.zeros((8, 8, 8), dtype=np.bool_)
    mask[:, 3:6, 3:6] = True
    found = vessel_surface(mask.astype(np.float32), mask, 0.5, (1.0, 1.0, 1.0))
    assert found is not None
    assert found.vertices_um[:, 0].min() == pytest.approx(0.0, abs=0.5)
    assert found.vertices_um[:, 0].max() == pytest.approx(8.0, abs=0.5)
    edges = np.sort(
        np.concatenate([found.faces[:, [0, 1]], found.faces[:, [1, 2]], found.faces[:, [2, 0]]]),
        axis=1,
    )
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_what_is_no_vessel_in_the_mask_gets_no_surface() -> None:
    probability = np.zeros((12, 6, 6), dtype=np.float32)
    probability[1:4, 2:4, 2:4] = probability[8:11, 2:4, 2:4] = 0.9
    mask = probability > 0.5
    mask[6:] = False
    found = vessel_surface(probability, mask, 0.5, (1.0, 1.0, 1.0))
    assert found is not None
    assert found.vertices_um[:, 0].max() < 6
    assert vessel_surface(probability, mask & False, 0.5, (1.0, 1.0, 1.0)) is None


def test_a_large_surface_is_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    probability = ball()
    full = vessel_surface(probability, probability > 0.5, 0.5, SPACING)
    monkeypatch.setattr(surface, "MOST_TRIANGLES", 500)
    coarse = vessel_surface(probability, probability > 0.5, 0.5, SPACING)
    assert full is not None
    assert coarse is not None
    assert 0 < len(coarse.faces) <= 500 < len(full.faces)
    assert signed_volume(coarse) == pytest.approx(signed_volume(full), rel=0.2)


def read_glb(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert (kind, size % 4) == (b"JSON", 0)
    content = json.loads(data[20 : 20 + size])
    binary, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert (kind, binary % 4) == (b"BIN\0", 0)
    assert len(data) == 28 + size + binary
    return content, data[28 + size :]


def vectors(content: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    accessor = content["accessors"][number]
    view = content["bufferViews"][accessor["bufferView"]]
    data = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
    width = {"VEC3": 3, "SCALAR": 1}[accessor["type"]]
    array = np.frombuffer(data, kind).reshape(-1, width)
    assert len(array) == accessor["count"]
    if width == 3:
        assert accessor["min"] == array.min(axis=0).tolist()
        assert accessor["max"] == array.max(axis=0).tolist()
    return array


def test_the_file_holds_the_surface_with_z_down() -> None:
    probability = ball()
    found = vessel_surface(probability, probability > 0.5, 0.5, SPACING)
    assert found is not None
    content, binary = read_glb(as_glb(found, found.extent_um))
    frame, vessels = content["meshes"][0]["primitives"]
    positions = vectors(content, binary, vessels["attributes"]["POSITION"])
    x, y, z = found.vertices_um.T
    assert np.array_equal(positions, np.stack([x, -z, y], axis=1))
    faces = vectors(content, binary, vessels["indices"]).reshape(-1, 3)
    assert np.array_equal(faces, found.faces)
    corners = vectors(content, binary, frame["attributes"]["POSITION"])
    lines = corners[vectors(content, binary, frame["indices"]).reshape(-1, 2)]
    assert len(lines) == 12
    assert ((lines[:, 0] != lines[:, 1]).sum(axis=1) == 1).all()
    assert corners.max(axis=0).tolist() == [20.0, 0.0, 40.0]
    assert corners.min(axis=0).tolist() == [0.0, -80.0, 0.0]


def test_the_frame_alone_is_a_file_too() -> None:
    content, _ = read_glb(as_glb(None, (1.0, 2.0, 3.0)))
    assert len(content["meshes"][0]["primitives"]) == 1
    assert as_glb(None, (1.0, 2.0, 3.0)) == as_glb(None, (1.0, 2.0, 3.0))
