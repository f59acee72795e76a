"""When memory runs out: smaller batches whose gradients are added up, recorded; never silent.

A step over the same patches in smaller batches is the step of another configuration, which could
have been written by hand: it begins anew, under a digest of its own, and gives the bytes of that
configuration. Only the profile fast goes on so; strict says which keys to set.
"""

from __future__ import annotations

import gc

from minivess.config.schema import Experiment, InferenceConfig, PatchConfig
from minivess.errors import MinivessError
from minivess.inference.device import Decision

# What torch's allocator for the CPU says, in an error that is of no class of its own.
_CPU_WORDS = ("can't allocate memory", "not enough memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that memory ran out.

    >>> is_out_of_memory(MemoryError())
    True
    """
    import torch

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        text = str(cause).lower()
        if isinstance(cause, RuntimeError) and any(words in text for words in _CPU_WORDS):
            return True
        cause = cause.__cause__
    return False


def release() -> None:
    """Give back what nobody holds any more, on the GPU as well."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
    factor = next((n for n in range(2, batch + 1) if batch % n == 0), 1)
    less, more = batch // factor, together * factor
    keys = f"patches.batch_size={less} and training.accumulate={more}"
    found = f"{batch} patches of {' x '.join(map(str, patches.patch_size))} at once"
    if factor == 1:
        raise _out_of_memory(found, "set a smaller patches.patch_size", error)
    if experiment.compute.profile == "strict" or experiment.compute.devices > 1:
        raise _out_of_memory(found, f"set {keys}: as many patches per step", error)
    update = {**patches.model_dump(), "batch_size": less}
    lowered = experiment.model_copy(
        update={
            "patches": PatchConfig.model_validate(update),
            "training": experiment.training.model_copy(update={"accumulate": more}),
        }
    )
    reason = f"out of memory with {found}; as with {keys}"
    return lowered, Decision("out_of_memory", f"batch_size={less} accumulate={more}", reason)


def smaller_windows(
    inference: InferenceConfig, profile: str, error: BaseException
) -> tuple[InferenceConfig, Decision]:
    """Fewer windows at once, then less overlap, and the record of it.

    Args:
        inference: as it was tried.
        profile: of the compute section.
        error: what ended the prediction.

    Raises:
        MinivessError: MV-SYSTEM-006 where nothing is left to lower, or the profile is strict.
    """
    if inference.window_batch > 1:
        key, value = "window_batch", float(inference.window_batch // 2)
    else:
        key, value = "overlap", inference.overlap / 2 if inference.overlap > 0.2 else 0.0
    found = f"{inference.window_batch} windows at once, overlap {inference.overlap:g}"
    if key == "overlap" and inference.overlap == 0:
        raise _out_of_memory(found, "set a smaller inference.window_size", error)
    if profile == "strict":
        raise _out_of_memory(found, f"set inference.{key}={value:g}", error)
    changed = inference.model_copy(update={key: int(value) if key == "window_batch" else value})
    reason = f"out of memory with {found}"
    return changed, Decision("out_of_memory", f"{key}={value:g}", reason)


def lowered_note(before: InferenceConfig, after: InferenceConfig) -> str:
    """What is noted in a prediction that was made with less than its config says; else nothing.

    >>> lowered_note(InferenceConfig(), InferenceConfig(window_batch=1))
    'window_batch=1 after out of memory'
    """
    values = {key: getattr(after, key) for key in ("window_batch", "overlap")}
    changed = [f"{k}={value:g}" for k, value in values.items() if value != getattr(before, k)]
    return f"{' '.join(changed)} after out of memory" if changed else ""


def _out_of_memory(found: str, fix: str, error: BaseException) -> MinivessError:
    text = str(error).strip().split("\n")[0]
    made = MinivessError(
        "MV-SYSTEM-006",
        what="out of memory",
        where=text[:200] or type(error).__name__,
        found=found,
        fix=f"{fix}; `minivess doctor` forecasts what is needed. With compute.profile=fast it is "
        "lowered by itself, and recorded",
    )
    made.__cause__ = error
    return made
