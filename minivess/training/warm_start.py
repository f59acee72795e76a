"""Weights that a training begins with, and what of them fitted the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivess import output, provenance
from minivess.config.training import TrainingConfig
from minivess.errors import MinivessError
from minivess.models.weights import weights_of

if TYPE_CHECKING:
    import torch

RECORD = "run.json"  # beside the weights of a run of ours


@dataclass(frozen=True)
class WarmStart:
    """A file of weights compared with a network, by name and shape."""

    file: str
    sha256: str
    matched: tuple[str, ...]
    other_shape: tuple[str, ...]  # left as initialised
    not_in_file: tuple[str, ...]  # left as initialised
    unused: tuple[str, ...]  # in the file alone
    seen: tuple[str, ...]  # cases that it was trained or selected on, see `seen_cases`

    def text(self) -> str:
        """One line for the log."""
        total = len(self.matched) + len(self.other_shape) + len(self.not_in_file)
        return (
            f"{len(self.matched)} of {total} tensors; {len(self.other_shape)} have another shape, "
            f"{len(self.not_in_file)} are not in the file, {len(self.unused)} of it are unused"
        )


def warm_start_file(training: TrainingConfig, fold: int) -> Path | None:
    """The file that a fold begins with.

    >>> warm_start_file(TrainingConfig(warm_start="a/fold{fold}.safetensors"), 2).as_posix()
    'a/fold2.safetensors'
    """
    name = training.warm_start
    return None if name is None else Path(name.replace("{fold}", str(fold)))


def _read(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MinivessError(
            "MV-DATA-001",
            what="the weights to begin with are not there",
            where=f"config training.warm_start, {path}",
            fix="correct the path, or leave training.warm_start out",
        )
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise MinivessError(
            "MV-STATE-003",
            what="the weights to begin with cannot be read",
            where=str(path),
            found=str(error).splitlines()[0],
            expected="a safetensors file",
            fix="convert the weights to safetensors; pickles are not read",
        ) from error


def compare(path: Path, network: torch.nn.Module) -> WarmStart:
    """What of a file fits a network.

    Raises:
        MinivessError: MV-DATA-001 no such file, MV-STATE-003 not safetensors, MV-CONFIG-004 nothing
            of it fits.
    """
    given, own = _read(path), weights_of(network)
    shared = [name for name in own if name in given]
    matched = tuple(name for name in shared if given[name].shape == own[name].shape)
    if not matched:
        raise MinivessError(
            "MV-CONFIG-004",
            what="nothing in the file of weights fits the network",
            where=f"config training.warm_start, {path}",
            found=f"tensors such as {min(given, default='none')}",
            expected=f"tensors such as {min(own)}",
            fix="name a file of the same architecture, or leave training.warm_start out",
        )
    return WarmStart(
        path.as_posix(),
        provenance.file_sha256(path),
        matched,
        tuple(name for name in shared if given[name].shape != own[name].shape),
        tuple(name for name in own if name not in given),
        tuple(sorted(set(given) - set(own))),
        tuple(sorted(seen_cases(path))),
    )


def begin_with(path: Path, network: torch.nn.Module) -> None:
    """Copy what fits from a file into a network; see `compare`."""
    import torch

    given, own = _read(path), dict(network.named_parameters()) | dict(network.named_buffers())
    with torch.no_grad():
        for name in compare(path, network).matched:
            own[name].copy_(given[name])


def seen_cases(path: Path) -> set[str]:
    """Cases that weights of ours were trained or selected on, or those that they began with.

    A file without the record of a run beside it counts as one from elsewhere: none.
    """
    seen: set[str] = set()
    followed: set[Path] = set()
    while (record := path.parent / RECORD).is_file() and record not in followed:
        followed.add(record)
        values = output.read_json(record)
        if "cases" not in values:  # another tool's
            break
        seen |= {*values["cases"]["train"], *values["cases"]["selection"]}
        begin = values.get("warm_start")
        if begin is None:
            break
        if "seen" in begin:  # whatever has become of that run since
            return seen | set(begin["seen"])
        path = Path(begin["file"])
    return seen


def check_unseen(path: Path, held_out: Iterable[str], fold: int) -> None:
    """Raise where weights of ours, or those that they began with, have seen held-out cases.

    Args:
        path: the weights.
        held_out: cases that the fold is evaluated on, and the locked ones.
        fold: its number.

    Raises:
        MinivessError: MV-CONFIG-004.
    """
    seen = sorted(set(held_out) & seen_cases(path))
    if seen:
        raise MinivessError(
            "MV-CONFIG-004",
            what="the weights to begin with have seen held-out cases, of this fold or locked",
            where=f"config training.warm_start, {path}, fold {fold}",
            found=", ".join(seen[:5]) + (", ..." if len(seen) > 5 else ""),
            expected="a run trained and selected on other cases, as was what it began with",
            fix="write {fold} into the path, so that each fold begins with its own, and train it "
            "with the same folds.test_cases; where other cases only have the same names, copy the "
            "file away from its run.json",
        )
