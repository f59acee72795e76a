"""Batches of patches, prepared by processes of their own or by the training itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivess.data.augment import training_patch
from minivess.errors import MinivessError
from minivess.inference.device import choose_device

if TYPE_CHECKING:
    import torch

    from minivess.training.trainer import TrainingTask

    type Place = tuple[int, int]
    type Pair = tuple[torch.Tensor, torch.Tensor]


class _Patches:
    """Patches as a map-style data set: epoch and index alone decide the patch."""

    def __init__(self, task: TrainingTask) -> None:
        self.task = task

    def __getitem__(self, place: Place) -> Pair:
        task, (epoch, index) = self.task, place
        key = (task.seed, task.fold, epoch)
        return training_patch(task.train, task.patches, task.augment, key, index)

    def __getitems__(self, places: Sequence[Place]) -> list[Pair] | MinivessError:
        """The patches of a batch, or our own error as a value.

        Raised in another process, it would arrive as torch's RuntimeError around a traceback.
        """
        try:
            return [self[place] for place in places]
        except MinivessError as error:
            return error


def _collated(patches: list[Pair] | MinivessError) -> Any:
    from torch.utils.data import default_collate

    return patches if isinstance(patches, MinivessError) else default_collate(patches)


def _raised(batch: Any) -> Pair:
    """The batch, where it is one."""
    if isinstance(batch, MinivessError):
        raise batch
    images, labels = batch
    return images, labels


@dataclass(frozen=True)
class _Order:
    """Places of the patches of each batch, this process's share of them, epoch after epoch."""

    task: TrainingTask
    epochs: Sequence[int]

    def __iter__(self) -> Iterator[list[Place]]:
        count, size = self.task.patches.patches_per_epoch, self.task.patches.batch_size
        for epoch in self.epochs:
            for first in range(0, count, size):
                share = self.task.team.share(range(first, min(first + size, count)))
                yield [(epoch, index) for index in share]


def batches(task: TrainingTask, epoch: int, last: int | None = None) -> Iterator[Pair]:
    """Batches of an epoch: images (B, 1, x, y, z) and labels, in a fixed order.

    With `last` those of the epochs up to it follow. Of a team each process gets its share of
    every batch. Where processes prepare the patches, they are the same from the first epoch to the
    last, and an error of ours in one of them is raised here as it is without them.
    """
    import torch

    patches: Any = _Patches(task)
    device, _ = choose_device(task.compute, task.team.device_number)
    loader = torch.utils.data.DataLoader(
        patches,
        batch_sampler=_Order(task, range(epoch, (last or epoch) + 1)),
        collate_fn=_collated,
        num_workers=task.compute.most_workers,
        # Forked workers share the memory maps and need no pickle of the task.
        multiprocessing_context="fork" if task.compute.workers else None,
        # The loader seeds its workers from here instead of from the global generator.
        generator=torch.Generator().manual_seed(0),
        # From pinned memory a GPU fetches a batch while it computes another.
        pin_memory=device.type == "cuda",
    )
    # A map starts the workers now, and lets go of them with the last reference to it.
    return map(_raised, iter(loader))
