"""When memory runs out in a prediction: fewer windows at once, then less overlap; never silent.

Only the profile fast goes on so; strict says which keys to set.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable

from minivess.config.schema import InferenceConfig
from minivess.errors import MinivessError
from minivess.inference.device import Decision
from minivess.logs import say

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


def within_memory[T](
    predict: Callable[[InferenceConfig], T], inference: InferenceConfig, profile: str
) -> tuple[T, str]:
    """What a prediction gives, with less at once where memory runs out and the profile allows it.

    Args:
        predict: makes the prediction; called again, with less, after memory ran out.
        inference: as it is tried first.
        profile: of the compute section.

    Returns:
        What `predict` gave, and what is to be noted of it, see `lowered_note`.

    Raises:
        MinivessError: MV-SYSTEM-006, see `smaller_windows`.

    >>> within_memory(lambda inference: inference.overlap, InferenceConfig(overlap=0.5), "fast")
    (0.5, '')
    """
    tried = inference
    while True:
        try:
            return predict(tried), lowered_note(inference, tried)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            tried, lowered = smaller_windows(tried, profile, error)
        release()  # only here does nothing hold the error any more, and what it holds
        say(f"{lowered.reason}; again with {lowered.value}")


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
        raise out_of_memory(found, "set a smaller inference.window_size", error)
    if profile == "strict":
        raise out_of_memory(found, f"set inference.{key}={value:g}", error, fast_lowers=True)
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


def note_of_members(notes: Iterable[str]) -> str:
    """What is noted in a prediction of several members, of which each has a note or none.

    Equal ones are told once; of different ones, the number and the first.

    >>> note_of_members(["", "overlap=0 after out of memory", ""])
    '1 of 3 members: overlap=0 after out of memory'
    """
    given = list(notes)
    told = [note for note in given if note]
    return f"{len(told)} of {len(given)} members: {told[0]}" if told else ""


def out_of_memory(
    found: str, fix: str, error: BaseException, fast_lowers: bool = False
) -> MinivessError:
    """The error that says what did not fit, and which keys to set.

    Args:
        found: what was tried.
        fix: what to set.
        error: what torch or the system said.
        fast_lowers: whether the profile fast would have lowered it by itself.
    """
    text = str(error).strip().split("\n")[0]
    fix += "; `minivess doctor` forecasts what is needed"
    if fast_lowers:
        fix += ". With compute.profile=fast it is lowered by itself, and recorded"
    made = MinivessError(
        "MV-SYSTEM-006",
        what="out of memory",
        where=text[:200] or type(error).__name__,
        found=found,
        fix=fix,
    )
    made.__cause__ = error
    return made
