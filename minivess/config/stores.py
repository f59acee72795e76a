"""hydra-zen stores: each section's defaults and its named presets.

An experiment file names presets under `presets:` and overrides single keys after them. A preset is
one `store(...)` line here; `store` is an ordinary `hydra_zen.ZenStore`, so a script can hand it to
Hydra's multirun as well.
"""

from __future__ import annotations

from hydra_zen import ZenStore, builds

from minivess.config import augment, calibration, deploy, ensembles, models, schema, training
from minivess.config.section import Section

DEFAULT = "default"

SECTIONS: dict[str, type[Section]] = {
    "data": schema.DataConfig,
    "phantom": schema.PhantomConfig,
    "preprocess": schema.PreprocessConfig,
    "folds": schema.FoldsConfig,
    "patches": schema.PatchKeys,
    "augment": augment.AugmentConfig,
    "model": models.ModelConfig,
    "loss": training.LossConfig,
    "training": training.TrainingConfig,
    "compute": schema.ComputeConfig,
    "inference": schema.InferenceConfig,
    "evaluation": schema.EvaluationConfig,
    "ensembles": ensembles.EnsemblesConfig,
    "statistics": schema.StatisticsConfig,
    "calibration": calibration.CalibrationConfig,
    "conformal": calibration.ConformalConfig,
    "deploy": deploy.DeployConfig,
}


def _network(**keys: object) -> object:
    """A network with the keys of its architecture alone: those of others would be errors."""
    return builds(models.ModelConfig, **models.ModelConfig.model_validate(keys).model_dump())


store = ZenStore(name="minivess", overwrite_ok=False)
for _group, _section in SECTIONS.items():
    _default = _network() if _group == "model" else builds(_section, populate_full_signature=True)
    store(_default, group=_group, name=DEFAULT)

# Small enough for two CPU cores and a coffee break.
store(
    schema.PatchKeys,
    patch_size=(64, 64, 12),
    batch_size=2,
    patches_per_epoch=32,
    group="patches",
    name="cpu",
)
store(
    training.TrainingConfig,
    epochs=10,
    learning_rate=3e-3,
    selection_every=5,
    group="training",
    name="cpu",
)
# How nnU-Net moves its weights (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z).
store(
    training.TrainingConfig,
    optimizer="sgd",
    learning_rate=1e-2,
    momentum=0.99,
    schedule="polynomial",
    warmup_fraction=0.0,
    weight_decay=3e-5,
    group="training",
    name="sgd",
)
store(_network(filters=(8, 16, 32)), group="model", name="dynunet_small")
store(augment.AugmentConfig, affine_probability=0.0, group="augment", name="light")
store(
    augment.AugmentConfig,
    flip_probability=0.0,
    affine_probability=0.0,
    blur_probability=0.0,
    low_resolution_probability=0.0,
    brightness_probability=0.0,
    contrast_probability=0.0,
    gamma_probability=0.0,
    noise_probability=0.0,
    group="augment",
    name="none",
)


def preset_names(group: str) -> list[str]:
    """Names of the presets of a section.

    >>> preset_names("augment")
    ['default', 'light', 'none']
    """
    return sorted(name for stored_group, name in store[group] if stored_group == group)
