"""Transformers' SAM on the slices of a volume, with PEFT's LoRA.

Imported where a network is built: it needs torch, transformers and peft.
"""

from __future__ import annotations

from math import pi
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import SafetensorError
from torch.nn import functional
from transformers.models.sam.configuration_sam import SamConfig
from transformers.models.sam.modeling_sam import SamModel
from transformers.utils import logging as transformers_logging

from minivess.errors import MinivessError
from minivess.models.one_logit import two_channels
from minivess.models.pretrained import Source, of_another_network
from minivess.models.sam import Size
from minivess.models.weights import load_weights, weights_of

# Of the photographs that SAM was trained on, for intensities of 0..1; red, green, blue.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Pixels of the image along a side of a pixel of the decoder's mask.
MASK_PIXEL = 4
ADAPTED = r"vision_encoder\.layers\.\d+\.attn\.(qkv|proj)"
# The decoder's parts for masks that are not asked for, and for its opinion of them.
UNUSED = ("output_hypernetworks_mlps.1.", "output_hypernetworks_mlps.2.",
          "output_hypernetworks_mlps.3.", "iou_prediction_head.")  # fmt: skip


class SliceWise(torch.nn.Module):
    """SAM's encoder and mask decoder on every (x, y) slice, without prompts."""

    def __init__(self, network: SamModel, upscale: int) -> None:
        super().__init__()
        self.network: Any = network
        self.upscale = upscale

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2, x, y, z) of images (B, 1, x, y, z) with intensities of 0..1.

        Raises:
            ValueError: a slice that is not of whole tokens.
        """
        batch, _, x, y, z = image.shape
        side = self.network.vision_encoder.patch_embed.patch_size[0] // self.upscale
        if x % side or y % side:
            raise ValueError(f"slices of {x} x {y} voxels are not of tokens of {side} x {side}")
        # Rows are y and columns x, as an image is shown.
        slices = image.permute(0, 4, 1, 3, 2).reshape(batch * z, 1, y, x)
        if self.upscale > 1:
            slices = functional.interpolate(
                slices, size=(y * self.upscale, x * self.upscale), mode="bilinear"
            )
        shape = (1, 3, 1, 1)
        pixels = (slices - slices.new_tensor(MEAN).reshape(shape)) / slices.new_tensor(
            DEVIATION
        ).reshape(shape)
        logits = self._masks(self._embedded(pixels))
        if self.upscale != MASK_PIXEL:
            logits = functional.interpolate(logits, size=(y, x), mode="bilinear")
        return two_channels(logits.reshape(batch, z, 1, y, x).permute(0, 2, 4, 3, 1).contiguous())

    def _embedded(self, pixels: torch.Tensor) -> torch.Tensor:
        """The encoder's embedding (N, channels, rows, columns) of images of any size."""
        encoder = self.network.vision_encoder
        hidden = encoder.patch_embed.projection(pixels).permute(0, 2, 3, 1)
        hidden = hidden + resized(encoder.pos_embed, hidden.shape[1], hidden.shape[2])
        for layer in encoder.layers:
            hidden = layer(hidden)
        found: torch.Tensor = encoder.neck(hidden)
        return found

    def _masks(self, embedding: torch.Tensor) -> torch.Tensor:
        """The decoder's single mask (N, 1, 4 rows, 4 columns)."""
        rows, columns = embedding.shape[2:]
        masks, _ = self.network.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=places(
                self.network.shared_image_embedding.positional_embedding, rows, columns
            ),
            sparse_prompt_embeddings=None,
            dense_prompt_embeddings=self.network.prompt_encoder.no_mask_embed.weight.reshape(
                1, -1, 1, 1
            ),
            multimask_output=False,
        )
        found: torch.Tensor = masks[:, 0]
        return found


