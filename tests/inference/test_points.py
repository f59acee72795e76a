"""Points as the prompt: where windows lie, what they are given, what is outside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from minivess.errors import MinivessError
from minivess.inference.points import Point, probability_from_points, read_points
from minivess.models.one_logit import ClassPrompted
from minivess.types import Shape

SHAPE = (40, 32, 6)


class Recorder(ClassPrompted):
    """In place of the network: logit 2 around points in a vessel; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Conv3d(1, 1, 1), 25)
        self.seen: list[tuple[torch.Tensor, list[list[int]], list[bool]]] = []

    def points(
        self, image: torch.Tensor, points: torch.Tensor, inside: torch.Tensor
    ) -> torch.Tensor:
        self.seen.append((image, points.tolist(), inside.tolist()))
        vessel = torch.full_like(image, -2.0)
        for (x, y, z), within in zip(points.tolist(), inside.tolist(), strict=True):
            vessel[0, 0, x, y, z] = 2.0 if within else -9.0
        return torch.cat([torch.zeros_like(vessel), vessel], dim=1)


def segment(points: list[Point], window: Shape = (16, 16, 16)) -> tuple[np.ndarray, Recorder]:
    network = Recorder().eval()
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    return probability_from_points(network, image, points, window), network


def test_a_point_is_segmented_where_it_is_and_nothing_outside_its_window() -> None:
    probability, network = segment([Point((20, 16, 3), True)])
    assert probability.shape == SHAPE
    assert np.unravel_index(probability.argmax(), SHAPE) == (20, 16, 3)
    assert probability[20, 16, 3] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)
    inside = np.zeros(SHAPE, bool)
    inside[12:28, 8:24] = True
    assert np.all(probability[~inside] == 0)
    assert np.all(probability[inside] > 0)
    ((image, places, _),) = network.seen
    assert image.shape == (1, 1, 16, 16, 16), "thin volumes are mirrored up to the window"
    assert places == [[8, 8, 3]]


def test_a_window_has_all_points_that_lie_in_it_and_those_outside_open_none() -> None:
    points = [Point((10, 10, 2), True), Point((14, 12, 3), False), Point((39, 31, 5), True)]
    probability, network = segment(points)
    assert [(places, inside) for _, places, inside in network.seen] == [
        ([[8, 8, 2], [12, 10, 3]], [True, False]),
        ([[15, 15, 5]], [True]),
    ]
    assert probability[39, 31, 5] > 0.5, "a window at the border lies inside the volume"
    assert probability[14, 12, 3] < 0.01


def test_overlapping_windows_are_averaged() -> None:
    """Each window says 2 at its own points, and both have both points."""
    probability, _ = segment([Point((18, 16, 3), True), Point((22, 16, 3), True)])
    for x in (18, 22):
        assert probability[x, 16, 3] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)
    apart, _ = segment([Point((12, 16, 3), True), Point((24, 16, 3), True)])
    assert apart[12, 16, 3] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)


def written(folder: Path, text: str) -> Path:
    file = folder / "points.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_points_are_read(tmp_path: Path) -> None:
    file = written(tmp_path, "x,y,z,inside\n1,2,3,1\n4,5,0,0\n")
    assert read_points(file, SHAPE) == [Point((1, 2, 3), True), Point((4, 5, 0), False)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x,y,z\n1,2,3\n", "line 2"),
        ("x,y,z,inside\n1,2,3,1\n1,2,two,1\n", "line 3"),
        ("x,y,z,inside\n40,2,3,1\n", "volume [40, 32, 6]"),
        ("x,y,z,inside\n1,2,3,2\n", "line 2"),
        ("x,y,z,inside\n1,2,3,0\n", "no point that is in a vessel"),
        ("x,y,z,inside\n", "no point that is in a vessel"),
    ],
)
def test_points_that_cannot_be_used_are_named(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(MinivessError) as caught:
        read_points(written(tmp_path, text), SHAPE)
    assert caught.value.code == "MV-DATA-013"
    assert found in caught.value.found


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MinivessError, match="MV-DATA-001"):
        read_points(tmp_path / "none.csv", SHAPE)
