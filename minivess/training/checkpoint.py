"""State of a training between epochs: one safetensors file, renamed into place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output
from minivess.errors import MinivessError
from minivess.models.weights import load_weights, weights_of

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class TrainingState:
    """All that the next epoch depends on.

    Randomness and learning rate are functions of the epoch, the best epochs and the patience left
    are functions of the history, so none has a state of its own. An epoch ends with a step.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    # Of each selection metric, the weights of its best epoch; none without selection cases.
    best: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    averages: dict[str, torch.Tensor] = field(default_factory=dict)
    moving: dict[str, torch.Tensor] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state of network and optimizer after an epoch.

    Raises:
        MinivessError: MV-SYSTEM-001 not writable, MV-SYSTEM-002 disk full; the file of the epoch
            before is still there.
    """
    from safetensors.torch import save

    tensors = {f"network.{name}": tensor for name, tensor in weights_of(network).items()}
    for metric, weights in state.best.items():
        tensors |= {f"best.{metric}.{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"moving.{name}": tensor for name, tensor in state.moving.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.averages.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in slots.items()}
    facts = {"epoch": state.epoch, "history": state.history}
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # To bytes first: safetensors' own writer reports a full disk as a generic error.
    content = save(copies, metadata={"state": json.dumps(facts)})
    with output.replacing(folder / CHECKPOINT) as temporary:
        temporary.write_bytes(content)


def remove_half_written(folder: Path) -> None:
    """Remove what a process that was killed while it wrote a checkpoint has left."""
    for path in folder.glob(f".*.{CHECKPOINT}"):
        path.unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState | None:
    """Restore network and optimizer; None where there is no checkpoint yet.

    Raises:
        MinivessError: MV-STATE-003 the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["state"])
            # Copies: what maps the file would hold its space on the disk after it is replaced.
            names = list(file.keys())
            tensors = {name: file.get_tensor(name).clone() for name in names}
        state = TrainingState(
            epoch=facts["epoch"],
            history=facts["history"],
            best=_grouped(_under(tensors, "best.")),
            averages=_under(tensors, "average."),
            moving=_under(tensors, "moving."),
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise MinivessError(
            "MV-STATE-003",
            what="the checkpoint cannot be read",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            fix="delete that file: the run starts again from its first epoch",
        ) from error
    load_weights(network, _under(tensors, "network."), str(path))
    slots: dict[int, Any] = {
        int(index): found for index, found in _grouped(_under(tensors, "optimizer.")).items()
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    return state


def _grouped(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """By the first part of their names."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        group, rest = name.split(".", 1)
        groups.setdefault(group, {})[rest] = tensor
    return groups


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