def resized(positions: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Learned positions (1, h, w, C) for another number of tokens, between the same borders.

    Source: Zhang and Liu 2023, SAMed, arXiv:2304.13785, which does so for images below 1024 pixels.
    """
    if positions.shape[1:3] == (rows, columns):
        return positions
    between = functional.interpolate(
        positions.permute(0, 3, 1, 2), size=(rows, columns), mode="bilinear"
    )
    return between.permute(0, 2, 3, 1)


def places(frequencies: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Fourier features (1, 2 F, rows, columns) of where tokens are in the image.

    Args:
        frequencies: (2, F), of columns and of rows.

    As SAM's own for images of its size, by products that autocast leaves in float32.
    """
    down = (torch.arange(rows, device=frequencies.device) + 0.5) / rows
    right = (torch.arange(columns, device=frequencies.device) + 0.5) / columns
    angles = (2 * right - 1)[None, :, None] * frequencies[0] + (2 * down - 1)[
        :, None, None
    ] * frequencies[1]
    features = torch.cat([torch.sin(2 * pi * angles), torch.cos(2 * pi * angles)], dim=-1)
    return features.permute(2, 0, 1)[None]


def sam_config(size: Size) -> SamConfig:
    """The configuration of transformers; attention whose gradient is the same in every run."""
    sides = {"image_size": size.image, "patch_size": size.patch}
    config = SamConfig(
        vision_config={
            "hidden_size": size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "global_attn_indexes": list(size.global_layers),
            "window_size": size.window,
            "output_channels": size.channels,
            "num_pos_feats": size.channels // 2,
            "initializer_range": 0.02,
            **sides,
        },
        prompt_encoder_config={"hidden_size": size.channels, **sides},
        mask_decoder_config={
            "hidden_size": size.channels,
            "num_attention_heads": size.decoder_heads,
            "mlp_dim": size.decoder_mlp,
        },
    )
    config._attn_implementation = "eager"
    return config


def build_slice_wise(size: Size, upscale: int, rank: int, alpha: int) -> SliceWise:
    """A network with weights from torch's generator; LoRA and the decoder ask for gradients."""
    network = SamModel(sam_config(size))
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=ADAPTED, bias="none"), network
    )
    for name, parameter in network.named_parameters():
        part = name.removeprefix("mask_decoder.")
        decoding = part != name and not part.startswith(UNUSED)
        parameter.requires_grad_("lora_" in name or decoding)
    return SliceWise(network, upscale)


def load_published(network: torch.nn.Module, folder: Path, source: Source) -> None:
    """Copy SAM's weights from a folder; all of them must be there, LoRA's stay.

    Args:
        network: of a `SliceWise`, changed in place.
        folder: as transformers writes it; only .safetensors is read, nothing is downloaded.
        source: what the folder should be.

    Raises:
        MinivessError: MV-MODEL-002.
    """
    speaking: Any = transformers_logging
    speaking.disable_progress_bar()
    level = speaking.get_verbosity()
    speaking.set_verbosity_error()  # what it would warn of is an error here
    config: Any = network.config
    try:
        loaded: Any = SamModel.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        text = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise of_another_network(folder, source, text) from error
    finally:
        speaking.set_verbosity(level)
    published, told = loaded
    wrong = sorted(map(str, [*told["missing_keys"], *told["unexpected_keys"]]))
    if wrong or told["mismatched_keys"]:
        text = f"{len(wrong)} tensors missing or unknown, first {wrong[0]}" if wrong else ""
        raise of_another_network(folder, source, text or "tensors of another shape")
    own, theirs = weights_of(network), weights_of(published)
    plain = {name: name.replace(".base_layer.", ".") for name in own if ".lora_" not in name}
    lacking = sorted(name for name in plain.values() if name not in theirs)
    if lacking:
        text = f"{len(lacking)} tensors missing, first {lacking[0]}"
        raise of_another_network(folder, source, text)
    taken = {name: theirs[plain[name]] if name in plain else own[name] for name in own}
    try:
        load_weights(network, taken, str(folder))
    except MinivessError as error:
        raise of_another_network(folder, source, error.found) from error
