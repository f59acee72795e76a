"""How far an exported network is from the one that was trained, on cases it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minivess.errors import MinivessError

if TYPE_CHECKING:
    from minivess.config.deploy import DeployConfig
    from minivess.types import Array, Float32Array

FULL = "float32"
# A voxel whose probability is so close to the threshold may fall on either side.
NEAR = 1e-5


@dataclass(frozen=True)
class CaseParity:
    """One case, predicted by both.

    Attributes:
        max_difference: largest absolute difference of the probabilities.
        dice: of the exported network's mask and the trained one's; 1 where both are empty.
        voxels: in the volume.
        differing_voxels: on different sides of the threshold.
        differing_far: those among them farther than 1e-5 from it.
    """

    max_difference: float
    dice: float
    voxels: int
    differing_voxels: int
    differing_far: int


def compare_case(
    trained: Float32Array, mask: Array, exported: Float32Array, threshold: float
) -> CaseParity:
    """Probabilities of the same volume, and the mask that the DAG wrote.

    >>> a = np.array([[[0.2, 0.9, 0.6]]], dtype=np.float32)
    >>> b = np.array([[[0.2, 0.9, 0.4]]], dtype=np.float32)
    >>> compare_case(a, a > 0.5, b, 0.5).differing_voxels
    1
    """
    before, after = np.asarray(mask, dtype=bool), exported > threshold
    total = int(before.sum()) + int(after.sum())
    differing = before != after
    far = differing & (np.abs(trained - np.float32(threshold)) > NEAR)
    return CaseParity(
        max_difference=float(np.abs(trained - exported).max()),
        dice=2 * int((before & after).sum()) / total if total else 1.0,
        voxels=int(before.size),
        differing_voxels=int(differing.sum()),
        differing_far=int(far.sum()),
    )


def summarised(cases: Mapping[str, CaseParity]) -> dict[str, Any]:
    """The cases and the worst of them."""
    return {
        "cases": {case: asdict(one) for case, one in cases.items()},
        "max_difference": max(one.max_difference for one in cases.values()),
        "min_dice": min(one.dice for one in cases.values()),
    }


def check_parity(report: Mapping[str, Any], config: DeployConfig, where: str) -> None:
    """Raise where the exported network is not what was trained.

    Args:
        report: what parity.json says.
        config: the limits.
        where: its file.

    Raises:
        MinivessError: MV-DEPLOY-002.
    """
    found = report["variants"][FULL]
    difference, dice = found["max_difference"], found["min_dice"]
    if difference <= config.parity_difference and dice >= config.parity_dice:
        return
    worst = max(found["cases"], key=lambda case: found["cases"][case]["max_difference"])
    hint = (
        "the DAG predicts in the profile fast (bfloat16 where the device has it) and the exported "
        "network in float32; "
        if report["profile"] == "fast"
        else ""
    )
    raise MinivessError(
        "MV-DEPLOY-002",
        what=f"the exported network is not what was trained ({report['run']})",
        where=where,
        found=f"probabilities differ by up to {difference:.3g} (case {worst}), smallest Dice of "
        f"the masks {dice:.6f}",
        expected=f"at most {config.parity_difference:g} (deploy.parity_difference) and at least "
        f"{config.parity_dice:g} (deploy.parity_dice)",
        fix=f"{hint}look at the cases in {where}; where you accept them, raise the limit: "
        "nothing is computed again",
    )
