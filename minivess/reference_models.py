"""The reference page of the networks, from the registry, their docstrings and profiles."""

from __future__ import annotations

import inspect
from typing import Any

# Numbers of the page are of networks with their default keys, for volumes of this spacing.
SPACING_UM = (1.0, 1.0, 5.0)

READ = "They are read from a file or folder on your machine and never downloaded."

EXPORTED = """\
Largest difference in logits between PyTorch and ONNX Runtime (float32, batches of 1 and 2, sizes of
volume that the export had not seen, random weights):

| Network | Difference |
| --- | --- |
| `dynunet`, filters 4, 8, 8 | 4.5e-6 |
| `segresnet`, 4 filters, blocks 1, 1, 1 | 4.8e-7 |
| `attention_unet`, filters 4, 8, 8 | 4.6e-6 |
| `vesselfm` | 5.9e-5 |
| `vista3d`, `embed_dim: 24` | 1.8e-5 |
| `sam`, `encoder: tiny_random` | 1.5e-6 |"""

MEASURED = """\
Peak memory of one training step beside that of torch and the weights, and of a prediction (loss
`dice_ce`, float32, one thread, defaults, spacing 1 x 1 x 5 um), against what is estimated before:

| Network | Batch | Training, measured | estimated | Prediction, measured | estimated |
| --- | --- | --- | --- | --- | --- |
| `dynunet` | 2 x 64 x 64 x 16 | 1738 bytes per voxel | 1824 | 710 | 730 |
| `segresnet` | 2 x 64 x 64 x 16 | 1640 | 1730 | 649 | 692 |
| `attention_unet` | 2 x 64 x 64 x 16 | 2359 | 2408 | 841 | 963 |
| `vesselfm` | 1 x 64 x 64 x 64 | 2139 | 2385 | 1428 | 954 |
| `vista3d` | 1 x 64 x 64 x 48 | 3168 | 5688 | 1479 | 2275 |
| `sam` | 1 x 128 x 128 x 2 | 86705 | 104722 | 15592 | 20944 |
| `sam` | 1 x 64 x 64 x 4 | 107462 | 104722 | | |"""


def architectures_of_keys(section: Any) -> dict[str, str]:
    """For each key of a network which architectures have it; nothing for other sections."""
    from minivess.config.models import ARCHITECTURE_KEYS, ModelConfig

    if section is not ModelConfig:
        return {}
    names = {
        key: [name for name, keys in ARCHITECTURE_KEYS.items() if key in keys]
        for key in ModelConfig.model_fields
    }
    return {key: f" ({', '.join(having)})" for key, having in names.items() if having}


def parts_of_models() -> list[str]:
    """Introduction, tables and measurements of the page."""
    from minivess.config.models import ARCHITECTURE_KEYS, ModelConfig
    from minivess.config.profiles import read_profile
    from minivess.models import ADAPTERS, build_adapter
    from minivess.reference import table

    kinds, numbers, terms = [], [], []
    for name, kind in ADAPTERS.items():
        made = build_adapter(ModelConfig(architecture=name), SPACING_UM)
        profile = read_profile(name)
        paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
        texts = [" ".join(part.split()) for part in paragraphs]
        source = next(t for t in texts if t.startswith("Source:")).removeprefix("Source: ")
        keys = ", ".join(f"`{key}`" for key in ARCHITECTURE_KEYS[name])
        kinds.append([f"`{name}`", texts[0], texts[1], keys, source])
        numbers.append(
            [
                f"`{name}`",
                f"{made.parameters() / 1e6:.1f} million",
                _shape(made.patch_divisor()),
                _shape(made.receptive_field()),
                f"{made.training_bytes(1e6) / 1e9:.1f} GB",
                f"{made.multiply_adds() / 1e3:.0f} thousand",
                "any window" if made.any_window() else "the experiment's window",
            ]
        )
        terms.append([f"`{name}`", profile.licence, ", ".join(profile.trained_on) or "nothing"])
    intro = (
        "Networks map a normalised image to two channels, background first. "
        "[How to choose one](../how-to/choose-a-model.md), "
        "[how to add one](../how-to/add-a-model.md). Budgets are in `configs/model_profiles`."
    )
    heads = ["Name", "What", "How", "Keys", "Source"]
    said = (
        "With the default keys and a spacing of 1 x 1 x 5 um: weights, what each axis of a patch "
        "is a multiple of, voxels around a voxel that its logits can depend on (by convolutions: "
        "statistics of normalisations are of the whole patch, the attention of `sam` of "
        "a whole slice of it), memory of a training step over a million voxels, "
        "multiplications of a forward pass for each voxel, windows that the "
        "exported ONNX file takes."
    )
    of_numbers = ["Name", "Weights", "Divisor", "Receptive field", "Training", "Work", "ONNX"]
    return [
        intro,
        table(heads, kinds),
        f"## Numbers\n\n{said}\n\n{table(of_numbers, numbers)}",
        f"## Measured\n\n{MEASURED}\n\n{EXPORTED}",
        f"## Published weights\n\n{READ}\n\n"
        + table(["Name", "Licence of the weights", "They have seen"], terms),
    ]


def _shape(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
