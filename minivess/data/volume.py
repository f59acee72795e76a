"""Reading volumes of every supported format as (x, y, z) arrays, and writing NIfTI.

This module and the readers beside it are the only place where axis orders are converted.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from minivess.errors import MinivessError
from minivess.output import damaged, replacing

if TYPE_CHECKING:
    import nibabel as nib

    from minivess.data.geometry import Geometry
    from minivess.types import Array, FloatArray

type Unit = Literal["um", "mm"]

UM_PER_UNIT: dict[str, float] = {"um": 1.0, "mm": 1000.0}
_NIFTI_SPACE_UNITS: dict[int, Unit | None] = {2: "mm", 3: "um"}


# Where NIfTI-1 has the field descrip.
_NOTE = slice(148, 228)


@dataclass(frozen=True, eq=False)
class SourceVolume:
    """A volume as its file has it.

    Attributes:
        array: (x, y, z) in the stored dtype, native byte order.
        affine: 4 x 4 float64, RAS+, in the file's unit; none where the file carries no calibration.
        unit: unit of the affine, none where the file does not name one.
    """

    array: Array
    affine: FloatArray | None
    unit: Unit | None


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume of which it is known where it lies.

    Attributes:
        array: (x, y, z) in the stored dtype, native byte order.
        geometry: its grid, with the spacing that counts.
    """

    array: Array
    geometry: Geometry


def not_three_dimensional(path: Path, found: str, fix: str = "") -> MinivessError:
    """The error for a volume with other axes than (x, y, z)."""
    return MinivessError(
        "MV-DATA-003",
        what="the volume is not three-dimensional",
        where=str(path),
        found=found,
        expected="one channel and one time point with the axes x, y, z",
        fix=fix or "save the one channel and time point that shows the vessels as its own file",
    )


def unreadable(path: Path, found: str, fix: str = "") -> MinivessError:
    """The error for a file that its reader refuses."""
    return MinivessError(
        "MV-DATA-002",
        what="the file cannot be read",
        where=str(path),
        found=" ".join(found.split()),
        expected="a complete file of the format that its name says",
        fix=fix or "copy or download the file again",
    )


def _read_nifti(path: Path) -> SourceVolume:
    data = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        # all of the stream at once, so that a missing end or a wrong checksum cannot pass
        data = gzip.decompress(data)
    return nifti_of_bytes(data, path)


def nifti_of_bytes(data: bytes, path: Path) -> SourceVolume:
    """The volume of an unpacked single NIfTI file; see `read_volume`.

    Args:
        data: header and voxels.
        path: where they are from, for errors.

    Raises:
        MinivessError: MV-DATA-003 not 3-D; and nibabel's own errors for damaged headers.
    """
    import nibabel as nib

    image: nib.nifti1.Nifti1Image
    if int.from_bytes(data[:4], "little") == 540 or int.from_bytes(data[:4], "big") == 540:
        image = nib.nifti2.Nifti2Image.from_bytes(data)
    else:
        image = nib.nifti1.Nifti1Image.from_bytes(data)
    array = np.asanyarray(image.dataobj)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise not_three_dimensional(path, f"shape {' x '.join(map(str, array.shape))}")
    unit = _NIFTI_SPACE_UNITS.get(int(image.header["xyzt_units"]) & 7)
    return SourceVolume(array, _nifti_affine(image, data), unit)


def _nifti_affine(image: nib.nifti1.Nifti1Image, data: bytes) -> FloatArray:
    """The affine; nibabel would replace a zero in pixdim by one and flip a negative number."""
    import io

    if int(image.header["sform_code"]) == 0:
        raw = type(image.header).from_fileobj(io.BytesIO(data), check=False)
        spacing = np.asarray(raw["pixdim"][1:4], dtype=np.float64)
        if not (spacing > 0).all():
            return np.diag([*np.maximum(spacing, 0.0), 1.0])
    affine: FloatArray = np.asarray(image.affine, dtype=np.float64)
    return affine


def _read_tiff(path: Path) -> SourceVolume:
    from minivess.data.volume_tiff import read_tiff

    return read_tiff(path)


def _read_itk(path: Path) -> SourceVolume:
    from minivess.data.volume_itk import read_itk

    return read_itk(path)


READERS: dict[str, Callable[[Path], SourceVolume]] = {
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".nrrd": _read_itk,
    ".nhdr": _read_itk,
    ".mha": _read_itk,
    ".mhd": _read_itk,
}


def volume_suffix(path: Path) -> str | None:
    """The ending of a file of a supported format, in lower case, else none.

    >>> volume_suffix(Path("a.NII.GZ")), volume_suffix(Path("a.ome.tif")), volume_suffix(Path("a"))
    ('.nii.gz', '.tif', None)
    """
    name = path.name.lower()
    return next((s for s in sorted(READERS, key=len, reverse=True) if name.endswith(s)), None)


def data_files(path: Path) -> list[Path]:
    """The file itself and the others that its voxels are in.

    Those are the data file of a detached header (.mhd, .nhdr) and the parts of an OME-TIFF of
    several files (.ome.tif). Reads headers only. One that cannot be read gives the path alone;
    `read_volume` reports what is wrong with it.
    """
    if not path.is_file():
        return [path]
    if is_ome_tiff(path):
        from minivess.data.volume_tiff import other_parts

        return [path, *other_parts(path)]
    if volume_suffix(path) not in (".mhd", ".nhdr"):
        return [path]
    from minivess.data.volume_itk import data_file

    name = data_file(path)
    return [path] if name is None else [path, path.parent / name]


