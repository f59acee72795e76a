"""Losses, by name. Each takes logits (B, 2, x, y, z) and a label (B, 1, x, y, z) of 0 and 1.

What one takes besides is in `NEEDS`, by the name of its parameter. A new loss is one file and one
line in `LOSSES`; a file beside the experiment is one too, see `minivess.losses.own`. A name
that is a paper's computes what the paper defines; everything is computed in float32, also under
autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minivess.config.training import LossConfig
from minivess.errors import MinivessError, nearest
from minivess.losses.boundary import boundary, generalized_dice_boundary, hausdorff_dt
from minivess.losses.calibration import dice_ce_hl1ace
from minivess.losses.cbdice import cbdice, cbdice_cldice
from minivess.losses.centerline import centerline_ce, dice_centerline_ce
from minivess.losses.cldice import cldice
from minivess.losses.needs import SKELETON, SPACING
from minivess.losses.overlap import dice_ce, dice_ce_cldice
from minivess.losses.own import build_own, declared_needs, is_own
from minivess.losses.regions import dice, focal, generalized_dice, tversky
from minivess.losses.skeleton_recall import dice_ce_skeleton_recall, skeleton_recall

if TYPE_CHECKING:
    import torch

    type Loss = Callable[..., torch.Tensor]

LOSSES: dict[str, Callable[[LossConfig], Loss]] = {
    "cbdice_cldice": cbdice_cldice,
    "dice_ce": dice_ce,
    "dice_ce_cldice": dice_ce_cldice,
    "cbdice": cbdice,
    "cldice": cldice,
    "centerline_ce": centerline_ce,
    "dice_centerline_ce": dice_centerline_ce,
    "dice": dice,
    "generalized_dice": generalized_dice,
    "tversky": tversky,
    "focal": focal,
    "boundary": boundary,
    "generalized_dice_boundary": generalized_dice_boundary,
    "hausdorff_dt": hausdorff_dt,
    "dice_ce_hl1ace": dice_ce_hl1ace,
    "skeleton_recall": skeleton_recall,
    "dice_ce_skeleton_recall": dice_ce_skeleton_recall,
}

NEEDS: dict[str, frozenset[str]] = {
    "boundary": frozenset({SPACING}),
    "generalized_dice_boundary": frozenset({SPACING}),
    "skeleton_recall": frozenset({SKELETON}),
    "dice_ce_skeleton_recall": frozenset({SKELETON}),
}


def needs_of(name: str) -> frozenset[str]:
    """What a loss takes beside logits and label; nothing of it is run.

    Raises:
        MinivessError: MV-CONFIG-003 the file of one of your own does not say it, or is not there.

    >>> sorted(needs_of("dice_ce_skeleton_recall")), sorted(needs_of("dice_ce"))
    (['skeleton'], [])
    """
    return declared_needs(name) if is_own(name) else NEEDS.get(name, frozenset())


def build_loss(name: str, config: LossConfig) -> Loss:
    """The loss with a name.

    Raises:
        MinivessError: MV-CONFIG-003 unknown name, MV-TRAIN-003 one of your own that is no loss.

    >>> import torch
    >>> label = torch.zeros(1, 1, 8, 8, 8)
    >>> label[..., 2:5, 2:5, :] = 1
    >>> logits = torch.cat([-20 * (2 * label - 1), 20 * (2 * label - 1)], dim=1)
    >>> round(build_loss("dice_ce", LossConfig())(logits, label).item(), 4)
    0.0
    """
    if is_own(name):
        return build_own(name, config)
    if name not in LOSSES:
        raise MinivessError(
            "MV-CONFIG-003", what=f"there is no loss {name}", fix=nearest(name, LOSSES)
        )
    return LOSSES[name](config)
