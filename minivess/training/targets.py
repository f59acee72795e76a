"""What the loss of a batch is computed from beside the network's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.data.patches import locate_patch
from minivess.losses.needs import SKELETON, SPACING

if TYPE_CHECKING:
    import torch

    from minivess.training.trainer import TrainingTask


def targets(
    task: TrainingTask, labels: torch.Tensor, place: tuple[int, int]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The label of a batch (B, 1, x, y, z) of 0 and 1, and what else its loss needs, by name.

    Args:
        task: its `needs` say what.
        labels: of the patches; 2 on the tubed skeleton, where the cases were opened with theirs.
        place: epoch of the batch and its index in the epoch.
    """
    needed = {}
    if SKELETON in task.needs:
        needed[SKELETON] = (labels > 1).to(labels.dtype)
        labels = (labels > 0).to(labels.dtype)
    if SPACING in task.needs:
        needed[SPACING] = batch_spacings(task, place).to(labels.device)
    return labels, needed


def batch_spacings(task: TrainingTask, place: tuple[int, int]) -> torch.Tensor:
    """Spacing (x, y, z) in um of the cases that a whole batch is from, float32 (B, 3).

    Which case a patch is from is computed from its number, in every process of a team alike.
    """
    import torch

    epoch, batch = place
    size, last = task.patches.batch_size, task.patches.patches_per_epoch
    key = (task.seed, task.fold, epoch)
    numbers = range(batch * size, min((batch + 1) * size, last))
    cases = [locate_patch(task.train, task.patches, key, number).case for number in numbers]
    return torch.tensor([task.train[case].spacing_um for case in cases], dtype=torch.float32)
