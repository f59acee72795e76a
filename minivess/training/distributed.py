"""One fold on several devices: a process for each, which together take the steps of one process.

Every process computes its share of each batch. What its network says is gathered with what the
others say, so that each has the loss of the whole batch, also of a loss that is no mean over
samples. The gradient flows back through the process's own share; the sum over the processes is the
gradient of the whole batch. The optimiser then takes the same step everywhere.

torch's DistributedDataParallel does not do this: it averages gradients, each of a loss of its own,
and groups them anew after its first step, so that a resumed training would sum in another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from minivess.config.schema import ComputeConfig, PatchKeys
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import torch

# A process that ends is noticed at once. This is for one that hangs, and longer than one process
# may be busy alone: with the largest selection case, or with a locked tracking database.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class Team:
    """The processes that train one fold together, and which of them this one is."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # the rank on this machine, which chooses the GPU

    @property
    def leads(self) -> bool:
        """Whether it is this process that writes and speaks."""
        return self.rank == 0

    @property
    def device_number(self) -> int | None:
        """Number of the GPU for `choose_device`; None where one process computes alone."""
        return self.local_rank if self.size > 1 else None

    def share(self, indices: range) -> range:
        """This process's part of the indices of a batch.

        >>> Team(rank=1, size=2).share(range(8, 12))
        range(10, 12)
        """
        length = len(indices) // self.size
        return indices[self.rank * length : (self.rank + 1) * length]


ALONE = Team()


def team_of(environment: Mapping[str, str]) -> Team:
    """The team that torchrun (or a cluster) has put this process into.

    >>> team_of({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    Team(rank=1, size=2, local_rank=1)
    >>> team_of({}) == ALONE
    True
    """
    size = int(environment.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    rank = int(environment["RANK"])
    return Team(rank, size, int(environment.get("LOCAL_RANK", str(rank))))


def check_team(compute: ComputeConfig, team: Team) -> None:
    """Raise where a training has other processes than its config says.

    Raises:
        MinivessError: MV-CONFIG-004.
    """
    if team.size == compute.devices:
        return
    raise MinivessError(
        "MV-CONFIG-004",
        what="the training has not as many processes as the config has devices",
        where="config compute.devices",
        found=f"{team.size} process(es), WORLD_SIZE in the environment",
        expected=f"compute.devices={compute.devices}",
        fix=f"set compute.devices={team.size}: the number decides rounding, so it is in the config",
    )


def check_shares(patches: PatchKeys, devices: int) -> None:
    """Raise where batches cannot be cut into equal shares.

    Raises:
        MinivessError: MV-CONFIG-004.
    """
    for key in ("batch_size", "patches_per_epoch"):
        value = getattr(patches, key)
        if value != "auto" and value % devices:
            raise MinivessError(
                "MV-CONFIG-004",
                what=f"patches.{key} cannot be shared equally by compute.devices",
                where=f"config patches.{key}, compute.devices",
                found=f"patches.{key}={value}, compute.devices={devices}",
                expected=f"a multiple of {devices}",
                fix=f"set patches.{key}={max(1, round(value / devices)) * devices}, "
                "or another number of devices",
            )


def check_network(network: torch.nn.Module, team: Team) -> None:
    """Raise where a network's normalisation depends on which samples are on one device.

    Raises:
        MinivessError: MV-CONFIG-004.
    """
    from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

    for name, module in network.named_modules():
        shared = isinstance(module, SyncBatchNorm)
        if team.size > 1 and isinstance(module, _BatchNorm) and not shared:
            raise MinivessError(
                "MV-CONFIG-004",
                what="a network with batch normalisation cannot share its batches",
                where=f"config models, compute.devices={team.size}",
                found=f"{type(module).__name__} in layer {name}",
                expected="normalisation of each sample by itself",
                fix="set compute.devices=1",
            )


@contextmanager
def joined(team: Team, device: torch.device) -> Iterator[None]:
    """Connected with the other processes, over NCCL between GPUs and gloo between CPUs."""
    if team.size == 1:
        yield
        return
    import torch
    from torch import distributed

    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    with _peers(team):
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            rank=team.rank,
            world_size=team.size,
            timeout=TIMEOUT,
            device_id=device if on_gpu else None,
        )
    yield
    # Not after an error, when it could wait for the others for ever; the process ends anyway.
    distributed.destroy_process_group()


@contextmanager
def _peers(team: Team) -> Iterator[None]:
    """What torch says when another process is gone, as an error of its own."""
    try:
        yield
    except RuntimeError as error:
        raise MinivessError(
            "MV-TRAIN-002",
            what="another process of this training has ended",
            where=f"process {team.rank} of {team.size}",
            found=str(error).strip().split("\n")[0],
            fix="see what that process said; the same command goes on from the last epoch",
        ) from error


def _all(tensor: torch.Tensor, team: Team) -> list[torch.Tensor]:
    """The tensors of all processes, by rank; copied and not computed with, so exact."""
    import torch
    from torch import distributed

    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(team.size)]
    with _peers(team):
        distributed.all_gather(parts, own)
    return parts


def gathered(tensor: torch.Tensor, team: Team) -> torch.Tensor:
    """The shares (B / size, ...) of all processes as the batch (B, ...).

    The gradient flows into the own share alone: it is the others who have the graphs of theirs.
    """
    import torch

    if team.size == 1:
        return tensor
    parts = _all(tensor, team)
    parts[team.rank] = tensor
    return torch.cat(parts)


def sum_gradients(parameters: Iterable[torch.nn.Parameter], team: Team) -> None:
    """Replace each gradient by its sum over the processes, the same bytes in all of them.

    They are gathered and then summed by rank, not by the backend, whose order depends on the number
    of bytes and on how the devices are connected.
    """
    import torch

    if team.size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = _all(torch.cat([gradient.reshape(-1) for gradient in gradients]), team)
    total = parts[0]
    for part in parts[1:]:
        total += part
    pieces = total.split([gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


def interleaved(
    values: Sequence[float], count: int, team: Team, device: torch.device
) -> list[float]:
    """Values of `count` items of which each process has every size-th, in the items' order.

    Args:
        values: of the items rank, rank + size, ...
        count: items of all processes.
        team: the processes.
        device: the one that this process computes on.
    """
    import torch

    if team.size == 1:
        return list(values)
    rounds = -(-count // team.size)
    padded = [*values, *[0.0] * (rounds - len(values))]
    parts = _all(torch.tensor(padded, dtype=torch.float64, device=device), team)
    return [float(parts[item % team.size][item // team.size]) for item in range(count)]
