"""Reading volumes that strangers send: sizes are checked before anything is unpacked.

The voxels are read by the same functions as those of the experiments, after the checks here and in
`upload_tiff`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from minivess.config.schema import DataConfig
from minivess.data.geometry import Geometry
from minivess.data.sources import SourceCase, SpacingUnit
from minivess.data.spacing import PLAUSIBLE_UM, resolve_spacing
from minivess.data.volume import SourceVolume, Volume, nifti_of_bytes, volume_suffix
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import nibabel as nib

    from minivess.types import Array, FloatArray, Spacing

SUFFIXES = (".nii", ".nii.gz", ".tif", ".tiff")
# Header extensions that may lie between header and voxels; none of them is read.
MOST_HEADER_BYTES = 1 << 24
_NAME = re.compile(r"[^\\/\x00-\x1f\x7f]{1,255}")
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_CODES = {"MV-DATA-002": "MV-UPLOAD-004", "MV-DATA-003": "MV-UPLOAD-006"}


@dataclass(frozen=True)
class Limits:
    """What an upload may be at most.

    Attributes:
        max_bytes: bytes of the file as it is sent.
        max_voxels: voxels of the volume.
    """

    max_bytes: int
    max_voxels: int


def refusal(code: str, what: str, where: str, found: str, fix: str) -> MinivessError:
    """The error for an upload that cannot be used.

    >>> refusal("MV-UPLOAD-004", "damaged", "a.nii", "10 of 352 bytes", "send it again").code
    'MV-UPLOAD-004'
    """
    return MinivessError(code, what=what, where=where, found=found, fix=fix)


def safe_name(name: str) -> str:
    """The name under which a client sends a file, where it is a plain name of an accepted format.

    Raises:
        MinivessError: MV-UPLOAD-009 a path, MV-UPLOAD-003 another ending.

    >>> safe_name("Case 1.OME.tif")
    'Case 1.OME.tif'
    """
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise refusal(
            "MV-UPLOAD-009",
            "the name of the file is a path",
            "the upload",
            f"the name {name[:80]!r}",
            "send the file under its own name, without folders",
        )
    if volume_suffix(Path(name)) not in SUFFIXES:
        raise refusal(
            "MV-UPLOAD-003",
            "the format is not accepted",
            name,
            f"a name that ends with {Path(name).suffix!r}",
            "save the volume as one of " + " ".join(SUFFIXES),
        )
    return name


def read_upload(
    path: Path,
    limits: Limits,
    spacing_um: Spacing | None = None,
    spacing_unit: SpacingUnit = "header",
) -> Volume:
    """Read an untrusted NIfTI (.nii, .nii.gz) or TIFF file, with its geometry.

    The spacing that counts is `spacing_um`, else that of the header, as for the volumes of an
    experiment. The memory needed is bounded by the limits, whatever the file says: at most the
    bytes of the file and 24 for each voxel.

    Args:
        path: the file; errors name it without its folder.
        limits: most bytes and voxels.
        spacing_um: voxel size along (x, y, z) where the file has none or a wrong one.
        spacing_unit: unit of the header's spacing: um, mm, or header for the one that it names.

    Raises:
        MinivessError: MV-UPLOAD-001 to MV-UPLOAD-009, each with what to do.

    >>> import tempfile
    >>> from minivess.data.volume import write_volume
    >>> array = np.arange(60.0, dtype=np.float32).reshape(5, 4, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.nii.gz"
    ...     write_volume(array, file, Geometry((5, 4, 3), np.diag([0.5, 0.5, 2.0, 1.0])))
    ...     volume = read_upload(file, Limits(max_bytes=10_000, max_voxels=1_000))
    >>> volume.array.shape, volume.geometry.spacing_um
    ((5, 4, 3), (0.5, 0.5, 2.0))
    """
    source = read_source(path, limits)
    _check_values(source.array, path.name)
    return Volume(source.array, _geometry(source, spacing_um, spacing_unit, path.name))


def read_source(path: Path, limits: Limits) -> SourceVolume:
    """Read the voxels of an untrusted file, (x, y, z), whatever they are; see `read_upload`.

    Raises:
        MinivessError: MV-UPLOAD-001 to MV-UPLOAD-006, MV-UPLOAD-009.
    """
    name = safe_name(path.name)
    _check_bytes(path, limits)
    try:
        source = _read_tiff(path, limits) if "tif" in _suffix(path) else _read_nifti(path, limits)
    except MinivessError as error:
        if error.code not in _CODES:
            raise
        raise MinivessError(
            _CODES[error.code], error.what, name, error.found, error.expected, error.fix
        ) from error
    check_voxels(source.array.size, limits, name)
    array = source.array.astype(source.array.dtype.newbyteorder("="), copy=False)
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise not_one_channel(name, f"shape {_times(array.shape)} of type {array.dtype}")
    return SourceVolume(array, source.affine, source.unit)


def check_voxels(count: int, limits: Limits, name: str) -> None:
    """Raise MV-UPLOAD-002 for more voxels than the limit."""
    if count > limits.max_voxels:
        raise refusal(
            "MV-UPLOAD-002",
            "the volume has too many voxels",
            name,
            f"{count} voxels, at most {limits.max_voxels}",
            "cut the volume into parts that overlap, or have max_voxels raised",
        )


def not_one_channel(name: str, found: str) -> MinivessError:
    """The error for an upload with other axes than x, y and z."""
    return refusal(
        "MV-UPLOAD-006",
        "the file is not one three-dimensional channel",
        name,
        found,
        "save the one channel and time point that shows the vessels as a file of its own",
    )


def damaged(name: str, found: str) -> MinivessError:
    """The error for an upload of which something is missing or wrong."""
    return refusal(
        "MV-UPLOAD-004", "the file is truncated or damaged", name, found, "send the file again"
    )


def contradiction(name: str, found: str) -> MinivessError:
    """The error for an upload whose header says something else than its data."""
    return refusal(
        "MV-UPLOAD-005",
        "header and data contradict each other",
        name,
        found,
        "export the volume again",
    )


def _suffix(path: Path) -> str:
    return volume_suffix(path) or ""


def _times(shape: Any) -> str:
    return " x ".join(str(int(length)) for length in shape)


def _check_bytes(path: Path, limits: Limits) -> None:
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise too_large(path.name, f"{size} bytes", limits)


def too_large(name: str, found: str, limits: Limits) -> MinivessError:
    """The error for an upload of too many bytes."""
    return refusal(
        "MV-UPLOAD-001",
        "the file is too large",
        name,
        f"{found}, at most {limits.max_bytes}",
        "send it as .nii.gz, cut the volume into parts, or have max_upload_mb raised",
    )


def _read_tiff(path: Path, limits: Limits) -> SourceVolume:
    from minivess.deploy.upload_tiff import read_untrusted_tiff

    return read_untrusted_tiff(path, limits)


def _read_nifti(path: Path, limits: Limits) -> SourceVolume:
    packed = path.name.lower().endswith(".gz")
    with path.open("rb") as file:
        if (file.read(2) == _GZIP) != packed:
            raise refusal(
                "MV-UPLOAD-003",
                "the file is not of the format that its name says",
                path.name,
                "no gzip stream" if packed else "a gzip stream",
                "give it the ending .nii, or .nii.gz where it is compressed",
            )
        file.seek(0)
        if not packed:
            return _nifti_of(file, path, limits)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _nifti_of(stream, path, limits)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise damaged(path.name, f"gzip: {error}") from error


def _nifti_of(stream: BinaryIO | gzip.GzipFile, path: Path, limits: Limits) -> SourceVolume:
    """Voxels of a stream, of which never more is unpacked than its header has said."""
    head = stream.read(544)
    expected = _expected_bytes(head, path.name, limits)
    data = bytearray(head)
    while len(data) < expected and (chunk := stream.read(min(_CHUNK, expected - len(data)))):
        data += chunk
    if len(data) < expected:
        raise damaged(path.name, f"{len(data)} bytes of the {expected} that the header announces")
    if len(data) > expected or stream.read(1):
        raise contradiction(path.name, f"more data than the {expected} bytes that the header says")
    data[_extension_flag(head)] = 0  # extensions are of no use here, so nothing reads them
    try:
        return nifti_of_bytes(bytes(data), path)
    except (MinivessError, MemoryError):
        raise
    except Exception as error:  # nibabel raises errors of every kind for damaged headers
        raise damaged(path.name, f"{type(error).__name__}: {error}") from error


def _extension_flag(head: bytes) -> int:
    return 540 if 540 in (int.from_bytes(head[:4], order) for order in ("little", "big")) else 348


def _header(head: bytes, name: str) -> nib.nifti1.Nifti1Header:
    import nibabel as nib

    kind: Any = nib.nifti2.Nifti2Header if _extension_flag(head) == 540 else nib.nifti1.Nifti1Header
    size = kind.template_dtype.itemsize
    if len(head) < size + 4:
        raise damaged(name, f"{len(head)} bytes, less than a header")
    header: nib.nifti1.Nifti1Header = kind(head[:size], check=False)
    magic = bytes(header["magic"].tobytes())[:3]
    if magic in (b"ni1", b"ni2"):
        raise refusal(
            "MV-UPLOAD-009",
            "the header points to another file with the voxels",
            name,
            f"the magic {magic.decode()} of a pair .hdr and .img",
            "save the volume as one file .nii or .nii.gz",
        )
    if magic not in (b"n+1", b"n+2"):
        raise refusal(
            "MV-UPLOAD-003",
            "the file is not of the format that its name says",
            name,
            f"no NIfTI header; it begins with {head[:8]!r}",
            "save the volume as NIfTI-1, NIfTI-2 or TIFF",
        )
    return header


def _expected_bytes(head: bytes, name: str, limits: Limits) -> int:
    """Bytes that a file has by its header, which nothing has been trusted in so far."""
    header = _header(head, name)
    dim = [int(value) for value in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise contradiction(name, f"dimensions {dim[: 1 + max(0, min(dim[0], 7))]}")
    shape = dim[1 : dim[0] + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    count = 1
    for length in shape:  # whole numbers of Python, which do not overflow
        count *= length
    check_voxels(count, limits, name)
    if len(shape) != 3:
        raise not_one_channel(name, f"shape {_times(shape)}")
    dtype = _data_type(header, name)
    offset = float(header["vox_offset"])
    first = header.template_dtype.itemsize + 4
    if not (first <= offset <= MOST_HEADER_BYTES and offset == int(offset)):
        raise contradiction(
            name, f"voxels that begin at byte {offset:g}, not {first} to {MOST_HEADER_BYTES}"
        )
    return int(offset) + count * dtype.itemsize


def _data_type(header: nib.nifti1.Nifti1Header, name: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in header._data_type_codes.value_set():
        raise contradiction(name, f"voxels of the unknown type {code}")
    dtype: np.dtype[Any] = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise not_one_channel(name, f"voxels of type {dtype}, not one number each")
    return dtype


def _check_values(array: Array, name: str) -> None:
    """Voxels that are numbers in float32, in which networks compute, and not all the same."""
    low, high = array.min(), array.max()  # NaN where one voxel is
    largest = np.finfo(np.float32).max
    if not (-largest <= low <= high <= largest):
        raise refusal(
            "MV-UPLOAD-007",
            "some voxels are not finite numbers",
            name,
            f"{int(np.count_nonzero(~(np.abs(array) <= largest)))} of {array.size} voxels are NaN, "
            "infinite or beyond float32",
            "replace these voxels (for example by the median of their neighbours) and send it "
            "again",
        )
    if low == high:
        raise refusal(
            "MV-UPLOAD-007",
            "all voxels are the same",
            name,
            f"every voxel is {float(low):g}",
            "send a volume in which vessels differ from the rest",
        )


def _geometry(
    source: SourceVolume, spacing_um: Spacing | None, unit: SpacingUnit, name: str
) -> Geometry:
    if spacing_um is not None and not all(0 < length < np.inf for length in spacing_um):
        raise _no_spacing(name, f"spacing_um {_spaced(spacing_um)}")
    here = Path(name)
    case = SourceCase(name, here, here, name, spacing_um=spacing_um, spacing_unit=unit)
    found = resolve_spacing(source.affine, source.unit, case, DataConfig())
    if found.spacing_um is None or found.affine is None or found.unit_um is None:
        raise _no_spacing(
            name,
            "no spacing in the file"
            if source.affine is None
            else f"spacing {_lengths(source.affine)} in the header, unit: {source.unit or 'none'}",
        )
    low, high = PLAUSIBLE_UM
    plausible = all(low <= length <= high for length in found.spacing_um)
    if found.source == "header" and unit == "header" and not plausible:
        raise _no_spacing(name, f"voxels of {_spaced(found.spacing_um)} um by the header")
    axes = found.affine[:3, :3] / np.linalg.norm(found.affine[:3, :3], axis=0)
    if not (np.isfinite(found.affine).all() and abs(np.linalg.det(axes)) > 1e-3):
        raise contradiction(name, "an affine whose axes do not span a volume")
    x, y, z = source.array.shape
    return Geometry((x, y, z), found.affine, found.unit_um)


def _lengths(affine: FloatArray) -> str:
    with np.errstate(over="ignore", invalid="ignore"):
        return _spaced(np.linalg.norm(affine[:3, :3], axis=0))


def _spaced(values: Any) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _no_spacing(name: str, found: str) -> MinivessError:
    low, high = PLAUSIBLE_UM
    return MinivessError(
        "MV-UPLOAD-008",
        what="the spacing is missing or implausible",
        where=name,
        found=found,
        expected=f"voxels of {low:g} to {high:g} um along x, y and z",
        fix="send spacing_um as x,y,z in micrometres, or spacing_unit um or mm for a header "
        "without a unit",
    )
