"""The section of the exported champions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from minivess.config.section import Name, Positive, Probability, Section, distinct

Variant = Literal["int8", "fp16"]


class DeployConfig(Section):
    """Champions as ONNX, made by the target `deploy`."""

    licence: Name = Field(
        "unknown",
        description="licence of the exported networks, as in Hugging Face's list (cc-by-4.0, "
        "apache-2.0); that of the volumes may bind it",
    )
    parity_difference: Positive = Field(
        1e-3,
        description="largest difference of a vessel probability between the exported network and "
        "the DAG's prediction, over all held-out cases of its fold",
    )
    parity_dice: Probability = Field(
        0.999, description="smallest Dice of both masks of a case, for the same cases"
    )
    variants: Annotated[tuple[Variant, ...], AfterValidator(distinct)] = Field(
        (),
        description="networks of lower precision to make and measure as well: int8 (weights and "
        "activations, calibrated on the selection cases) and fp16",
    )
