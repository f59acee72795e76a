"""Weights that others have trained, from a local file: never downloaded, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import provenance
from minivess.errors import MinivessError
from minivess.models.weights import load_weights, weights_of

if TYPE_CHECKING:
    import torch

# What trainers put around the weights, and before their names.
CONTAINERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.")
# Files of a folder as transformers and PEFT name them.
CONFIG, WHOLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """Where weights come from, and what goes with them."""

    name: str
    file: str
    address: str


def load_pretrained(
    network: torch.nn.Module, path: str | None, source: Source, where: str = "models.NAME"
) -> None:
    """Copy the weights of a file into a network; every one of them must fit.

    Args:
        network: changed in place.
        path: .safetensors, or .pt and .pth as PyTorch writes them.
        source: what the file should be.
        where: section of the config, for errors.

    Raises:
        MinivessError: MV-MODEL-001 no file, MV-MODEL-002 not readable, or of another network.
    """
    file = checked_file(path, source, where)
    state = plain_names(read_state(file), network)
    own = weights_of(network)
    # A state_dict has tensors that a network uses twice under each of their names.
    known = {*own, *network.state_dict()}
    surplus = sorted(set(state) - known)
    missing = sorted(set(own) - set(state))
    if surplus or missing:
        found = [f"{len(missing)} tensors missing, first {missing[0]}"] if missing else []
        found += [f"{len(surplus)} unknown, first {surplus[0]}"] if surplus else []
        raise of_another_network(file, source, "; ".join(found))
    try:
        load_weights(network, {name: state[name].to(own[name].dtype) for name in own}, str(file))
    except MinivessError as error:
        raise of_another_network(file, source, error.found) from error


def checked_file(path: str | None, source: Source, where: str) -> Path:
    """The file of weights, where it is there.

    Raises:
        MinivessError: MV-MODEL-001.
    """
    if path is not None and Path(path).is_file():
        return Path(path)
    raise MinivessError(
        "MV-MODEL-001",
        what=f"{source.name} has no weights to start from",
        where=f"config {where}.weights",
        found="no file is named" if path is None else f"there is no file {path}",
        expected=f"{source.file} (or the same as .safetensors)",
        fix=f"download it from {source.address} and set {where}.weights to where it is",
    )


def checked_folder(path: str | None, source: Source, where: str) -> Path:
    """The folder of weights, where it is there and has them as safetensors.

    Raises:
        MinivessError: MV-MODEL-001.
    """
    found = "no folder is named" if path is None else _lacking(Path(path))
    if path is not None and not found:
        return Path(path)
    raise MinivessError(
        "MV-MODEL-001",
        what=f"{source.name} has no weights to start from",
        where=f"config {where}.weights",
        found=found,
        expected=source.file,
        fix=f"download it from {source.address} and set {where}.weights to where it is",
    )


def _lacking(folder: Path) -> str:
    """What a folder of weights has not, or has too much; empty where all is well."""
    if not (folder / CONFIG).is_file():
        return f"no {CONFIG} in {folder}" if folder.is_dir() else f"there is no folder {folder}"
    if (folder / ADAPTER).exists():
        return f"{ADAPTER} in {folder}: an adapter, which would change the published weights"
    if not (folder / WHOLE).is_file() and not (folder / INDEX).is_file():
        return f"neither {WHOLE} nor {INDEX} in {folder}; pickles are not read"
    missing = [file.name for file in weight_files(str(folder)) if not file.is_file()]
    return f"{missing[0]}, which {INDEX} names, is not in {folder}" if missing else ""


def _parts(folder: Path) -> list[str]:
    """The files that an index names; no path leads out of the folder."""
    try:
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({Path(name).name for name in named})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise MinivessError(
            "MV-MODEL-002",
            what="the list of the files of weights cannot be read",
            where=str(folder / INDEX),
            found=f"{type(error).__name__}: {error}",
            expected="JSON with a mapping weight_map",
            fix="download it again",
        ) from error


def weight_files(path: str) -> list[Path]:
    """The files that weights are read from: the one, or those of a folder.

    Raises:
        MinivessError: MV-MODEL-002 a folder's list of files cannot be read.

    >>> weight_files("weights/vesselFM_base.pt")[0].as_posix()
    'weights/vesselFM_base.pt'
    """
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    if (folder / WHOLE).is_file() or not (folder / INDEX).is_file():
        return [folder / CONFIG, folder / WHOLE]
    return [folder / CONFIG, folder / INDEX, *(folder / name for name in _parts(folder))]


def weights_sha256(path: str | None) -> str | None:
    """Digest of published weights; None where there are none."""
    if path is None or not Path(path).exists():
        return None
    files = weight_files(path)
    if files == [Path(path)]:
        return provenance.file_sha256(files[0])
    return provenance.json_sha256({file.name: provenance.file_sha256(file) for file in files})


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """Tensors by name; of a .pt file what PyTorch reads without running any code.

    Raises:
        MinivessError: MV-MODEL-002 not readable, or not weights.
    """
    import pickle  # its errors only

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise MinivessError(
            "MV-MODEL-002",
            what="the weights cannot be read",
            where=str(file),
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a .safetensors file, or a .pt file that holds tensors and nothing else",
            fix="download it again; a file with anything but tensors is not opened",
        ) from error
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    tensors = isinstance(content, Mapping) and all(
        isinstance(value, torch.Tensor) for value in content.values()
    )
    if not tensors or not content:
        raise MinivessError(
            "MV-MODEL-002",
            what="the file holds no weights",
            where=str(file),
            found=type(content).__name__,
            expected="tensors by name",
            fix="download it again",
        )
    return dict(content)


def plain_names(
    state: Mapping[str, torch.Tensor], network: torch.nn.Module
) -> dict[str, torch.Tensor]:
    """Weights without a prefix that all names have and none of the network's has."""
    own = set(network.state_dict())
    for prefix in PREFIXES:
        shared = all(name.startswith(prefix) for name in state)
        if shared and not any(name.startswith(prefix) for name in own):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def of_another_network(file: Path, source: Source, found: str) -> MinivessError:
    """The error for weights that do not fit."""
    return MinivessError(
        "MV-MODEL-002",
        what=f"these are not the weights of {source.name}",
        where=str(file),
        found=found,
        expected=f"{source.file} from {source.address}",
        fix="get that file, and check keys that change the size of the network",
    )
