"""Configuration keys of a network."""

from __future__ import annotations

from pydantic import Field

from minivess.config.section import Count, Name, Section


class ModelConfig(Section):
    """One network; `models` names as many as are compared."""

    architecture: Name = Field("dynunet", description="name in the model registry")
    filters: tuple[Count, ...] = Field(
        (16, 32, 64, 128), min_length=3, description="channels of each level, finest first"
    )
    deep_supervision: bool = Field(
        False, description="loss on coarser decoder levels too, weights 1, 1/2, 1/4 normalised"
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="probability of dropout after each convolution"
    )
