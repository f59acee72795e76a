from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.schema import PatchConfig
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.patches import (
    PatchLocation,
    check_patch_size,
    extract,
    locate_patch,
    read_patch,
)
from minivess.data.preprocess import PreparedCase
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from minivess.types import Array, Shape

KEY = (0, 1, 2)


def make_case(name: str, shape: Shape, foreground: list[int] | None = None) -> PreparedCase:
    """A case in memory; its image holds the number of each voxel."""
    size = int(np.prod(shape))
    label = np.zeros(size, dtype=np.uint8)
    label[foreground if foreground is not None else [size // 2]] = 1
    return PreparedCase(
        case=name,
        group=name,
        image=np.arange(size, dtype=np.float32).reshape(shape),
        label=label.reshape(shape),
        foreground=np.flatnonzero(label),
        geometry=Geometry(shape, diagonal_affine((1.0, 1.0, 5.0))),
    )


def shapes(low: int, high: int) -> st.SearchStrategy[Shape]:
    side = st.integers(low, high)
    return cast("st.SearchStrategy[Shape]", st.tuples(side, side, side))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 100), st.integers(1, 120))
def test_the_share_of_centred_patches_is_exact(percent: int, patches: int) -> None:
    share = percent / 100
    # One vessel voxel in the far corner: a centred patch ends there, and no other patch need to.
    case = make_case("a", (40, 40, 40), [40**3 - 1])
    config = PatchConfig(patch_size=(1, 1, 1), foreground_fraction=share)
    centred = [
        locate_patch([case], config, KEY, index).start == (39, 39, 39) for index in range(patches)
    ]
    # A patch anywhere hits that one voxel of 64000 almost never, and never with this key.
    assert sum(centred) == percent * patches // 100


@settings(deadline=None, max_examples=200)
@given(shapes(1, 20), shapes(1, 20), st.integers(0, 1000), st.data())
def test_patches_lie_inside_the_volume(
    shape: Shape, patch: Shape, index: int, data: st.DataObject
) -> None:
    voxels = data.draw(st.lists(st.integers(0, int(np.prod(shape)) - 1), min_size=1, max_size=5))
    case = make_case("a", shape, voxels)
    size = cast("Shape", tuple(np.minimum(patch, shape).tolist()))
    for share in (0.0, 1.0):
        config = PatchConfig(patch_size=size, foreground_fraction=share)
        location = locate_patch([case], config, KEY, index)
        assert all(first >= 0 for first in location.start)
        ends = np.array(location.start) + size
        assert np.all(ends <= shape)
        image, label = read_patch(case, location, size, (0, 0, 0))
        assert image.shape == label.shape == size
        if share == 1.0:
            assert label.any(), "a patch centred on a vessel shows it, at the border as well"


def test_a_centred_patch_is_centred() -> None:
    case = make_case("a", (20, 20, 20), [int(np.ravel_multi_index((10, 11, 9), (20, 20, 20)))])
    config = PatchConfig(patch_size=(4, 6, 2), foreground_fraction=1.0)
    assert locate_patch([case], config, KEY, 0) == PatchLocation(0, (8, 8, 8))


def test_where_a_patch_lies_is_a_function_of_seed_fold_epoch_and_index() -> None:
    cases = [make_case(name, (30, 30, 30), list(range(0, 27000, 7))) for name in "abc"]
    config = PatchConfig(patch_size=(4, 4, 4))
    base = [locate_patch(cases, config, KEY, index) for index in range(20)]
    again = [locate_patch(cases, config, KEY, index) for index in reversed(range(20))]
    assert base == again[::-1]
    for key in ((1, 1, 2), (0, 0, 2), (0, 1, 3)):
        assert [locate_patch(cases, config, key, index) for index in range(20)] != base
    assert {location.case for location in base} == {0, 1, 2}


def test_centred_patches_come_from_cases_with_a_vessel() -> None:
    cases = [make_case("empty", (9, 9, 9), []), make_case("vessel", (9, 9, 9), [100])]
    config = PatchConfig(patch_size=(3, 3, 3), foreground_fraction=0.5)
    drawn = [locate_patch(cases, config, KEY, index).case for index in range(60)]
    assert set(drawn[1::2]) == {1}
    assert set(drawn[0::2]) == {0, 1}
    assert locate_patch(cases[:1], config, KEY, 1).case == 0


