"""What the manuscript says of the trainings: what each network took, and its epochs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from minivess.paper import parameter

if TYPE_CHECKING:
    import polars as pl

    from minivess.paper import Results

type PatchKey = Literal["patch_size", "batch_size"]


def span(values: Iterable[int]) -> str:
    """The lowest and the highest of some numbers, or the only one.

    >>> span([8, 4, 8]), span([4, 4])
    ('4 to 8', '4')
    """
    low, *rest = sorted(set(values))
    return f"{low} to {rest[-1]}" if rest else str(low)


def finished(results: Results) -> pl.DataFrame:
    """The runs that finished: the others have no epoch that predicts."""
    runs = results.tables["runs"]
    return runs.filter(runs["status"] == "FINISHED")


def _after_out_of_memory(results: Results) -> pl.Series:
    """What the trainings took whose memory ran out."""
    params = results.tables["params"]
    return params.filter(params["name"] == "out_of_memory")["value"]


def decided(results: Results, key: PatchKey) -> dict[str, list[tuple[int, ...]]]:
    """The values of a key of the section patches in the runs of each network, sorted.

    Where the config has `auto`, or memory ran out, they are what the runs took, which may differ
    between folds.

    Raises:
        MinivessError: MV-STATE-002 no run of a network says what it took.
    """
    value = getattr(results.config.patches, key)
    lowered = key == "batch_size" and not _after_out_of_memory(results).is_empty()
    if value != "auto" and not lowered:
        plain = (value,) if isinstance(value, int) else tuple(value)
        return {name: [plain] for name in results.config.models}
    return {
        name: sorted(
            tuple(int(number) for number in text.split())
            for text in parameter(results, name, f"data_{key}")
        )
        for name in results.config.models
    }


def decided_text(results: Results, key: PatchKey, unit: str = "") -> str:
    """Those values for a sentence: of each network where networks differ.

    Raises:
        MinivessError: MV-STATE-002 see `decided`.
    """
    texts = {
        name: " or ".join(" × ".join(map(str, value)) for value in values) + unit
        for name, values in decided(results, key).items()
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} (`{name}`)" for name, text in texts.items())


def smaller_batches_text(results: Results) -> str:
    """A sentence on the trainings that began again because memory ran out; "" where none did."""
    values = _after_out_of_memory(results)
    if values.is_empty():
        return ""
    taken = [dict(pair.split("=") for pair in value.split()) for value in values.unique().sort()]
    steps = " or ".join(f"{each['accumulate']} batches of {each['batch_size']}" for each in taken)
    return (
        f"Memory ran out in {len(values)} of {results.tables['runs'].height} trainings, begun "
        f"again with as many patches per step: a step there took the mean gradient of {steps}."
    )


def mirrors_thin_volumes(results: Results) -> bool:
    """Whether volumes thinner than a patch were mirrored up to it in any run.

    Raises:
        MinivessError: MV-STATE-002 see `decided`.
    """
    if results.config.patches.patch_size != "auto":
        return results.config.patches.pad_thin
    return any(
        text.lower() == "true"
        for name in results.config.models
        for text in parameter(results, name, "data_pad_thin")
    )
