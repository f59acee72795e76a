"""Segmenting files on this machine with an exported champion, for people at a command line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from minivess import paths
from minivess.errors import MinivessError
from minivess.logs import say

if TYPE_CHECKING:
    import onnxruntime

    from minivess.data.volume import Volume
    from minivess.deploy.bundle import Bundle
    from minivess.types import Spacing

MASK, PROBABILITY = "_vessels.nii.gz", "_probability.nii.gz"


@dataclass(frozen=True)
class Request:
    """How files are to be segmented.

    Attributes:
        folder: of the exported champion.
        out: file of the mask, or folder of the masks; none for the working folder.
        probability: whether the probability is written too.
        spacing_um: spacing (x, y, z) in um of files that declare none.
        unit: unit of the headers' spacing; header for the one that they name.
        variant: network of lower precision.
        threads: of a forward pass; none for the deployment setting.
    """

    folder: Path
    out: Path | None = None
    probability: bool = False
    spacing_um: Spacing | None = None
    unit: Literal["header", "um", "mm"] = "header"
    variant: str | None = None
    threads: int | None = None


def bundle_folder(experiment: str, kind: str) -> Path:
    """Folder of a champion of an experiment.

    Raises:
        MinivessError: MV-CONFIG-003 no such kind, MV-STATE-002 it is not exported.
    """
    from minivess.statistics.champion import check_kind

    check_kind(kind)
    folder = paths.bundle(paths.experiment_folder(experiment), kind)
    if not paths.bundle_record(folder).exists():
        raise MinivessError(
            "MV-STATE-002",
            what=f"the experiment {experiment} has no exported champion",
            where=str(folder),
            fix=f"export it: minivess experiment {experiment} deploy",
        )
    return folder


def segment_files(path: Path, request: Request) -> list[Path]:
    """Segment a volume, or every volume in a folder; the masks that were written.

    A file of a folder that cannot be segmented is reported and does not keep the others from it.

    Raises:
        MinivessError: MV-DATA-001 nothing there; the first error of a file, after all others were
            tried; MV-STATE-..., MV-SYSTEM-... from the champion and from writing.
    """
    from minivess.config.settings import load_settings
    from minivess.deploy.bundle import read_bundle
    from minivess.deploy.segment import open_session

    files = _files(path)
    masks = _masks(path, files, request.out)
    bundle = read_bundle(request.folder)
    session = open_session(bundle, request.threads or load_settings().threads, request.variant)
    say(f"{bundle.experiment} {bundle.kind}: {bundle.run}, {request.variant or 'float32'}")
    failed: list[MinivessError] = []
    for file, mask in zip(files, masks, strict=True):
        try:
            _segment(file, mask, session, bundle, request)
        except MinivessError as error:
            if len(files) == 1:
                raise
            failed.append(error)
            say(f"{file.name}: not segmented\n{error}")
    if failed:
        first = failed[0]
        first.what = (
            f"{len(failed)} of {len(files)} files were not segmented; the first: {first.what}"
        )
        raise first
    return masks


def _files(path: Path) -> list[Path]:
    from minivess.data.volume import volume_suffix

    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and volume_suffix(file))
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise MinivessError(
            "MV-DATA-001",
            what="there is no volume",
            where=str(path),
            found="a folder without volumes" if path.is_dir() else "no file of that name",
            expected="a file or a folder of .nii, .nii.gz, .tif, .nrrd, .mha files",
            fix="correct the path",
        )
    return files


def _masks(path: Path, files: list[Path], out: Path | None) -> list[Path]:
    """Where each mask goes."""
    from minivess.data.volume import volume_suffix

    if path.is_dir() or out is None or out.is_dir():
        folder = out or Path()
        masks = [folder / (file.name[: -len(volume_suffix(file) or "")] + MASK) for file in files]
    else:
        masks = [out]
    wrong = [mask for mask in masks if volume_suffix(mask) not in (".nii", ".nii.gz")]
    over = [mask for mask in masks if mask.resolve() in {file.resolve() for file in files}]
    twice = sorted({str(mask) for mask in masks if masks.count(mask) > 1})
    if twice:
        both = [str(file) for file, mask in zip(files, masks, strict=True) if str(mask) == twice[0]]
        raise MinivessError(
            "MV-CONFIG-004",
            what="several volumes would have the same mask",
            where=twice[0],
            found=" and ".join(both),
            expected="volumes whose names differ before the ending",
            fix="rename one of them, or segment them one by one",
        )
    if wrong or over:
        raise MinivessError(
            "MV-CONFIG-004",
            what="the mask cannot be written there",
            where="--out",
            found=str((wrong or over)[0]),
            expected="names that end with .nii or .nii.gz, none of a volume of yours",
            fix="choose another name, or a folder",
        )
    return masks


def open_volume(
    file: Path,
    spacing_um: Spacing | None = None,
    unit: Literal["header", "um", "mm"] = "header",
) -> Volume:
    """A volume with the spacing that counts, as an experiment would take it.

    Args:
        file: of any supported format.
        spacing_um: spacing (x, y, z) in um where the file declares none.
        unit: unit of its header, where the header lies.

    Raises:
        MinivessError: MV-CONFIG-002 no such spacing, MV-DATA-001 to -003 from reading, MV-DATA-009
            no spacing.
    """
    from minivess.config.files import bad_values
    from minivess.config.schema import DataConfig
    from minivess.data.geometry import Geometry
    from minivess.data.sources import SourceCase
    from minivess.data.spacing import resolve_spacing
    from minivess.data.volume import Volume, read_volume

    found = read_volume(file)
    case = SourceCase(file.name, file, file, file.name)
    try:
        data = DataConfig(spacing_um=spacing_um, spacing_unit=unit)
    except ValidationError as error:
        raise bad_values(error, "--spacing-um") from error
    spacing = resolve_spacing(found.affine, found.unit, case, data)
    if spacing.affine is None or spacing.unit_um is None:
        raise MinivessError(
            "MV-DATA-009",
            what="the volume has no spacing, or none with a unit",
            where=str(file),
            found="nothing in its header that counts",
            expected="the distance of voxels along x, y, z in micrometres",
            fix="add --spacing-um X Y Z, or --unit um or mm where only the unit is missing",
        )
    x, y, z = found.array.shape
    return Volume(found.array, Geometry((x, y, z), spacing.affine, spacing.unit_um))


def _segment(
    file: Path,
    mask: Path,
    session: onnxruntime.InferenceSession,
    bundle: Bundle,
    request: Request,
) -> None:
    from minivess.data.volume import write_volume
    from minivess.deploy.segment import segment
    from minivess.deploy.views import shown_value, vessel_statistics

    volume = open_volume(file, request.spacing_um, request.unit)
    started = time.perf_counter()
    found = segment(session, bundle, volume)
    seconds = time.perf_counter() - started
    write_volume(found.mask, mask, volume.geometry)
    if request.probability:
        name = mask.name.removesuffix(".gz").removesuffix(".nii").removesuffix("_vessels")
        write_volume(found.probability, mask.with_name(name + PROBABILITY), volume.geometry)
    spacing = volume.geometry.spacing_um
    say(f"{file.name} -> {mask}")
    say(f"  {_times(volume.geometry.shape)} voxels of {_times(spacing)} um, {seconds:.1f} s")
    if any(not 0.5 <= a / b <= 2 for a, b in zip(spacing, bundle.spacing_um, strict=True)):
        say(
            f"  the network was trained on {_times(bundle.spacing_um)} um: its mask is a guess here"
        )
    for statistic in vessel_statistics(found.mask.astype(bool), spacing):
        say(f"  {statistic.label:<24} {shown_value(statistic)}")


def _times(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
