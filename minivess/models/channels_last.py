"""Instance normalisation that keeps a network's activations with their channels last.

oneDNN's convolutions of few channels take up to half as long on activations that lie with their
channels last in memory, and cuDNN copies others there for each of its own. torch's instance
normalisation copies them back, and is slower itself: the same arithmetic by torch's batch
normalisation of each sample, and by its group normalisation with a group for each channel where no
gradient is needed, does neither. See `just bench training`.

Imported where a network is built: it needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

BFLOAT16_CHANNELS = 16


class ChannelsLastNorm(torch.nn.InstanceNorm3d):
    """Instance normalisation with weight and bias; where torch's own is faster, that one."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalised features (B, C, x, y, z), with the channels last in memory."""
        # An exported or compiled network has the one operation that all tools know.
        if features.device.type not in ("cpu", "cuda") or torch.compiler.is_compiling():
            return super().forward(features)
        features = features.contiguous(memory_format=torch.channels_last_3d)
        # Group normalisation in bfloat16 takes three times as long on fewer channels; on a GPU it
        # copies them back.
        few = features.dtype == torch.bfloat16 and self.num_features < BFLOAT16_CHANNELS
        if torch.is_grad_enabled() or few or features.is_cuda:
            found: torch.Tensor = _SampleNorm.apply(features, self.weight, self.bias, self.eps)
            return found
        return functional.group_norm(features, self.num_features, self.weight, self.bias, self.eps)


class _SampleNorm(torch.autograd.Function):
    """Batch normalisation of each sample by itself, which is instance normalisation."""

    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
    ) -> torch.Tensor:
        normalised, moments = torch.empty_like(features), []
        for index in range(len(features)):
            sample = features[index : index + 1]
            part, *moment = torch.native_batch_norm(
                sample, weight, bias, None, None, True, 0.0, eps
            )
            normalised[index : index + 1] = part
            moments += moment
        ctx.save_for_backward(features, weight, *moments)
        ctx.eps = eps
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        features, weight, *moments = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last_3d)
        inputs = torch.empty_like(features)
        weights, biases = torch.zeros_like(weight), torch.zeros_like(weight)
        for index in range(len(features)):
            part = slice(index, index + 1)
            mean, scale = moments[2 * index : 2 * index + 2]
            inputs[part], for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
                gradient[part],
                features[part],
                weight,
                None,
                None,
                mean,
                scale,
                True,
                ctx.eps,
                [True, True, True],
            )
            weights += for_weight
            biases += for_bias
        return inputs, weights, biases, None


def use_channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """The network with its instance normalisations replaced by the same that keep channels last.

    Parameters, their names and what the network computes stay, up to rounding.

    Args:
        network: changed in place. Instance normalisations without weights, or that track
            statistics, are left as they are.
    """
    for parent in network.modules():
        for name, child in parent.named_children():
            if (
                type(child) is torch.nn.InstanceNorm3d
                and child.affine
                and not child.track_running_stats
            ):
                setattr(parent, name, _same(child))
    return network


def _same(norm: torch.nn.InstanceNorm3d) -> ChannelsLastNorm:
    found = ChannelsLastNorm(norm.num_features, norm.eps, affine=True)
    found.weight, found.bias = norm.weight, norm.bias
    return found
