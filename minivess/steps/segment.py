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
# In the headers of both: what may be written over.
NOTE = "minivess segment"


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
        MinivessError: MV-CONFIG-003 no such kind, MV-STATE-002 it is not exported, or no longer
            the champion.
    """
    from minivess.deploy.bundle import why_not_exported
    from minivess.statistics.champion import check_kind

    check_kind(kind)
    root = paths.experiment_folder(experiment)
    folder, made_with = paths.bundle(root, kind), paths.step_config(root, "experiment")
    reason = why_not_exported(root, kind)
    if reason is not None:
        name = made_with if made_with.is_file() else experiment
        raise MinivessError(
            "MV-STATE-002",
            what=f"the champion {kind} of {experiment} is not exported",
            where=str(folder),
            found=reason,
            fix=f"export it: minivess experiment {name} deploy",
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
    masks = _masks(path, files, request)
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
        found = sorted(file for file in path.iterdir() if file.is_file() and volume_suffix(file))
        files = [file for file in found if not _is_result(file, found)]
        if left := len(found) - len(files):
            say(f"{path}: {left} files left out, masks and probabilities of other volumes there")
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


def _stem(file: Path) -> str:
    from minivess.data.volume import volume_suffix

    return file.name[: -len(volume_suffix(file) or "")]


def _is_result(file: Path, files: list[Path]) -> bool:
    """Whether a file is called as the mask or the probability of another one."""
    names = {file.name.removesuffix(ending) for ending in (MASK, PROBABILITY)} - {file.name}
    return any(_stem(other) in names for other in files)


def _masks(path: Path, files: list[Path], request: Request) -> list[Path]:
    """Where each mask goes."""
    from minivess.data.volume import volume_suffix

    out = request.out
    if path.is_dir() or out is None or out.is_dir():
        masks = [(out or Path()) / (_stem(file) + MASK) for file in files]
        _check_replaced(masks, request.probability)
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


def _check_replaced(masks: list[Path], probability: bool) -> None:
    """Raise where a file that is there is none of an earlier call: a label, for example."""
    written = [*masks, *(map(_probability_file, masks) if probability else [])]
    others = [path for path in written if path.exists() and not _is_own(path)]
    if others:
        raise MinivessError(
            "MV-CONFIG-004",
            what="a file without this command's note would be written over",
            where=str(others[0]),
            found=f"{len(others)} such files",
            expected="no file of that name, or a mask or probability of this version's command",
            fix="choose another folder with --out, or move the file away",
        )


def _is_own(path: Path) -> bool:
    from minivess.data.volume import read_note

    try:
        return read_note(path) == NOTE
    except MinivessError:  # not even a volume
        return False


def _probability_file(mask: Path) -> Path:
    name = mask.name.removesuffix(".gz").removesuffix(".nii").removesuffix("_vessels")
    return mask.with_name(name + PROBABILITY)


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
    try:
        found = segment(session, bundle, volume)
    except MinivessError as error:
        error.where = str(file)
        raise
    seconds = time.perf_counter() - started
    write_volume(found.mask, mask, volume.geometry, NOTE)
    if request.probability:
        write_volume(found.probability, _probability_file(mask), volume.geometry, NOTE)
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
