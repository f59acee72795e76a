"""Configuration keys of a network, and which of them each architecture has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from minivess.config.profiles import Budget, ModelProfile
from minivess.config.section import Count, Name, Section
from minivess.errors import nearest

# Architecture -> its keys. One of a researcher's own that is not listed may have all of them.
ARCHITECTURE_KEYS: dict[str, tuple[str, ...]] = {
    "dynunet": ("filters", "deep_supervision", "dropout"),
    "segresnet": ("init_filters", "blocks_down"),
    "attention_unet": ("filters", "dropout"),
    "vesselfm": ("weights",),
    "vista3d": ("weights", "class_prompt", "embed_dim"),
    "sam": ("weights", "encoder", "upscale", "lora_rank", "lora_alpha"),
}


SHARED_KEYS = ("architecture", "profile")


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
    init_filters: Count = Field(
        16, description="channels of the finest level, doubled from level to level"
    )
    blocks_down: tuple[Count, ...] = Field(
        (1, 2, 2, 4), min_length=2, description="residual blocks of each encoder level"
    )
    weights: str | None = Field(
        None,
        description="file of the published weights (.safetensors or .pt) to start from; for sam "
        "their folder",
    )
    class_prompt: Annotated[int, Field(ge=1, le=511)] = Field(
        25, description="class that means vessel: 25 is hepatic vessels, those from 133 on are free"
    )
    embed_dim: Annotated[int, Field(ge=24, multiple_of=8)] = Field(
        48, description="channels of the finest level; the published weights have 48"
    )

    encoder: Literal["vit_b", "vit_l", "vit_h", "tiny_random"] = Field(
        "vit_b", description="which SAM the weights are of; tiny_random has no published ones"
    )
    upscale: Literal[1, 2, 4] = Field(
        4, description="times that slices are enlarged along x and y: a token is 16 pixels"
    )
    lora_rank: Count = Field(4, description="rank of what LoRA adds to a matrix")
    lora_alpha: Count = Field(4, description="LoRA's matrices count alpha / rank")

    # A training is given the budget alone.
    profile: ModelProfile | Budget | None = Field(
        None,
        description="budgets for what is `auto`, licence and data of the weights that it starts "
        "from: a file in `configs/model_profiles/` by its name, or its path; none: that of the "
        "architecture",
    )

    @model_validator(mode="before")
    @classmethod
    def _only_its_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        architecture = values.get("architecture", "dynunet")
        own = ARCHITECTURE_KEYS.get(str(architecture))
        if own is None:
            return values
        foreign = [k for k in values if k in cls.model_fields and k not in (*SHARED_KEYS, *own)]
        if foreign:
            raise ValueError(f"{architecture} has no key {foreign[0]}; {nearest(foreign[0], own)}")
        return values

    @model_serializer(mode="wrap")
    def _own_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of other architectures: they have no part in this network."""
        return own_keys(self.architecture, handler(self))


def own_keys(architecture: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that an architecture has.

    >>> own_keys("vesselfm", {"architecture": "vesselfm", "filters": (8, 16), "weights": "a.pt"})
    {'architecture': 'vesselfm', 'weights': 'a.pt'}
    """
    known = (*SHARED_KEYS, *ARCHITECTURE_KEYS.get(architecture, tuple(ModelConfig.model_fields)))
    own = {key: value for key, value in values.items() if key in known}
    return own if own.get("profile") else {k: v for k, v in own.items() if k != "profile"}
