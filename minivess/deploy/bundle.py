"""An exported champion: a folder with the network and all that is needed to use it as the DAG does.

`model.onnx` is the network, `bundle.json` says how it is used and has the SHA-256 of every other
file, `parity.json` says how far it is from what was trained, `README.md` is the model card. Nothing
here is pickled, and nothing is executed on reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from minivess import output, paths, provenance
from minivess.config.schema import PreprocessConfig
from minivess.config.section import Count, Name, Positive, Probability, Section
from minivess.errors import MinivessError

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = tuple[Count, Count, Count]


class BundleMetric(Section):
    """A metric over the held-out cases of the champion's arm; all its numbers are the table's."""

    metric: str
    label: str
    unit: str
    mean: float
    ci_low: float | None
    ci_high: float | None
    confidence: float
    n_cases: int
    n_not_ok: int


class Bundle(Section):
    """An exported champion.

    Attributes:
        folder: where it lies.
        experiment: name of the experiment.
        kind: rule that it won by: overlap, topology, balanced.
        also: other rules that the same network won by.
        run: model/loss/seed/fold of the network.
        weights_sha256: digest of the trained weights.
        architecture: name in the registry of networks.
        spacing_um: typical spacing (x, y, z) in um of the volumes that it was trained on.
        preprocess: normalisation of the intensities.
        window: voxels (x, y, z) of the windows; the graph takes no other where `any_window` is
            false.
        divisor: what each axis of a window must be a multiple of.
        any_window: whether the graph takes every such window.
        overlap: part of a window shared with its neighbour.
        window_batch: windows per forward pass.
        threshold: a voxel is vessel above this probability, which is all the post-processing.
        metrics: what the arm reached on its held-out cases.
        licence: SPDX identifier.
        versions: of what made it.
        variants: networks of lower precision, file name by name.
        files: SHA-256 by file name.
    """

    folder: Path = Field(exclude=True)
    format: Literal[1] = 1
    experiment: str
    kind: Name
    also: tuple[Name, ...]
    run: str
    weights_sha256: Sha256
    architecture: str
    spacing_um: tuple[Positive, Positive, Positive]
    preprocess: PreprocessConfig
    window: Size
    divisor: Size
    any_window: bool
    overlap: Annotated[float, Field(ge=0, lt=1)]
    window_batch: Count
    threshold: Probability
    metrics: tuple[BundleMetric, ...]
    licence: str
    versions: dict[str, str]
    variants: dict[str, str] = Field({})
    files: dict[str, Sha256]

    @property
    def model(self) -> Path:
        """The network."""
        return paths.bundle_model(self.folder)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says, and so of all its files."""
        return provenance.json_sha256(self.model_dump(mode="json"))


def read_bundle(folder: Path) -> Bundle:
    """An exported champion, all of whose files are what they were when it was exported.

    Raises:
        MinivessError: MV-STATE-002 there is none, MV-STATE-003 bundle.json cannot be read,
            MV-STATE-005 a file was changed.
    """
    path = paths.bundle_record(folder)
    if not path.is_file():
        raise MinivessError(
            "MV-STATE-002",
            what="there is no exported champion",
            where=str(path),
            fix="export it: minivess experiment NAME deploy",
        )
    try:
        record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        bundle = Bundle(**{**record, "folder": folder})
    except (ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    for name in sorted({paths.bundle_model(folder).name, *bundle.files}):
        _check_file(folder, name, bundle.files.get(name, "none"))
    return bundle


def why_not_exported(root: Path, kind: str) -> str | None:
    """Why the bundle of a champion is not to be used: none, or not of the champion; else None.

    Args:
        root: results folder of the experiment; of a copy it may have the bundles alone.
        kind: of the champion.

    Raises:
        MinivessError: MV-STATE-003 a file is damaged.
    """
    path = paths.bundle_record(paths.bundle(root, kind))
    if not path.is_file():
        return "is not there yet"
    if not paths.champions(root).is_file():
        return None
    chosen = output.read_json(paths.champions(root), "champions")["champions"].get(kind, {})
    exported = output.read_json(path, "weights_sha256")["weights_sha256"]
    if chosen.get("weights_sha256") != exported:
        return "is not of the network that is the champion now"
    return None


def write_bundle(bundle: Bundle) -> None:
    """Write bundle.json, after all other files.

    Raises:
        MinivessError: MV-SYSTEM-... from writing.
    """
    output.write_json(bundle.model_dump(mode="json"), paths.bundle_record(bundle.folder))


def file_digests(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by name."""
    return {file.name: provenance.file_sha256(file) for file in files}


def _check_file(folder: Path, name: str, expected: str) -> None:
    file = folder / name
    inside = Path(name).name == name
    found = provenance.file_sha256(file) if inside and file.is_file() else "no file"
    if found != expected:
        raise MinivessError(
            "MV-STATE-005",
            what="the exported champion was changed after it was made",
            where=str(file),
            found=found if inside else "a name that leads out of its folder",
            expected=f"SHA-256 {expected}",
            fix="remove the folder and export again: minivess experiment NAME deploy",
        )


def _unreadable(path: Path, error: Exception) -> MinivessError:
    found = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return MinivessError(
        "MV-STATE-003",
        what="the exported champion cannot be read",
        where=str(path),
        found=found,
        expected="what this version writes (format 1)",
        fix="export it again: minivess experiment NAME deploy",
    )
