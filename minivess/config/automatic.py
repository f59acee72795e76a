"""What `auto` is taken for before there are volumes to decide from: the most that it can become."""

from __future__ import annotations

from minivess.config.models import ModelConfig
from minivess.config.schema import PatchConfig, PatchKeys


def planned_patches(keys: PatchKeys, model: ModelConfig) -> PatchConfig:
    """Patches with the profile's largest size and number in place of `auto`.

    >>> planned_patches(PatchKeys(), ModelConfig()).patch_size
    (64, 64, 16)
    """
    values = keys.model_dump()
    if model.profile is not None:
        if keys.patch_size == "auto":
            values["patch_size"] = model.profile.largest_patch
        if keys.batch_size == "auto":
            values["batch_size"] = model.profile.batch_size
    return PatchConfig.model_validate(values)