def is_ome_tiff(path: Path) -> bool:
    """Whether the name says OME-TIFF, which alone may be several files.

    >>> is_ome_tiff(Path("a.ome.tif")), is_ome_tiff(Path("a.OME.TIFF")), is_ome_tiff(Path("a.tif"))
    (True, True, False)
    """
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))


def read_volume(path: Path) -> SourceVolume:
    """Read all voxels of a volume as (x, y, z), with its affine and unit where the file has them.

    NIfTI (.nii, .nii.gz), TIFF and OME-TIFF, NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd).

    Raises:
        MinivessError: MV-DATA-001 missing, MV-DATA-002 unreadable, MV-DATA-003 not 3-D.
    """
    if not path.is_file():
        raise MinivessError(
            "MV-DATA-001",
            what="the file is missing",
            where=str(path),
            found="no file of that name",
            expected="a volume",
            fix="correct the path",
        )
    suffix = volume_suffix(path)
    if suffix is None:
        raise unreadable(
            path,
            f"unknown file ending {path.suffix!r}",
            "convert it to one of " + " ".join(READERS),
        )
    try:
        volume = READERS[suffix](path)
    except (MinivessError, MemoryError):
        raise
    except Exception as error:  # the libraries raise errors of every kind for damaged files
        raise unreadable(path, f"{type(error).__name__}: {error}") from error
    return _checked(volume, path)


def read_made(path: Path) -> Array:
    """The voxels of a volume that an earlier step has written, (x, y, z).

    Raises:
        MinivessError: MV-STATE-002 missing, MV-STATE-003 damaged.
    """
    if not path.is_file():
        raise MinivessError(
            "MV-STATE-002",
            what="a volume that an earlier step makes is missing",
            where=str(path),
            fix="run the experiment again",
        )
    try:
        return read_volume(path).array
    except MinivessError as error:
        raise damaged(path, error.found) from error


def _checked(volume: SourceVolume, path: Path) -> SourceVolume:
    array = volume.array
    if array.dtype.kind not in "biuf":
        raise not_three_dimensional(path, f"voxels of type {array.dtype}, not one number each")
    if array.size == 0:
        raise not_three_dimensional(path, f"shape {' x '.join(map(str, array.shape))}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "b":  # of a TIFF of one bit; NumPy counts with numbers alone
        native = native.astype(np.uint8)
    return SourceVolume(native, volume.affine, volume.unit)


def write_volume(array: Array, path: Path, geometry: Geometry, note: str = "") -> None:
    """Write a NIfTI-1 file (.nii or .nii.gz): equal bytes for equal arguments.

    The affine goes into sform (float32 in this format: an affine read from an sform comes back
    bit for bit) and qform, the unit into xyzt_units. Booleans become uint8.

    Args:
        array: (x, y, z) of the shape of the geometry.
        path: ends with .nii or .nii.gz.
        geometry: its affine is stored as it is, in its own unit.
        note: up to 79 ASCII characters, for the field of the header that is meant for people.

    Raises:
        MinivessError: MV-SYSTEM-001, MV-SYSTEM-002, see `minivess.output.replacing`.
        ValueError: array and geometry differ in shape, the path has another ending, or the note is
            too long or not ASCII.
    """
    suffix = volume_suffix(path)
    if suffix not in (".nii", ".nii.gz"):
        raise ValueError(f"{path} does not end with .nii or .nii.gz")
    data = nifti_bytes(array, geometry, suffix == ".nii.gz", note)
    with replacing(path) as temporary, temporary.open("wb") as handle:
        handle.write(data)


def read_note(path: Path) -> str:
    """The note in the header of a NIfTI file that `write_volume` wrote; mostly there is none.

    Raises:
        MinivessError: MV-STATE-003 the file is damaged.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as handle:
            header = handle.read(_NOTE.stop)
        if len(header) < _NOTE.stop:
            raise EOFError("the header has no end")
        return header[_NOTE].rstrip(b"\0").decode("ascii")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise damaged(path, str(error)) from error


def nifti_bytes(array: Array, geometry: Geometry, packed: bool, note: str = "") -> bytes:
    """The bytes of the file that `write_volume` writes, compressed where they are `packed`.

    Raises:
        ValueError: array and geometry differ in shape, or the note is too long or not ASCII.
    """
    import deflate
    import nibabel as nib

    if array.shape != geometry.shape:
        raise ValueError(f"array {array.shape} and geometry {geometry.shape} differ in shape")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    image = nib.nifti1.Nifti1Image(array, geometry.affine, dtype=array.dtype)
    image.set_qform(geometry.affine, code=2, update_affine=False)
    image.set_sform(geometry.affine, code=2, update_affine=False)
    if not note.isascii() or len(note) >= _NOTE.stop - _NOTE.start:
        raise ValueError(f"not a note for a NIfTI header: {note!r}")
    image.header["descrip"] = note.encode("ascii")
    image.header.set_xyzt_units("mm" if geometry.unit_um == UM_PER_UNIT["mm"] else "micron")
    data: bytes = image.to_bytes()
    # Not Python's gzip: its bytes are those of whichever zlib the interpreter was built with.
    return bytes(deflate.gzip_compress(data, 6)) if packed else data