@settings(deadline=None, max_examples=200)
@given(shapes(1, 6), st.tuples(*[st.integers(-9, 5)] * 3), shapes(1, 14))
def test_a_window_is_that_of_the_mirrored_volume(
    shape: Shape, start: tuple[int, int, int], size: Shape
) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape)
    mirrored = np.pad(array, 24, mode="symmetric")
    expected = mirrored[tuple(slice(24 + a, 24 + a + b) for a, b in zip(start, size, strict=True))]
    np.testing.assert_array_equal(extract(array, start, size), expected)


def test_a_window_is_a_copy() -> None:
    array: Array = np.zeros((4, 4, 4))
    for start in ((0, 0, 0), (-1, 0, 0)):
        extract(array, start, (2, 2, 2))[:] = 1
    assert not array.any()


def test_a_margin_widens_both_sides() -> None:
    case = make_case("a", (10, 10, 10))
    image, label = read_patch(case, PatchLocation(0, (4, 0, 5)), (2, 2, 2), (1, 2, 0))
    assert image.shape == label.shape == (4, 6, 2)
    mirrored = np.pad(case.image, 3, mode="symmetric")
    np.testing.assert_array_equal(image, mirrored[6:10, 1:7, 8:10])


def test_a_patch_that_fits_passes() -> None:
    check_patch_size((8, 8, 4), (4, 4, 2), [make_case("a", (8, 9, 5))])


def test_a_patch_too_large_is_named_with_case_axis_and_what_fits() -> None:
    cases = [make_case("mv01", (64, 64, 12)), make_case("mv39", (64, 64, 5))]
    with pytest.raises(MinivessError) as caught:
        check_patch_size((32, 32, 8), (4, 4, 2), cases)
    error = caught.value
    assert error.code == "MV-PATCH-001"
    assert "axis z" in error.where
    assert "mv39" in error.where
    assert "[64, 64, 5]" in error.found
    assert error.fix == "set patch_size to [32, 32, 4] or smaller"


def test_a_patch_the_network_cannot_divide_is_named_with_its_nearest() -> None:
    with pytest.raises(MinivessError) as caught:
        check_patch_size((30, 33, 3), (8, 8, 2), [make_case("a", (64, 64, 5))])
    assert caught.value.code == "MV-PATCH-002"
    assert caught.value.fix == "set patch_size to [32, 32, 4]"


def test_a_network_too_deep_for_a_volume_is_named() -> None:
    cases = [make_case("mv01", (64, 64, 16)), make_case("mv39", (64, 64, 5))]
    for size in ((32, 32, 8), (32, 32, 5)):
        with pytest.raises(MinivessError) as caught:
            check_patch_size(size, (8, 8, 8), cases)
        assert caught.value.code == "MV-PATCH-002"
        assert "mv39" in caught.value.where
        fix = caught.value.fix
        assert "filters or blocks_down, where it has them" in fix
        assert fix.startswith("mirror thin volumes: patches.pad_thin: true and ")
        needed = (32, 32, 8)
        assert f"patches.patch_size: {list(needed)}" in fix
        check_patch_size(needed, (8, 8, 8), cases, pad_thin=True)


@settings(deadline=None, max_examples=200)
@given(shapes(1, 40), st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3), shapes(1, 40))
def test_following_the_advice_works(size: Shape, divisor: Shape, volume: Shape) -> None:
    cases = [make_case("a", volume, [0])]
    try:
        check_patch_size(size, divisor, cases)
    except MinivessError as error:
        pad_thin = "pad_thin: true" in error.fix
        assert pad_thin == any(step > length for step, length in zip(divisor, volume, strict=True))
        numbers = error.fix.split("[")[1].split("]")[0].split(", ")
        advised = cast("Shape", tuple(int(number) for number in numbers))
        check_patch_size(advised, divisor, cases, pad_thin)
    else:
        assert np.all(np.array(size) <= volume)
        assert not np.any(np.array(size) % divisor)


def test_only_the_window_of_a_memory_map_is_read(tmp_path: Path) -> None:
    shape = (1024, 1024, 2048)  # 8.6 GB as float32, a sparse file without blocks
    path = tmp_path / "huge.npy"
    huge = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    huge[600:604, 700, 1500] = 7.0
    huge.flush()
    del huge
    assert path.stat().st_blocks * 512 < 10**8
    array = np.load(path, mmap_mode="r")
    before, begin = psutil.Process().memory_info().rss, time.perf_counter()
    window = extract(array, (598, 690, 1490), (32, 32, 32))
    border = extract(array, (-4, 1000, 2040), (32, 32, 32))
    assert time.perf_counter() - begin < 2.0
    assert psutil.Process().memory_info().rss - before < 10**8
    assert not isinstance(window, np.memmap)
    assert window.sum() == 28.0
    assert border.shape == (32, 32, 32)
