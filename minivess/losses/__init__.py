"""Losses, by name. Each takes logits (B, 2, x, y, z) and a label (B, 1, x, y, z) of 0 and 1.

A new loss is one file and one line in `LOSSES`. A name that is a paper's computes what the paper
defines; everything is computed in float32, also under autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minivess.config.schema import LossConfig
from minivess.errors import MinivessError, nearest
from minivess.losses.cbdice import cbdice, cbdice_cldice
from minivess.losses.overlap import dice_ce, dice_ce_cldice

if TYPE_CHECKING:
    import torch

    type Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LOSSES: dict[str, Callable[[LossConfig], Loss]] = {
    "cbdice_cldice": cbdice_cldice,
    "dice_ce": dice_ce,
    "dice_ce_cldice": dice_ce_cldice,
    "cbdice": cbdice,
}


def build_loss(name: str, config: LossConfig) -> Loss:
    """The loss with a name.

    Raises:
        MinivessError: MV-CONFIG-003 unknown name.

    >>> import torch
    >>> label = torch.zeros(1, 1, 8, 8, 8)
    >>> label[..., 2:5, 2:5, :] = 1
    >>> logits = torch.cat([-20 * (2 * label - 1), 20 * (2 * label - 1)], dim=1)
    >>> round(build_loss("dice_ce", LossConfig())(logits, label).item(), 4)
    0.0
    """
    if name not in LOSSES:
        raise MinivessError(
            "MV-CONFIG-003", what=f"there is no loss {name}", fix=nearest(name, LOSSES)
        )
    return LOSSES[name](config)
