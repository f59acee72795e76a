"""Pictures and statistics of a segmentation."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.schema import PhantomConfig
from minivess.data.phantom import make_phantom
from minivess.deploy.views import (
    LONGEST_SIDE,
    VESSEL,
    grey_window,
    plane_picture,
    projection_picture,
    shown_value,
    slice_picture,
    statistics_csv,
    vessel_statistics,
)
from minivess.metrics.evaluate import evaluate_case

SPACING = (0.7, 0.9, 4.0)
NOTHING = np.zeros((6, 4), dtype=np.bool_)


def phantom_mask(index: int) -> np.ndarray:
    config = PhantomConfig(phantom_shape=(48, 40, 12))
    return make_phantom(config, index).label > 0


@pytest.mark.parametrize("index", range(3))
def test_statistics_are_those_of_the_evaluation(index: int) -> None:
    mask, other = phantom_mask(index), phantom_mask(index + 1)
    rows = evaluate_case(mask, other, mask.astype(np.float32), SPACING, 2.0, 5.0)
    table = {row.metric: row.value for row in rows}
    found = {one.id: one.value for one in vessel_statistics(mask, SPACING)}
    density = found.pop("length_density")
    assert len(found) == 6
    # Where the box of both masks begins moves the last bit of what is measured from it.
    assert found == pytest.approx({name: table[name] for name in found}, rel=1e-12)
    assert density == pytest.approx(table["length_um"] / (mask.size * 0.7 * 0.9 * 4.0) * 1e6)


def test_an_empty_mask_has_statistics() -> None:
    values = {one.id: one.value for one in vessel_statistics(np.zeros((4, 4, 4), bool), SPACING)}
    assert {name: value for name, value in values.items() if value} == {"tortuosity": 1.0}


def test_every_statistic_has_a_unit_or_is_a_number_and_is_defined() -> None:
    for one in vessel_statistics(phantom_mask(0), SPACING):
        assert one.definition
        assert "prediction" not in one.definition
        assert ("µm" in one.unit) == one.id.endswith("_um")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.1, 20), st.floats(0.1, 20))
def test_a_picture_is_true_to_scale(x: int, y: int, x_um: float, y_um: float) -> None:
    plane, mask = np.zeros((x, y)), np.zeros((x, y), dtype=np.bool_)
    rows, columns, colours = plane_picture(plane, mask, (x_um, y_um), (0.0, 1.0)).shape
    assert (max(rows, columns), colours) == (LONGEST_SIDE, 3)
    wanted = (y * y_um) / (x * x_um)
    assert abs(rows - min(LONGEST_SIDE, max(1, columns * wanted))) <= 1 + wanted


def test_x_runs_right_and_y_down() -> None:
    plane = np.zeros((6, 4))
    plane[5, 0] = 1.0
    picture = plane_picture(plane, NOTHING, (1.0, 1.0), (0.0, 1.0))
    assert picture[20, -20].min() > 200
    assert picture[20, 20].max() < 20


def test_the_overlay_covers_the_mask_and_nothing_else() -> None:
    mask = NOTHING.copy()
    mask[1:3, 1:3] = True
    plane = np.full((6, 4), 0.5)
    plain, outline, filled = (
        plane_picture(plane, mask, (1.0, 1.0), (0.0, 1.0), overlay)
        for overlay in ("none", "outline", "filled")
    )
    voxel = LONGEST_SIDE // 6
    box = (slice(voxel, 3 * voxel), slice(voxel, 3 * voxel))
    for drawn in (outline, filled):
        changed = (drawn != plain).any(axis=2)
        assert changed[box].any()
        changed[box] = False
        assert not changed.any()
    assert (outline[voxel, voxel : 3 * voxel] == VESSEL).all()
    centre = (2 * voxel, 2 * voxel)
    assert (outline[centre] == plain[centre]).all()
    assert (filled[centre] != plain[centre]).any()


def test_a_vessel_thinner_than_a_pixel_is_shown() -> None:
    plane = np.zeros((4 * LONGEST_SIDE, 40))
    mask = plane > 0
    mask[:, 21] = True
    picture = plane_picture(plane, mask, (1.0, 1.0), (0.0, 1.0), "filled")
    assert (picture[5] != 0).any(axis=1).all()


def test_a_slice_and_a_projection_show_their_voxels() -> None:
    volume = np.zeros((8, 8, 3))
    volume[2, 2, 1] = 10.0
    mask = volume > 5
    window = (0.0, 10.0)
    empty, full = (slice_picture(volume, mask, z, (1, 1, 1), window, "filled") for z in (0, 1))
    assert (empty[:700] == 0).all()
    assert (projection_picture(volume, mask, (1, 1, 1), "filled")[300] != 0).any()
    assert (full[300] != 0).any()
    with pytest.raises(IndexError):
        slice_picture(volume, mask, 3, (1, 1, 1), window)


def test_the_window_leaves_out_outliers() -> None:
    volume = np.linspace(0, 100, 100_000)
    volume[0] = 1e9
    low, high = grey_window(volume.reshape(100, 100, 10))
    assert 0 < low < 2
    assert 99 < high < 101


def test_the_csv_has_every_statistic_in_full() -> None:
    statistics = vessel_statistics(phantom_mask(0), SPACING)
    text = statistics_csv(statistics, {"file": 'a,"b".nii'})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["file"] for row in rows} == {'a,"b".nii'}
    assert [float(row["value"]) for row in rows] == [one.value for one in statistics]
    assert all(row["unit"] and row["definition"] for row in rows)


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-6, 1e9))
def test_shown_values_are_within_half_a_per_mille(value: float) -> None:
    from minivess.deploy.views import Statistic

    shown = shown_value(Statistic("length_um", "", value, "µm", ""))
    assert float(shown.removesuffix(" µm").replace(",", "")) == pytest.approx(value, rel=5.1e-4)
