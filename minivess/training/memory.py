"""When memory runs out: smaller batches whose gradients are added up, recorded; never silent.

A step over the same patches in smaller batches is the step of another configuration, which could
have been written by hand: it begins anew, under a digest of its own, and gives the bytes of that
configuration. Only the profile fast goes on so; strict says which keys to set.
"""

from __future__ import annotations

from minivess.config.schema import Experiment, PatchConfig
from minivess.inference.device import Decision
from minivess.inference.memory import out_of_memory


def smaller_batches(
    experiment: Experiment, patches: PatchConfig, error: BaseException
) -> tuple[Experiment, Decision]:
    """The experiment with a smaller batch and as many patches per step, and the record of it.

    Args:
        experiment: as it was tried.
        patches: what it had decided on.
        error: what ended the training.

    Raises:
        MinivessError: MV-SYSTEM-006 where there is no smaller batch, several processes share it, or
            the profile is strict: other batches round differently.
    """
    batch, together = patches.batch_size, experiment.training.accumulate
    devices, strict = experiment.compute.devices, experiment.compute.profile == "strict"
    # Every device has as many patches of a batch as the others.
    factors = (n for n in range(2, batch + 1) if batch % n == 0 and batch // n % devices == 0)
    factor = next(factors, 1)
    less, more = batch // factor, together * factor
    keys = f"patches.batch_size={less} and training.accumulate={more}"
    found = f"{batch} patches of {' x '.join(map(str, patches.patch_size))} at once"
    if factor == 1:
        raise out_of_memory(found, "set a smaller patches.patch_size", error)
    if strict or devices > 1:
        raise out_of_memory(
            found, f"set {keys}: as many patches per step", error, strict and devices == 1
        )
    update = {**patches.model_dump(), "batch_size": less}
    lowered = experiment.model_copy(
        update={
            "patches": PatchConfig.model_validate(update),
            "training": experiment.training.model_copy(update={"accumulate": more}),
        }
    )
    reason = f"out of memory with {found}; as with {keys}"
    return lowered, Decision("out_of_memory", f"batch_size={less} accumulate={more}", reason)
