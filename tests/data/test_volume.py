"""Reading and writing volumes: axes, calibration and damage of every format."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from scipy.spatial.transform import Rotation

from minivess.data.geometry import Geometry, diagonal_affine, same_grid
from minivess.data.volume import data_files, read_made, read_note, read_volume, write_volume
from minivess.errors import MinivessError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_volumes = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real volumes are not there: no folder {SHARED}"
)
SHAPE = (11, 7, 5)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4096, SHAPE).astype(np.uint16)


def error_of(path: Path) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        read_volume(path)
    assert path.name in caught.value.where
    assert caught.value.fix
    return caught.value


def rotated(spacing: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", (20, -35, 70), degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (-3.5, 12.25, 100.0)
    return affine.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("unit_um", [1.0, 1000.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (0.994, 0.994, 2.0), (4.97, 2.48, 5.0)])
@pytest.mark.parametrize("kind", ["rotated", "negative diagonal"])
def test_nifti_round_trip(tmp_path, array, suffix, unit_um, spacing, kind):
    affine = rotated(spacing)
    if kind == "negative diagonal":
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]).astype(np.float32)
    geometry = Geometry(SHAPE, affine, unit_um)
    path = tmp_path / f"a{suffix}"
    write_volume(array, path, geometry)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == array.dtype
    assert volume.affine is not None
    assert volume.affine.tobytes() == geometry.affine.tobytes()
    assert volume.unit == {1.0: "um", 1000.0: "mm"}[unit_um]
    header = nib.load(path).header
    assert int(header["sform_code"]) > 0
    qform = header.get_qform()
    assert same_grid(geometry, Geometry(SHAPE, qform, unit_um))
    np.testing.assert_allclose(header.get_zooms(), spacing, rtol=1e-6)


def test_simpleitk_sees_the_same_positions(tmp_path, array):
    affine = rotated((0.5, 0.75, 2.0))
    write_volume(array, tmp_path / "a.nii.gz", Geometry(SHAPE, affine, 1000.0))
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert image.GetSize() == SHAPE
    lps = np.array(image.TransformIndexToPhysicalPoint((4, 3, 2)))
    np.testing.assert_allclose(lps * [-1, -1, 1], (affine @ [4, 3, 2, 1])[:3], atol=1e-4)


def test_equal_bytes_whatever_the_name_and_time(tmp_path, array):
    geometry = Geometry(SHAPE, rotated((1, 1, 5)))
    write_volume(array, tmp_path / "a.nii.gz", geometry)
    os.utime(tmp_path / "a.nii.gz", (1, 1))
    write_volume(np.asfortranarray(array), tmp_path / "other.nii.gz", geometry)
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "other.nii.gz").read_bytes()
    assert first[3] == 0, "no optional fields, so no file name"
    assert first[4:8] == bytes(4), "no time"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "other.nii.gz"]


def test_booleans_become_uint8_and_shape_is_checked(tmp_path, array):
    mask = array > 2000
    geometry = Geometry(SHAPE, np.eye(4))
    write_volume(mask, tmp_path / "m.nii.gz", geometry)
    volume = read_volume(tmp_path / "m.nii.gz")
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array, mask)
    with pytest.raises(ValueError, match="differ in shape"):
        write_volume(mask[1:], tmp_path / "n.nii.gz", geometry)
    with pytest.raises(ValueError, match="does not end with"):
        write_volume(mask, tmp_path / "n.tif", geometry)


@pytest.mark.parametrize(("code", "unit"), [(0, None), (1, None), (2, "mm"), (3, "um"), (10, "mm")])
def test_nifti_units(tmp_path, array, code, unit):
    image = nib.Nifti1Image(array, np.eye(4))
    image.header["xyzt_units"] = code
    nib.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").unit == unit


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_note_is_kept_in_the_header_and_changes_nothing_else(tmp_path, array, suffix):
    geometry = Geometry(array.shape, diagonal_affine((1.0, 1.0, 5.0)))
    files = [tmp_path / f"{name}{suffix}" for name in ("plain", "noted")]
    write_volume(array, files[0], geometry)
    write_volume(array, files[1], geometry, "window_batch=1 after out of memory")
    assert [read_note(path) for path in files] == ["", "window_batch=1 after out of memory"]
    assert nib.load(files[1]).header["descrip"].item() == b"window_batch=1 after out of memory"
    plain, noted = (
        gzip.decompress(p.read_bytes()) if suffix == ".nii.gz" else p.read_bytes() for p in files
    )
    assert plain[:148] + plain[228:] == noted[:148] + noted[228:]
    for note in ("x" * 80, "µ"):
        with pytest.raises(ValueError, match="not a note"):
            write_volume(array, files[0], geometry, note)
    for kept in (20, 60):
        files[0].write_bytes(files[0].read_bytes()[:kept])
        with pytest.raises(MinivessError, match="MV-STATE-003"):
            read_note(files[0])


def test_a_volume_of_an_earlier_step_is_made_again(tmp_path, array):
    file = tmp_path / "mask.nii.gz"
    with pytest.raises(MinivessError) as caught:
        read_made(file)
    assert (caught.value.code, caught.value.fix) == ("MV-STATE-002", "run the experiment again")
    write_volume(array, file, Geometry(array.shape, diagonal_affine((1.0, 1.0, 5.0))))
    np.testing.assert_array_equal(read_made(file), array)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(MinivessError) as caught:
        read_made(file)
    assert (caught.value.code, caught.value.where) == ("MV-STATE-003", str(file))
    assert caught.value.fix == "delete the file and run the experiment again"


def test_a_volume_that_is_no_source_is_not_to_be_excluded(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"not a volume")
    for name in ("a.nii.gz", "missing.nii.gz"):
        with pytest.raises(MinivessError) as caught:
            read_volume(tmp_path / name)
        assert "exclude" not in caught.value.fix


def test_nifti2_and_big_endian(tmp_path, array):
    nib.save(nib.Nifti2Image(array, rotated((1, 2, 3))), tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "two.nii.gz").array, array)
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(array, np.eye(4), header=header, dtype=np.uint16)
    nib.save(image, tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == (348).to_bytes(4, "big")
    volume = read_volume(tmp_path / "big.nii")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype.isnative


def test_scaled_nifti_gives_scaled_values(tmp_path):
    values = np.linspace(0, 1, 8).reshape(2, 2, 2)
    image = nib.Nifti1Image(values, np.eye(4), dtype=np.float64)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii.gz").array, values, atol=1e-4)


def test_trailing_singleton_axes_are_dropped_others_refused(tmp_path, array):
    nib.save(nib.Nifti1Image(array[..., None, None], np.eye(4)), tmp_path / "one.nii.gz")
    assert read_volume(tmp_path / "one.nii.gz").array.shape == SHAPE
    nib.save(nib.Nifti1Image(np.stack([array] * 2, -1), np.eye(4)), tmp_path / "two.nii.gz")
    error = error_of(tmp_path / "two.nii.gz")
    assert error.code == "MV-DATA-003"
    assert "11 x 7 x 5 x 2" in error.found
    nib.save(nib.Nifti1Image(array[..., 0], np.eye(4)), tmp_path / "flat.nii.gz")
    assert error_of(tmp_path / "flat.nii.gz").code == "MV-DATA-003"


@pytest.mark.parametrize("pixdim", [0.0, -1.0])
def test_zero_and_negative_pixdim_survive_as_no_spacing(tmp_path, array, pixdim):
    image = nib.Nifti1Image(array, None)
    nib.save(image, tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[76 + 12 : 76 + 16] = np.float32(pixdim).tobytes()  # pixdim[3]
    data[252:256] = bytes(4)  # qform_code, sform_code
    (tmp_path / "a.nii").write_bytes(bytes(data))
    affine = read_volume(tmp_path / "a.nii").affine
    assert affine is not None
    assert affine[2, 2] == 0


def test_missing_file(tmp_path):
    assert error_of(tmp_path / "no.nii.gz").code == "MV-DATA-001"


def test_unknown_ending(tmp_path):
    (tmp_path / "a.czi").write_bytes(b"x")
    error = error_of(tmp_path / "a.czi")
    assert error.code == "MV-DATA-002"
    assert ".nii.gz" in error.fix


@pytest.mark.parametrize("left", [0.02, 0.5, 0.999, "without the checksum", "wrong checksum"])
def test_damaged_gz(tmp_path, array, left):
    path = tmp_path / "a.nii.gz"
    write_volume(array, path, Geometry(SHAPE, np.eye(4)))
    data = path.read_bytes()
    if left == "without the checksum":
        data = data[:-8]
    elif left == "wrong checksum":
        data = data[:-8] + bytes(4) + data[-4:]
    else:
        data = data[: int(len(data) * left)]
    path.write_bytes(data)
    error = error_of(path)
    assert error.code == "MV-DATA-002"
    assert "Compressed file ended" in error.found or "CRC check failed" in error.found


def test_not_a_nifti(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"GIF89a" * 200)
    assert error_of(tmp_path / "a.nii").code == "MV-DATA-002"
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"text" * 500))
    assert error_of(tmp_path / "b.nii.gz").code == "MV-DATA-002"
    (tmp_path / "c.nii.gz").write_bytes(b"not gzip at all")
    assert "gzip" in error_of(tmp_path / "c.nii.gz").found.lower()


def test_truncated_uncompressed_nifti(tmp_path, array):
    path = tmp_path / "a.nii"
    write_volume(array, path, Geometry(SHAPE, np.eye(4)))
    path.write_bytes(path.read_bytes()[:-10])
    assert error_of(path).code == "MV-DATA-002"


def zyx(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def test_plain_tiff_has_no_calibration(tmp_path, array):
    tifffile.imwrite(tmp_path / "a.tif", zyx(array), resolution=(72, 72))
    volume = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.affine is None
    assert volume.unit is None


@pytest.mark.parametrize(
    ("unit", "scale"), [("µm", 1.0), ("um", 1.0), ("nm", 1e-3), (None, 1.0), ("cm", 1e4)]
)
def test_ome_tiff(tmp_path, array, unit, scale):
    sizes = {"X": 0.5, "Y": 0.25, "Z": 3.0}
    metadata: dict[str, object] = {"axes": "ZYX"}
    for axis, size in sizes.items():
        metadata[f"PhysicalSize{axis}"] = size
        if unit is not None:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(tmp_path / "a.ome.tif", zyx(array), metadata=metadata)
    volume = read_volume(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.affine is not None
    np.testing.assert_allclose(np.diag(volume.affine), [0.5 * scale, 0.25 * scale, 3 * scale, 1])
    assert volume.unit == "um"


def test_ome_in_millimetres_keeps_its_unit(tmp_path, array):
    metadata = {"axes": "ZYX"}
    for axis in "XYZ":
        metadata |= {f"PhysicalSize{axis}": 0.002, f"PhysicalSize{axis}Unit": "mm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", zyx(array), metadata=metadata)
    volume = read_volume(tmp_path / "a.ome.tif")
    assert volume.unit == "mm"
    np.testing.assert_allclose(np.diag(volume.affine), [0.002, 0.002, 0.002, 1])


@pytest.mark.parametrize(
    "metadata",
    [
        {"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0},
        {f"PhysicalSize{a}": 1.0 for a in "XYZ"} | {"PhysicalSizeZUnit": "pixel"},
    ],
    ids=["no z", "pixels"],
)
def test_incomplete_ome_calibration_is_none(tmp_path, array, metadata):
    tifffile.imwrite(tmp_path / "a.ome.tif", zyx(array), metadata={"axes": "ZYX", **metadata})
    assert read_volume(tmp_path / "a.ome.tif").affine is None


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m", "mm"])
def test_imagej_calibration(tmp_path, array, unit):
    tifffile.imwrite(
        tmp_path / "a.tif",
        zyx(array),
        imagej=True,
        resolution=(2.0, 4.0),
        metadata={"axes": "ZYX", "unit": unit, "spacing": 3.0},
    )
    volume = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(np.diag(volume.affine), [0.5, 0.25, 3, 1])
    assert volume.unit == ("mm" if unit == "mm" else "um")


@pytest.mark.parametrize("metadata", [{"unit": "pixel", "spacing": 3.0}, {"unit": "um"}])
def test_incomplete_imagej_calibration_is_none(tmp_path, array, metadata):
    tifffile.imwrite(
        tmp_path / "a.tif", zyx(array), imagej=True, metadata={"axes": "ZYX", **metadata}
    )
    assert read_volume(tmp_path / "a.tif").affine is None


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((2, 5, 7, 11), {"imagej": True, "metadata": {"axes": "TZYX"}}),
        ((5, 2, 7, 11), {"imagej": True, "metadata": {"axes": "ZCYX"}}),
        ((5, 7, 11), {"imagej": True, "metadata": {"axes": "TYX"}}),
        ((5, 7, 11), {"imagej": True, "metadata": {"axes": "CYX"}}),
        ((5, 7, 11, 3), {"photometric": "rgb"}),
        ((7, 11), {}),
    ],
    ids=["time", "channels", "slices saved as time", "slices saved as channels", "RGB", "2-D"],
)
def test_tiff_with_other_axes(tmp_path, shape, kwargs):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), **kwargs)
    error = error_of(tmp_path / "a.tif")
    assert error.code == "MV-DATA-003"
    assert "axes" in error.found


def test_tiff_with_two_images(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((5, 7, 11), np.uint8))
        writer.write(np.zeros((5, 9, 11), np.uint8))
    assert error_of(tmp_path / "a.tif").code == "MV-DATA-003"


@pytest.mark.parametrize("kind", ["plain", "imagej", "ome", "pages", "deflate"])
@pytest.mark.parametrize("left", [0.3, 0.6, 0.9])
def test_truncated_tiff(tmp_path, kind, left):
    stack = np.random.default_rng(0).integers(0, 255, (10, 64, 64)).astype(np.uint8)
    path = tmp_path / "a.tif"
    if kind == "pages":
        with tifffile.TiffWriter(path) as writer:
            for plane in stack:
                writer.write(plane, contiguous=False, metadata=None)
    else:
        options = {
            "plain": {},
            "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
            "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
            "deflate": {"compression": "zlib"},
        }[kind]
        tifffile.imwrite(path, stack, **options)
    assert read_volume(path).array.shape == (64, 64, 10)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    assert error_of(path).code == "MV-DATA-002"


def test_an_ome_tiff_that_has_fewer_slices_than_it_says(tmp_path):
    """As a stopped acquisition leaves it; tifffile would give black slices."""
    stack = np.full((6, 8, 8), 7, dtype=np.uint16)
    description = tifffile.OmeXml()
    description.addimage(np.uint16, (6, 8, 8), (6, 1, 1, 8, 8, 1), axes="ZYX")
    path = tmp_path / "short.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for number in range(4):
            text = description.tostring() if number == 0 else None
            writer.write(stack[number], contiguous=False, metadata=None, description=text)
    assert error_of(path).code == "MV-DATA-002"


def write_parts(folder: Path, names: list[str]) -> None:
    """An OME-TIFF of one file per slice, each of which names all of them."""
    uuids = [
        f"urn:uuid:0000000{number}-0000-0000-0000-000000000000" for number in range(len(names))
    ]
    listed = "".join(
        f'<TiffData FirstZ="{number}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for number, (name, uuid) in enumerate(zip(names, uuids, strict=True))
    )
    for number, name in enumerate(names):
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[number]}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYZCT" Type="uint16" SizeX="6" SizeY="5" SizeZ="{len(names)}" '
            'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f"{listed}</Pixels></Image></OME>"
        )
        plane = np.full((5, 6), number + 1, dtype=np.uint16)
        tifffile.imwrite(folder / name, plane, description=text.encode(), metadata=None)


def test_all_parts_of_an_ome_tiff_are_the_volume(tmp_path):
    names = [f"slice{number}.ome.tif" for number in range(3)]
    write_parts(tmp_path, names)
    first = tmp_path / names[0]
    assert read_volume(first).array[0, 0].tolist() == [1, 2, 3]
    assert data_files(first) == [tmp_path / name for name in names]
    (tmp_path / names[1]).unlink()
    assert error_of(first).code == "MV-DATA-002"


def test_parts_that_nothing_would_watch_are_refused(tmp_path):
    write_parts(tmp_path, ["a.tif", "b.tif"])
    error = error_of(tmp_path / "a.tif")
    assert (error.code, error.found) == ("MV-DATA-002", "its OME-XML names 1 other files")
    assert ".ome.tif" in error.fix
    assert data_files(tmp_path / "a.tif") == [tmp_path / "a.tif"]


def test_a_renamed_ome_tiff_is_its_own_file(tmp_path):
    write_parts(tmp_path, ["before.ome.tif"])
    path = (tmp_path / "before.ome.tif").rename(tmp_path / "after.ome.tif")
    assert data_files(path) == [path]
    plain = path.rename(tmp_path / "after.tif")
    assert error_of(plain).code == "MV-DATA-003", "one slice, and no other file is missed"


@pytest.mark.parametrize(
    ("name", "field"), [("a.mhd", "ElementDataFile = LIST"), ("a.nhdr", "data file: s%d.raw 0 2 1")]
)
def test_a_header_of_several_files_is_refused(tmp_path, array, name, field):
    path = tmp_path / name
    sitk.WriteImage(itk_image(array), str(path), False)
    key = field.replace("=", ":").split(":")[0].strip().lower()
    lines = [
        field if line.lower().startswith(key) else line
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    assert data_files(path) == [path]
    error = error_of(path)
    assert error.code == "MV-DATA-002"
    assert "several files" in error.found


def itk_image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(zyx(array))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    turn = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
    image.SetDirection(turn.ravel().tolist())
    return image


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_itk_formats_in_ras(tmp_path, array, suffix, compressed):
    image = itk_image(array)
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path), compressed)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.unit is None
    lps = np.array(image.TransformIndexToPhysicalPoint((4, 3, 2)))
    np.testing.assert_allclose(
        (volume.affine @ [4, 3, 2, 1])[:3], lps * [-1, -1, 1], rtol=1e-6, atol=1e-6
    )
    files = data_files(path)
    assert len(files) == (2 if suffix in (".nhdr", ".mhd") else 1)
    assert all(file.is_file() for file in files)
    voxels = files[-1]
    voxels.write_bytes(voxels.read_bytes()[:-50])
    assert error_of(path).code == "MV-DATA-002"
    if voxels != path:
        voxels.unlink()
        assert error_of(path).code == "MV-DATA-002"


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        (b'space units: "um" "um" "um"\n', "um"),
        ('space units: "µm" "µm" "µm"\n'.encode(), "um"),
        ('space units: "µm" "µm" "µm"\n'.encode("latin-1"), "um"),
        (b'space units: "mm" "mm" "mm"\n', "mm"),
        (b'space units: "mm" "mm" "um"\n', None),
        (b"", None),
    ],
)
def test_nrrd_space_units(tmp_path, array, line, unit):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(itk_image(array), str(path))
    head, voxels = path.read_bytes().split(b"\n\n", 1)
    path.write_bytes(head + b"\n" + line + b"\n" + voxels)
    volume = read_volume(path)
    assert volume.unit == unit
    np.testing.assert_array_equal(volume.array, array)


def test_itk_without_spacing_has_no_affine(tmp_path, array):
    fortran = array.tobytes("F")
    nrrd = b"NRRD0004\ntype: ushort\ndimension: 3\nsizes: 11 7 5\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(nrrd + fortran)
    meta = (
        b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        b"DimSize = 11 7 5\nElementType = MET_USHORT\nElementDataFile = LOCAL\n"
    )
    (tmp_path / "a.mha").write_bytes(meta + fortran)
    for name in ("a.nrrd", "a.mha"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.array, array)
        assert volume.affine is None


def test_itk_with_channels_or_two_dimensions(tmp_path):
    vectors = sitk.GetImageFromArray(np.zeros((5, 7, 11, 2), np.uint8), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "a.mha"))
    assert error_of(tmp_path / "a.mha").code == "MV-DATA-003"
    sitk.WriteImage(sitk.Image(8, 8, sitk.sitkUInt8), str(tmp_path / "b.nrrd"))
    assert error_of(tmp_path / "b.nrrd").code == "MV-DATA-003"


@needs_volumes
def test_all_vesselnn_stacks_as_simpleitk_decodes_them():
    files = sorted((SHARED / "vesselnn").rglob("*.tif"))
    assert len(files) == 12
    for file in files:
        volume = read_volume(file)
        reference = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        np.testing.assert_array_equal(volume.array, reference.transpose(2, 1, 0))
        assert volume.array.dtype == reference.dtype
        assert volume.array.shape[:2] == (512, 512)
        assert volume.affine is None


@needs_volumes
def test_real_nifti_headers():
    mask = read_volume(SHARED / "minivess_mask" / "mv68_y.nii.gz")
    assert mask.array.shape == (512, 512, 106)
    assert mask.unit is None
    aorta = read_volume(SHARED / "aorta_cta" / "ct_cropped.nii.gz")
    np.testing.assert_array_equal(np.diag(aorta.affine), [-1.5, -1.5, 1.5, 1])


@needs_volumes
def test_octa_declares_no_spacing():
    assert read_volume(SHARED / "octa" / "OCTA-Data.tif").affine is None


def test_compressed_bytes_are_the_same_whatever_zlib_the_interpreter_has(tmp_path: Path) -> None:
    mask = (np.indices((16, 16, 8)).sum(axis=0) % 5 == 0).astype(np.uint8)
    path = tmp_path / "mask.nii.gz"
    write_volume(mask, path, Geometry(mask.shape, np.diag([1.0, 1.0, 5.0, 1.0])))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "2c509df8a0da146d71697d7cc67ab4c12325c3efb5927c4071a4f5593874abe9"
    )
