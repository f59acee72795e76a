"""SAM, exploratory: a network of photographs, slice by slice, with LoRA in its encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess.config.models import ModelConfig
from minivess.errors import MinivessError
from minivess.models.adapter import ModelAdapter
from minivess.models.levels import Level
from minivess.models.pretrained import Source, checked_folder
from minivess.types import Shape

if TYPE_CHECKING:
    import torch

EXTRA = ("transformers", "peft")
SOURCE = Source(
    "SAM",
    "a folder with config.json and model.safetensors",
    "https://huggingface.co/facebook/sam-vit-base (or sam-vit-large, sam-vit-huge)",
)


@dataclass(frozen=True)
class Size:
    """Numbers of a SAM: of its encoder, and of the decoder after it.

    Args:
        hidden: values of a token of the encoder.
        global_layers: encoder layers in which all tokens attend to all; in the others those of a
            window of `window` x `window` tokens do.
        image: pixels along a side of the images that its positions were learned on.
        patch: pixels along a side of a token.
        channels: values of a token of the decoder.
    """

    hidden: int
    layers: int
    heads: int
    global_layers: tuple[int, ...]
    image: int = 1024
    patch: int = 16
    window: int = 14
    channels: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 2048


# The published ones; and one without published weights, to try the steps out and for tests.
SIZES: dict[str, Size] = {
    "vit_b": Size(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": Size(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": Size(1280, 32, 16, (7, 15, 23, 31)),
    "tiny_random": Size(32, 2, 2, (1,), 128, 16, 2, 32, 2, 64),
}
# Tokens along a side of the slices that memory and work are estimated for: 128 voxels at upscale 4.
TYPICAL_TOKENS = 32


class SamAdapter(ModelAdapter):
    """Foundation model of photographs: its encoder with LoRA and its mask decoder, fine-tuned.

    Exploratory. Transformers' SamModel sees each (x, y) slice by itself, as a grey photograph and
    without prompts: no context along z. PEFT's LoRA is in the encoder's attention (the fused
    projection to queries, keys and values, and that of the output); it and the mask decoder are
    trained, all else is frozen. SAMed, after which it is arranged, has LoRA on queries and values
    alone and trains the default prompt too. Slices are enlarged `upscale` times, since a token is
    16 pixels, a pixel of the mask is 4, and vessels are a few voxels wide. The encoder takes them
    at that size and not at SAM's 1024 x 1024, which would be 16 times the work for a patch of 64 x
    64 voxels: its learned positions are interpolated, as SAMed's are, and with `upscale: 4` are as
    published for slices of 256 x 256 voxels. Attention reaches over the whole slice of a patch. It
    takes intensities of 0..1: set preprocess.normalisation to minmax.

    Source: Kirillov et al. 2023, ICCV, arXiv:2304.02643; LoRA: Hu et al. 2022, arXiv:2106.09685; in
    SAM: Zhang and Liu 2023, SAMed, arXiv:2304.13785.
    """

    published = SOURCE
    normalisation = "minmax"
    libraries = ("peft", "transformers")
    kept, alive = 1.6, 0.2

    @property
    def size(self) -> Size:
        """The numbers of the encoder that the config names."""
        return SIZES[self.config.encoder]

    @classmethod
    def check(cls, config: ModelConfig, where: str) -> None:
        """See `ModelAdapter.check`; a missing extra and a folder of another size as well.

        Raises:
            MinivessError: MV-SYSTEM-004, MV-MODEL-001, MV-MODEL-002.
        """
        _require_extra(where)
        check_size(checked_folder(config.weights, SOURCE, where), config.encoder, where)

    def build(self) -> torch.nn.Module:
        """See `ModelAdapter.build`; `start` loads the published weights.

        Raises:
            MinivessError: MV-SYSTEM-004 the extra is not installed.
        """
        _require_extra("models.NAME")
        from minivess.models.slice_wise import build_slice_wise

        config = self.config
        return build_slice_wise(self.size, config.upscale, config.lora_rank, config.lora_alpha)

    def start(self, network: torch.nn.Module) -> None:
        """See `ModelAdapter.start`: LoRA begins at zero, so the network begins as SAM."""
        from minivess.models.slice_wise import load_published

        folder = checked_folder(self.config.weights, SOURCE, "models.NAME")
        check_size(folder, self.config.encoder, "models.NAME")
        load_published(network.get_submodule("network"), folder, SOURCE)

    def any_window(self) -> bool:
        """See `ModelAdapter.any_window`: its positions are those of one size."""
        return False

    def levels(self) -> tuple[Level, ...]:
        """None: a transformer has one resolution, and the numbers below are its own."""
        return ()

    def patch_divisor(self) -> Shape:
        """See `ModelAdapter.patch_divisor`: a token in the slice, any number of slices."""
        side = self.size.patch // self.config.upscale
        return side, side, 1

    def receptive_field(self) -> Shape:
        """See `ModelAdapter.receptive_field`: the slice that its positions were learned on."""
        side = self.size.image // self.config.upscale
        return side, side, 1

    def parameters(self) -> int:
        """See `ModelAdapter.parameters`."""
        size, hidden, rank = self.size, self.size.hidden, self.config.lora_rank
        tokens, head = size.image // size.patch, hidden // size.heads
        layer = 12 * hidden**2 + 13 * hidden + rank * 6 * hidden
        found = size.layers * layer + hidden * (3 * size.patch**2 + 1 + tokens**2)
        spans = (tokens if n in size.global_layers else size.window for n in range(size.layers))
        found += sum(2 * (2 * span - 1) * head for span in spans)
        c = size.channels
        found += c * hidden + 9 * c**2 + 4 * c  # the encoder's neck
        found += 11 * c + 16 * (c + 86) + 8  # prompts
        return found + self._decoder()

    def _decoder(self) -> int:
        """Weights of the decoder; those of its other masks and of its own opinion included."""
        c, mlp = self.size.channels, self.size.decoder_mlp
        layer = 8 * c**2 + 9 * c + 8 * c + 2 * c * mlp + mlp + c
        heads = 4 * (2 * (c**2 + c) + c * c // 8 + c // 8)
        opinion = 256 * (c + 1) + 256 * 257 + 4 * 257
        upscaling = c**2 + c**2 // 8 + 3 * c // 4 + c // 8
        return 2 * layer + 2 * c**2 + 5 * c + 2 * c + 5 * c + heads + opinion + upscaling

    def activations(self) -> float:
        """See `ModelAdapter.activations`: for slices of a typical size, with their attention."""
        size = self.size
        windowed, everywhere = self._attended()
        over_all = len(size.global_layers)
        values = size.layers * 9 * size.hidden + 60 * size.channels  # and of the decoder
        values += over_all * (6 * size.hidden + everywhere * size.heads)
        inside = 6 * size.hidden + windowed * size.heads
        token = values + (size.layers - over_all) * self._padding() * inside
        return token / self.patch_divisor()[0] ** 2

    def multiply_adds(self) -> float:
        """See `ModelAdapter.multiply_adds`."""
        size, hidden = self.size, self.size.hidden
        windowed, everywhere = self._attended()
        over_all = len(size.global_layers)
        token = size.layers * 8 * hidden**2 + 3 * size.patch**2 * hidden
        token += over_all * (4 * hidden**2 + 2 * everywhere * hidden)
        inside = 4 * hidden**2 + 2 * windowed * hidden
        token += int((size.layers - over_all) * self._padding() * inside)
        token += size.channels * hidden + 20 * size.channels**2  # neck and decoder
        return token / self.patch_divisor()[0] ** 2

    def _attended(self) -> tuple[int, int]:
        """Tokens that a token attends to: in a window, in a slice of a typical size."""
        return self.size.window**2, min(TYPICAL_TOKENS, self.size.image // self.size.patch) ** 2

    def _padding(self) -> float:
        """Tokens that windows hold for each of a slice, which is padded to whole windows."""
        typical = min(TYPICAL_TOKENS, self.size.image // self.size.patch)
        return float((-(-typical // self.size.window) * self.size.window / typical) ** 2)

    def reason(self) -> str:
        """See `ModelAdapter.reason`."""
        return "from the keys encoder, upscale, lora_rank and lora_alpha of the network"

    def describe(self) -> dict[str, str]:
        """See `ModelAdapter.describe`; nothing of it follows from the spacing."""
        config, side = self.config, self.patch_divisor()[0]
        lora = f"LoRA of rank {config.lora_rank} and alpha {config.lora_alpha}"
        return {
            "arch_tokens": f"{side}x{side}x1 voxels",
            "arch_trained": f"{lora} in the encoder's attention; the mask decoder",
            "arch_frozen": "the encoder's own weights; prompts; the decoder's other masks",
        }


def check_size(folder: Path, encoder: str, where: str) -> None:
    """Raise where a folder's config.json is not of a SAM of this size.

    Raises:
        MinivessError: MV-MODEL-002.
    """
    expected, file = SIZES[encoder], folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        kind, vision = found["model_type"], found.get("vision_config") or {}
        # What is not written down is as in SAM's smallest one.
        numbers = (vision.get("hidden_size", 768), vision.get("num_hidden_layers", 12))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _of_another(
            file, f"{type(error).__name__}: {error}", "get the folder again"
        ) from error
    if kind != "sam":
        raise _of_another(file, f"model_type {kind}", f"name the folder of {SOURCE.address}")
    if numbers != (expected.hidden, expected.layers):
        fitting = [n for n, size in SIZES.items() if (size.hidden, size.layers) == numbers]
        text = f"{numbers[1]} layers of {numbers[0]}, {encoder} has {expected.layers} of "
        fix = f"set {where}.encoder to {fitting[0]}" if fitting else "name another folder"
        raise _of_another(file, text + str(expected.hidden), fix)


def _of_another(file: Path, found: Any, fix: str) -> MinivessError:
    return MinivessError(
        "MV-MODEL-002",
        what="this is not the SAM that the config names",
        where=str(file),
        found=str(found),
        expected=f"{SOURCE.file} from {SOURCE.address}",
        fix=fix,
    )


def _require_extra(where: str) -> None:
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise MinivessError(
            "MV-SYSTEM-004",
            what=f"the network sam needs {' and '.join(missing)}",
            where=f"config {where}",
            found="not installed",
            fix="install the extra sam: uv sync --extra sam",
        )
