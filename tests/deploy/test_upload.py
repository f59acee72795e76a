"""Volumes that strangers send: what is read, what is refused, and how much memory that takes."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivess.data.geometry import Geometry
from minivess.data.volume import Volume, read_volume, write_volume
from minivess.deploy.upload import Limits, read_upload, safe_name
from minivess.errors import MinivessError

SHAPE = (9, 7, 5)
LIMITS = Limits(max_bytes=1 << 20, max_voxels=20_000)
GEOMETRY = Geometry(SHAPE, np.diag([-0.5, 0.5, 2.0, 1.0]))
SPACING = (0.5, 0.5, 2.0)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4096, SHAPE).astype(np.uint16)


def refused(path: Path, limits: Limits = LIMITS, **declared: object) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        read_upload(path, limits, **declared)
    error = caught.value
    assert error.code.startswith("MV-UPLOAD-"), error
    assert error.fix
    assert str(path.parent) not in str(error), "the server's folders are nobody's business"
    return error


def nifti(array: np.ndarray, **fields: object) -> bytes:
    """A NIfTI-1 file with fields of its header set after the fact."""
    image = nib.Nifti1Image(array, GEOMETRY.affine)
    image.header.set_xyzt_units("micron")
    data = bytearray(image.to_bytes())
    header = np.frombuffer(data, dtype=nib.Nifti1Header.template_dtype, count=1)
    for name, value in fields.items():
        header[name] = value
    return bytes(data)


def stored(folder: Path, data: bytes, name: str = "a.nii") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def zyx(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("unit_um", [1.0, 1000.0])
def test_nifti_is_read_as_the_experiments_read_it(tmp_path, array, suffix, unit_um):
    affine = GEOMETRY.affine / np.array([unit_um, unit_um, unit_um, 1.0])
    write_volume(array, tmp_path / f"a{suffix.lower()}", Geometry(SHAPE, affine, unit_um))
    path = (tmp_path / f"a{suffix.lower()}").rename(tmp_path / f"A{suffix}")
    volume, known = read_upload(path, LIMITS), read_volume(path)
    np.testing.assert_array_equal(volume.array, known.array)
    assert volume.array.dtype == known.array.dtype
    np.testing.assert_array_equal(volume.geometry.affine, known.affine)
    assert volume.geometry.spacing_um == pytest.approx(SPACING)
    assert volume.geometry.unit_um == unit_um


def test_scaled_big_endian_and_nifti2(tmp_path, array):
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(array, GEOMETRY.affine, header=header, dtype=np.uint16)
    image.header.set_xyzt_units("micron")
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "big.nii.gz")
    second = nib.Nifti2Image(array.astype(np.float64), GEOMETRY.affine)
    second.header.set_xyzt_units("micron")
    nib.save(second, tmp_path / "two.nii")
    for name in ("big.nii.gz", "two.nii"):
        volume = read_upload(tmp_path / name, LIMITS)
        np.testing.assert_array_equal(volume.array, read_volume(tmp_path / name).array)
        assert volume.array.dtype.isnative


def test_extensions_are_not_read(tmp_path, array):
    data = bytearray(nifti(array))
    data[348] = 1  # says that extensions follow; what follows are voxels
    volume = read_upload(stored(tmp_path, bytes(data)), LIMITS)
    np.testing.assert_array_equal(volume.array, array)


def test_gzip_in_several_members_as_bgzip_writes_it(tmp_path, array):
    data = nifti(array)
    path = stored(tmp_path, gzip.compress(data[:400]) + gzip.compress(data[400:]), "a.nii.gz")
    np.testing.assert_array_equal(read_upload(path, LIMITS).array, array)


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "plain": lambda path, array: tifffile.imwrite(path, zyx(array), photometric="minisblack"),
    "deflate": lambda path, array: tifffile.imwrite(
        path, zyx(array), photometric="minisblack", compression="zlib"
    ),
    "tiles": lambda path, array: tifffile.imwrite(
        path, zyx(array), photometric="minisblack", compression="zlib", tile=(16, 16)
    ),
    "bigtiff": lambda path, array: tifffile.imwrite(
        path, zyx(array), photometric="minisblack", bigtiff=True, byteorder=">"
    ),
    "pages": lambda path, array: tifffile.imwrite(
        path, zyx(array), photometric="minisblack", metadata=None
    ),
    "ImageJ": lambda path, array: tifffile.imwrite(
        path, zyx(array), imagej=True, metadata={"axes": "ZYX"}
    ),
    "OME": lambda path, array: tifffile.imwrite(
        path, zyx(array), ome=True, metadata={"axes": "ZYX"}
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_tiff_has_the_spacing_of_the_request(tmp_path, array, kind):
    path = tmp_path / ("a.ome.tif" if kind == "OME" else "a.tiff")
    WRITERS[kind](path, array)
    volume = read_upload(path, LIMITS, spacing_um=SPACING)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry.spacing_um == SPACING
    assert refused(path).code == "MV-UPLOAD-008"


def test_lzw_and_calibrated_tiffs(tmp_path, array):
    from PIL import Image

    pages = [Image.fromarray(page) for page in zyx(array)]
    pages[0].save(
        tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw"
    )
    volume = read_upload(tmp_path / "a.tif", LIMITS, spacing_um=SPACING)
    np.testing.assert_array_equal(volume.array, array)
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", SPACING, strict=True)}
    tifffile.imwrite(
        tmp_path / "b.ome.tif", zyx(array), ome=True, metadata={"axes": "ZYX", **sizes}
    )
    assert read_upload(tmp_path / "b.ome.tif", LIMITS).geometry.spacing_um == SPACING


def test_the_spacing_that_counts(tmp_path, array):
    path = stored(tmp_path, nifti(array, xyzt_units=0))
    assert "unit" in refused(path).found
    assert read_upload(path, LIMITS, spacing_unit="um").geometry.spacing_um == SPACING
    assert read_upload(path, LIMITS, spacing_unit="mm").geometry.spacing_um == (500, 500, 2000)
    assert read_upload(path, LIMITS, spacing_um=(1, 1, 5)).geometry.spacing_um == (1, 1, 5)
    for wrong in ((0, 1, 1), (1, -1, 1), (1, 1, np.nan), (1, 1, np.inf)):
        assert refused(path, spacing_um=wrong).code == "MV-UPLOAD-008"
    implausible = stored(tmp_path, nifti(array, xyzt_units=2))
    assert "500" in refused(implausible).found


BROKEN: dict[str, tuple[Callable[[np.ndarray], bytes], str]] = {
    "empty": (lambda array: b"", "004"),
    "a few bytes": (lambda array: b"\x5c\x01", "004"),
    "no NIfTI": (lambda array: bytes(4000), "003"),
    "a gzip stream": (lambda array: gzip.compress(nifti(array)), "003"),
    "half of it": (lambda array: nifti(array)[:500], "004"),
    "one byte less": (lambda array: nifti(array)[:-1], "004"),
    "one byte more": (lambda array: nifti(array) + b"\0", "005"),
    "32767 each": (lambda array: nifti(array, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "002"),
    "all seven": (lambda array: nifti(array, dim=[7] + [32767] * 7), "002"),
    "negative": (lambda array: nifti(array, dim=[3, -9, 7, 5, 1, 1, 1, 1]), "005"),
    "two negative": (lambda array: nifti(array, dim=[3, -9, -7, 5, 1, 1, 1, 1]), "005"),
    "zero": (lambda array: nifti(array, dim=[3, 0, 7, 5, 1, 1, 1, 1]), "005"),
    "no dimensions": (lambda array: nifti(array, dim=[0] * 8), "005"),
    "two dimensions": (lambda array: nifti(array[..., 0]), "006"),
    "time": (lambda array: nifti(np.stack([array, array], -1)), "006"),
    "colours": (lambda array: nifti(array, datatype=128, bitpix=24), "006"),
    "complex": (lambda array: nifti(array.astype(np.complex64)), "006"),
    "unknown type": (lambda array: nifti(array, datatype=77), "005"),
    "a pair": (lambda array: nifti(array, magic=b"ni1"), "009"),
    "far offset": (lambda array: nifti(array, vox_offset=3e9), "005"),
    "offset NaN": (lambda array: nifti(array, vox_offset=np.nan), "005"),
    "offset in the header": (lambda array: nifti(array, vox_offset=0), "005"),
    "NaN": (lambda array: nifti(np.where(array == array.max(), np.nan, array)), "007"),
    "infinite": (lambda array: nifti(np.where(array == array.max(), -np.inf, array)), "007"),
    "beyond float32": (lambda array: nifti(array.astype(np.float64) * 1e300), "007"),
    "slope infinite": (lambda array: nifti(array, scl_slope=3e38, scl_inter=3e38), "007"),
    "constant": (lambda array: nifti(np.ones(SHAPE, np.uint8)), "007"),
    "flat": (lambda array: nifti(array, sform_code=0, pixdim=[1, 0, 1, 1, 0, 0, 0, 0]), "008"),
    "affine NaN": (lambda array: nifti(array, srow_x=np.nan), "008"),
    "parallel axes": (lambda array: nifti(array, srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]), "005"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_nifti(tmp_path, array, kind):
    make, code = BROKEN[kind]
    assert refused(stored(tmp_path, make(array))).code == f"MV-UPLOAD-{code}"
    if kind != "a gzip stream":
        packed = stored(tmp_path, gzip.compress(make(array)), "b.nii.gz")
        assert refused(packed).code == f"MV-UPLOAD-{code}"


def test_broken_gzip(tmp_path, array):
    data = gzip.compress(nifti(array))
    flipped = bytearray(data)
    flipped[-6] ^= 1  # of the checksum
    for broken in (data[:-9], data[:20], bytes(flipped), data + b"rubbish", data[:30] + bytes(40)):
        assert refused(stored(tmp_path, broken, "a.nii.gz")).code == "MV-UPLOAD-004"


def test_limits(tmp_path, array):
    path = stored(tmp_path, nifti(array))
    size = path.stat().st_size
    assert read_upload(path, Limits(size, array.size)).array.size == array.size
    assert refused(path, Limits(size - 1, array.size)).code == "MV-UPLOAD-001"
    assert refused(path, Limits(size, array.size - 1)).code == "MV-UPLOAD-002"


@pytest.mark.parametrize(
    "name", ["../a.nii", "/etc/a.nii", "a\\b.nii", "..", "", "a\0.nii", "é" * 256]
)
def test_names_that_are_paths(name):
    with pytest.raises(MinivessError, match="MV-UPLOAD-009"):
        safe_name(name)


@pytest.mark.parametrize("name", ["a.png", "a.mha", "a.mhd", "a.nhdr", "a", "a.nii.bz2"])
def test_other_formats(name):
    with pytest.raises(MinivessError, match="MV-UPLOAD-003"):
        safe_name(name)


def test_headers_that_name_files_open_none(tmp_path, array):
    path = stored(tmp_path, nifti(array, aux_file=b"/etc/passwd", descrip=b"../../secret"))
    volume = read_upload(path, LIMITS)
    write_volume(volume.array, tmp_path / "mask.nii", volume.geometry)
    assert b"passwd" not in (tmp_path / "mask.nii").read_bytes()
    tifffile.imwrite(tmp_path / "secret.ome.tif", zyx(array), ome=True, metadata={"axes": "ZYX"})
    first, second = (f"urn:uuid:0000000{i}-0000-0000-0000-000000000000" for i in (1, 2))
    xml = (
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{first}"><Image>'
        '<Pixels DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="7" SizeZ="5" SizeC="1" '
        f'SizeT="1"><TiffData IFD="0" PlaneCount="5">'
        f'<UUID FileName="secret.ome.tif">{second}</UUID>'
        "</TiffData></Pixels></Image></OME>"
    )
    tifffile.imwrite(
        tmp_path / "a.ome.tif", zyx(array), description=xml, metadata=None, photometric="minisblack"
    )
    assert refused(tmp_path / "a.ome.tif", spacing_um=SPACING).code == "MV-UPLOAD-009"


def ome(array: np.ndarray, folder: Path, old: str, new: str) -> Path:
    """An OME-TIFF in whose XML something is replaced by something of equal length."""
    assert len(old) == len(new)
    tifffile.imwrite(folder / "a.ome.tif", zyx(array), ome=True, metadata={"axes": "ZYX"})
    data = (folder / "a.ome.tif").read_bytes()
    assert old.encode() in data
    return stored(folder, data.replace(old.encode(), new.encode()), "a.ome.tif")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('SizeX="9" SizeY="7"', 'SizeX="9" SizeY="8"', "005"),
        ('SizeX="9" SizeY="7"', 'SizeX="9"SizeY="70"', "002"),
        ('SizeX="9" SizeY="7"', 'SizeX="9"SizeY="-7"', "005"),
        ('PlaneCount="5"', 'PlaneCount="9"', "005"),
        ('SizeZ="5"', 'SizeZ="3"', "005"),
    ],
)
def test_ome_that_says_other_than_it_has(tmp_path, array, old, new, code):
    limits = Limits(1 << 20, 1000)
    path = ome(array, tmp_path, old, new)
    error = refused(path, limits, spacing_um=SPACING)
    assert error.code in (f"MV-UPLOAD-{code}", "MV-UPLOAD-004")


def directory(tags: list[tuple[int, int, int, int]], after: int = 0, data: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, value) each, then data."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return (
        struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", after) + data
    )


PLAIN = [(256, 4, 1, 9), (257, 4, 1, 7), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
DATA = [(273, 4, 1, 100), (279, 4, 1, 63)]


def bomb(width: int) -> bytes:
    """A page of 9 x 7 pixels whose strip unpacks to many bytes."""
    strip = zlib.compress(bytes(width))
    tags = [tag for tag in PLAIN if tag[0] != 259] + [(259, 3, 1, 8), (273, 4, 1, 98)]
    return directory([*tags, (279, 4, 1, len(strip))], data=strip)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "003"),
        (b"II*\0", "003"),
        (b"II*\0" + bytes(12), "004"),
        (b"PK\3\4" + bytes(60), "003"),
        (struct.pack("<2sHI", b"II", 42, 1 << 30) + bytes(8), "004"),
        (directory([]), "005"),
        (directory(PLAIN + DATA, after=8, data=bytes(80)), "005"),
        (directory(PLAIN + DATA, data=bytes(20)), "004"),
        (directory(PLAIN, data=bytes(80)), "005"),
        (directory([(256, 4, 1, 1 << 31), (257, 4, 1, 1 << 31), *DATA], data=bytes(80)), "002"),
        (directory([(256, 4, 1, 0), *PLAIN[1:], *DATA], data=bytes(80)), "005"),
        (directory([*PLAIN, *DATA, (270, 2, 1 << 31, 8)], data=bytes(80)), "005"),
        (directory([*PLAIN, *DATA, (277, 3, 1, 3)], data=bytes(200)), "006"),
        (directory([*PLAIN, *DATA, (330, 4, 1, 8)], data=bytes(200)), "003"),
        (directory([*PLAIN, *DATA, (256, 4, 1, 9)], data=bytes(200)), "005"),
        (directory([*PLAIN[:3], (259, 3, 1, 34925), *DATA], data=bytes(200)), "003"),
        (directory([*PLAIN[:2], (258, 3, 1, 12), *DATA], data=bytes(200)), "003"),
        (directory(PLAIN + DATA, data=bytes(80)), "006"),
        (bomb(100_000_000), "005"),
    ],
)
def test_broken_tiff(tmp_path, data, code):
    error = refused(stored(tmp_path, data, "a.tif"), spacing_um=SPACING)
    assert error.code == f"MV-UPLOAD-{code}"


def test_tiffs_of_other_axes(tmp_path, array):
    made: dict[str, dict[str, object]] = {
        "colour": {"data": np.zeros((4, 8, 8, 3), np.uint8), "photometric": "rgb"},
        "channels": {"data": zyx(array)[:, None].repeat(2, 1), "imagej": True},
        "time": {
            "data": zyx(array)[None].repeat(2, 0),
            "imagej": True,
            "metadata": {"axes": "TZYX"},
        },
        "plane": {"data": zyx(array)[0], "photometric": "minisblack"},
    }
    for name, arguments in made.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", **arguments)
        assert refused(tmp_path / f"{name}.tif", spacing_um=SPACING).code == "MV-UPLOAD-006", name


def test_memory_is_bounded_whatever_a_file_unpacks_to(tmp_path, array):
    """A gzip of 300 MB of zeros, and one whose header announces that many."""
    zeros = io.BytesIO()
    with gzip.GzipFile(fileobj=zeros, mode="wb", compresslevel=1) as file:
        file.write(nifti(array))
        for _ in range(300):
            file.write(bytes(1 << 20))
    long = stored(tmp_path, zeros.getvalue(), "long.nii.gz")
    lying = stored(
        tmp_path,
        gzip.compress(nifti(array, dim=[3, 512, 512, 1200, 1, 1, 1, 1])) + zeros.getvalue(),
        "lying.nii.gz",
    )
    deflated = stored(tmp_path, bomb(200_000_000), "a.tif")
    limits = Limits(max_bytes=1 << 26, max_voxels=20_000)
    tracemalloc.start()
    try:
        assert refused(long, limits).code == "MV-UPLOAD-005"
        assert refused(lying, limits).code == "MV-UPLOAD-002"
        assert refused(deflated, limits).code == "MV-UPLOAD-005"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def well_formed(volume: Volume) -> None:
    assert volume.array.ndim == 3
    assert volume.array.size <= LIMITS.max_voxels
    assert np.isfinite(volume.array).all()
    assert all(0 < length < np.inf for length in volume.geometry.spacing_um)


SEEDS = ["a.nii", "a.nii.gz", "a.tif", "a.ome.tif", "z.tif", "j.tif"]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    array = np.random.default_rng(6).integers(0, 255, SHAPE).astype(np.uint8)
    stored(folder, nifti(array))
    stored(folder, gzip.compress(nifti(array)), "a.nii.gz")
    names = {"a.tif": "pages", "a.ome.tif": "OME", "z.tif": "deflate", "j.tif": "ImageJ"}
    for name, kind in names.items():
        WRITERS[kind](folder / name, array)
    return {name: (folder / name).read_bytes() for name in SEEDS}


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from(SEEDS),
    changes=st.lists(
        st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), max_size=4
    ),
    cut=st.none() | st.integers(0, 3000),
)
def test_a_damaged_file_is_read_or_refused(tmp_path, seeds, name, changes, cut):
    """Never another error, never more than the limits."""
    data = bytearray(seeds[name])
    for place, new in changes:
        start = place % len(data)
        data[start : start + len(new)] = new[: len(data) - start]
    path = stored(tmp_path, bytes(data[:cut]), name)
    try:
        well_formed(read_upload(path, LIMITS, spacing_um=SPACING))
    except MinivessError as error:
        assert error.code.startswith("MV-UPLOAD-")  # noqa: PT017
