"""Finding the cases of folders and ZIPs of known layouts: MiniVess and nnU-Net."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from minivess import paths
from minivess.data.sources import CASE_NAME, CASE_NAME_RULE, SourceCase, unusable
from minivess.errors import MinivessError, closest

if TYPE_CHECKING:
    from minivess.config.schema import DataConfig
    from minivess.data.sources import Listing

# folder of images, folder of labels, endings that a label's name adds
_LAYOUTS = (("raw", "seg", ("_y", "")), ("imagesTr", "labelsTr", ("", "_y")), ("", "", ("_y",)))
_SHOWN = 20
_ENDINGS = (".nii.gz", ".nii")
_LAYOUT_TEXT = (
    "raw/mv01.nii.gz with seg/mv01_y.nii.gz, or imagesTr/ with labelsTr/ and equal names, or "
    "mv01.nii.gz beside mv01_y.nii.gz; at the root or one level down"
)


def zip_names(path: Path) -> list[str]:
    """Names of the files in a ZIP, without those that operating systems add.

    Raises:
        MinivessError: MV-DATA-002 not a ZIP, or a member that points outside of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    for name in names:
        check_member(path, name)
    return [name for name in names if not _is_system_file(name)]


def check_member(path: Path, name: str) -> None:
    """Raise MV-DATA-002 where a ZIP's member would land outside of the folder it is unpacked to."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise _damaged(path, f"the member {name!r} points outside of the ZIP")


def _damaged(path: Path, found: str) -> MinivessError:
    return MinivessError(
        "MV-DATA-002",
        what="the ZIP cannot be used",
        where=str(path),
        found=found,
        expected="a complete ZIP as the data set's publisher offers it",
        fix="download it again, or unpack it yourself and set data.path to the folder",
    )


def _is_system_file(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _folder_names(folder: Path) -> list[str]:
    """Files down to three levels (root, one level down, folder of images), as relative names."""
    found = (path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth))
    names = (path.relative_to(folder).as_posix() for path in found if path.is_file())
    return sorted(name for name in names if not _is_system_file(name))


def _stems(names: Iterable[str], parent: PurePosixPath) -> dict[str, str]:
    """Volume name without ending -> relative name, of the NIfTI files directly in a folder."""
    stems: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        ending = next((e for e in _ENDINGS if path.name.lower().endswith(e)), None)
        if path.parent == parent and ending:
            stems[path.name[: -len(ending)]] = name
    return stems


@dataclass(frozen=True)
class Pairing:
    """Pairs of one folder, case -> (image, label), and the names of files without partner."""

    pairs: dict[str, tuple[str, str]]
    alone: list[str]


def pair_names(names: list[str]) -> list[Pairing]:
    """The pairs among relative names, by the first layout that has any; one entry per folder.

    >>> pair_names(["d/raw/mv01.nii.gz", "d/seg/mv01_y.nii.gz", "d/raw/mv02.nii.gz"])
    [Pairing(pairs={'mv01': ('d/raw/mv01.nii.gz', 'd/seg/mv01_y.nii.gz')}, alone=['mv02'])]
    """
    tops = {PurePosixPath(name).parts[0] for name in names if "/" in name}
    folders = [PurePosixPath(), *(PurePosixPath(name) for name in sorted(tops))]
    for images, labels, suffixes in _LAYOUTS:
        found = [
            _pairing(_stems(names, top / images), _stems(names, top / labels), suffixes)
            for top in folders
        ]
        found = [pairing for pairing in found if pairing.pairs]
        if found:
            return found
    return []


def _pairing(images: dict[str, str], labels: dict[str, str], suffixes: Iterable[str]) -> Pairing:
    pairs: dict[str, tuple[str, str]] = {}
    used: set[str] = set()
    for stem in sorted(images):
        match = next((stem + s for s in suffixes if stem + s in labels), None)
        if match is not None:
            pairs[stem] = (images[stem], labels[match])
            used |= {stem, match}
    return Pairing(pairs, sorted({*images, *labels} - used))


def minivess_cases(path: Path, root: Path, data: DataConfig) -> Listing:
    """Cases of the official MiniVess data set, a folder or a ZIP; partial sets too.

    Its headers hold micrometres and name no unit. Where data.spacing_unit is header, one that names
    a unit in which the voxels are plausible counts as it is.

    Source: Poon et al. 2023, doi 10.1038/s41597-023-02048-8.

    Raises:
        MinivessError: MV-DATA-002 not a ZIP, MV-DATA-013 no pair, pairs in several folders, or
            files without partner that data.exclude does not name.
    """
    folder = path if path.is_dir() else paths.unpacked_folder(root)
    found = pair_names(_folder_names(path) if path.is_dir() else zip_names(path))
    if len(found) > 1:
        firsts = [next(iter(pairing.pairs.values()))[0] for pairing in found]
        raise unusable(
            "more than one folder holds volumes with labels",
            path,
            ", ".join(firsts),
            _LAYOUT_TEXT,
            "set data.path to one of the folders",
        )
    pairs = found[0].pairs if found else {}
    alone = found[0].alone if found else []
    _check_pairs(path, list(pairs), alone, data, _LAYOUT_TEXT)
    cases = [
        SourceCase(case, folder / image, folder / label, case, layout_unit="um")
        for case, (image, label) in pairs.items()
    ]
    return cases, alone


def _check_pairs(
    path: Path, cases: list[str], alone: list[str], data: DataConfig, layout: str
) -> None:
    if not cases:
        raise unusable(
            "no volume with its label was found",
            path,
            "no pair" + (f"; alone: {', '.join(alone[:5])}" if alone else ""),
            layout,
            "set data.path to the folder that holds them, or list the files in a cases.csv "
            "(data.source: csv)",
        )
    bad = [name for name in cases if not CASE_NAME.fullmatch(name)]
    if bad:
        raise unusable(
            "case names cannot be used", path, ", ".join(bad), CASE_NAME_RULE, "rename the files"
        )
    left = [name for name in alone if name not in data.exclude]
    if left:
        shown = ", ".join(left[:_SHOWN]) + (
            f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        )
        raise unusable(
            f"{len(left)} files have no partner",
            path,
            shown,
            "an image and a label of every case",
            f"add the missing files, or leave these out with data.exclude: [{', '.join(left)}]",
        )


def _file_ending(path: Path) -> str:
    """The ending that dataset.json declares for a data set of one channel."""
    file = path / "dataset.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MinivessError(
            "MV-DATA-001",
            what="dataset.json of the nnU-Net folder is missing",
            where=str(file),
            found="no file of that name",
            expected="imagesTr/, labelsTr/ and dataset.json in one folder",
            fix="set data.path to the folder DatasetNNN_Name that holds dataset.json",
        ) from error
    except (OSError, ValueError) as error:
        raise unusable(
            "dataset.json cannot be read", file, str(error), "valid JSON", "correct the file"
        ) from error
    channels = content.get("channel_names", content.get("modality", {}))
    ending = content.get("file_ending")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise unusable(
            "dataset.json does not say how the files end",
            file,
            f"file_ending: {ending!r}",
            'for example "file_ending": ".nii.gz"',
            'add "file_ending" to dataset.json',
        )
    if len(channels) != 1:
        raise unusable(
            "the data set does not have exactly one channel",
            file,
            f"channel_names: {json.dumps(channels, sort_keys=True)}",
            'one channel, for example "channel_names": {"0": "two-photon"}',
            "keep the channel that shows the vessels (_0000) and name only it in dataset.json",
        )
    return ending


def nnunet_cases(path: Path, root: Path, data: DataConfig) -> Listing:
    """Cases of an nnU-Net raw data set: imagesTr/<case>_0000.<ending>, labelsTr/<case>.<ending>.

    Source: nnU-Net's dataset format, version 2 (dataset.json with file_ending).

    Raises:
        MinivessError: MV-DATA-001 no dataset.json, MV-DATA-013 more than one channel, no pair, or
            files without partner that data.exclude does not name.
    """
    ending = _file_ending(path)
    images, labels = (
        {
            file.name[: -len(ending)]: file
            for file in (path / folder).glob(f"*{ending}")
            if not _is_system_file(file.name)
        }
        for folder in ("imagesTr", "labelsTr")
    )
    single = {name[:-5]: file for name, file in images.items() if name.endswith("_0000")}
    others = sorted(set(images) - {f"{name}_0000" for name in single})
    if others:
        raise unusable(
            "imagesTr has files of other channels or without a channel number",
            path / "imagesTr",
            ", ".join(others[:_SHOWN]) + f" ({len(others)} files)",
            "one file <case>_0000 of each case",
            "keep one channel per case and name its file like "
            f"{closest(others[0], single or others)}_0000",
        )
    pairs = sorted(single.keys() & labels.keys())
    alone = sorted(single.keys() ^ labels.keys())
    layout = f"imagesTr/<case>_0000{ending} and labelsTr/<case>{ending}"
    _check_pairs(path, pairs, alone, data, layout)
    return [SourceCase(case, single[case], labels[case], case) for case in pairs], alone
