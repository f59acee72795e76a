"""Local temperature scaling: a small network gives each voxel its own temperature.

The network is the authors' hierarchical one, in three dimensions. Every leaf and gate is one
convolution of 5 x 5 x 5 taps, two voxels apart, on the log-odds (which hold the same as the two
logits they are the difference of); the last leaf looks at the image instead:

    T = relu(1 + mix(g4, mix(g3, mix(g1, t1, t2), mix(g2, t3, t4)), t_image)) + 1e-8

with t = 1 + convolution, g = sigmoid(convolution) and mix(g, a, b) = g a + (1 - g) b. All weights
start at zero, so that T starts at 2. The gradient runs over single voxels and the taps around
them, which are the same numbers as those of a convolution of the whole volume.

Source: Ding, Han, Liu and Niethammer 2021, Local temperature scaling for probability calibration,
arXiv:2008.05105 (ICCV), with the authors' code at github.com/uncbiag/LTS. Other than theirs: three
dimensions, and Adam on all sampled voxels at once. Like theirs, the weights are those of the step
with the smallest loss on voxels held out; these are the last quarter of each volume along x, since
there may be one case only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivess.calibration import Fitted, Sample, log_odds

if TYPE_CHECKING:
    import torch

    from minivess.config.calibration import CalibrationConfig
    from minivess.types import Array, Float32Array

TAPS, DILATION = 5, 2
MARGIN = DILATION * (TAPS // 2)
LEAVES, GATES = 4, 4
EPSILON = 1e-8
DIGITS = 6
HELD_OUT = 0.25
# Voxels along x whose maps are in memory at once are as many as fit this number of voxels.
SLAB_VOXELS = 2_000_000


def neighbourhoods(volume: Array, voxels: Array) -> Float32Array:
    """What a convolution sees at some voxels: shape (n, 125), taps in C order, float32.

    Args:
        volume: (x, y, z); mirrored at its borders without repeating the border.
        voxels: flat indices into it, shape (n,).

    >>> neighbourhoods(np.arange(1000.0).reshape(10, 10, 10), np.array([555]))[0, 62]
    np.float32(555.0)
    """
    padded = np.pad(np.asarray(volume, dtype=np.float32), MARGIN, mode="reflect")
    x, y, z = np.unravel_index(voxels, volume.shape)
    steps = range(0, DILATION * TAPS, DILATION)
    found = np.empty((len(voxels), TAPS**3), dtype=np.float32)
    for index, (i, j, k) in enumerate((i, j, k) for i in steps for j in steps for k in steps):
        found[:, index] = padded[x + i, y + j, z + k]
    return found


def temperature(maps: torch.Tensor, image_map: torch.Tensor) -> torch.Tensor:
    """Temperature from the eight maps of the log-odds and the one of the image.

    Args:
        maps: first axis: four leaves t1..t4 and four gates g1..g4, before one is added and before
            the sigmoid; the other axes are any.
        image_map: the image's leaf, of the shape of one map.
    """
    import torch

    leaves, gates = maps[:LEAVES] + 1, torch.sigmoid(maps[LEAVES:])

    def mix(gate: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return gate * first + (1 - gate) * second

    left = mix(gates[0], leaves[0], leaves[1])
    right = mix(gates[1], leaves[2], leaves[3])
    tree = mix(gates[3], mix(gates[2], left, right), image_map + 1)
    return torch.relu(tree + 1) + EPSILON


def fit(samples: Sequence[Sample], config: CalibrationConfig) -> Fitted:
    """Train the network by the negative log-likelihood; its weights and biases.

    On the CPU, whatever computes the predictions: it takes seconds, and the bytes stay the same.

    Args:
        samples: the cases and their voxels, all of equal weight.
        config: steps and learning rate of Adam.

    Source: see the module.
    """
    import torch

    training, held_out = _training_voxels(samples)
    parameters = [
        torch.zeros(LEAVES + GATES, TAPS**3),
        torch.zeros(LEAVES + GATES),
        torch.zeros(1, TAPS**3),
        torch.zeros(1),
    ]
    for one in parameters:
        one.requires_grad_()
    optimizer = torch.optim.Adam(parameters, lr=config.local_learning_rate, foreach=False)
    best, lowest = [_rounded(one) for one in parameters], float("inf")
    for step in range(config.local_steps + 1):
        with torch.no_grad():
            loss = _loss(parameters, held_out).item()
        if loss < lowest:
            best, lowest = [_rounded(one) for one in parameters], loss
        if step < config.local_steps:
            optimizer.zero_grad()
            _loss(parameters, training).backward()
            optimizer.step()
    names = ("weights", "biases", "image_weights", "image_bias")
    return dict(zip(names, best, strict=True))


def _loss(parameters: Sequence[torch.Tensor], voxels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean negative log-likelihood of some voxels."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    weights, biases, image_weights, image_bias = parameters
    taps, image_taps, odds, vessel = voxels
    maps = (taps @ weights.T + biases).T
    image_map = (image_taps @ image_weights.T + image_bias)[:, 0]
    return binary_cross_entropy_with_logits(odds / temperature(maps, image_map), vessel)


def _training_voxels(
    samples: Sequence[Sample],
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Taps, image taps, log-odds and reference of the voxels to train on, and of those held out.

    Between the two lie as many voxels as the network sees. A volume too small for that trains and
    holds out the same voxels.
    """
    import torch

    sides: tuple[list[tuple[Array, ...]], list[tuple[Array, ...]]] = ([], [])
    for sample in samples:
        odds = log_odds(sample.probability).astype(np.float32)
        width, x = sample.probability.shape[0], np.unravel_index(sample.voxels, odds.shape)[0]
        border = width - int(HELD_OUT * width)
        choices = [sample.voxels[x < border - MARGIN], sample.voxels[x >= border]]
        if not all(choice.size for choice in choices):
            choices = [sample.voxels, sample.voxels]
        for side, chosen in zip(sides, choices, strict=True):
            taps = neighbourhoods(odds, chosen), neighbourhoods(sample.image, chosen)
            vessel = np.asarray(sample.reference).ravel()[chosen].astype(np.float32)
            side.append((*taps, odds.ravel()[chosen], vessel))
    first, second = (
        tuple(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*side, strict=True))
        for side in sides
    )
    return first, second


def _rounded(parameter: torch.Tensor) -> list[float]:
    values = parameter.detach().numpy().astype(np.float64).ravel()
    return [round(float(value), DIGITS) for value in values]


def local_temperatures(
    fitted: Fitted, probability: Float32Array, image: Float32Array
) -> Float32Array:
    """Temperature (x, y, z) of every voxel of a volume.

    Args:
        fitted: what `fit` returned.
        probability: the network's vessel probability (x, y, z).
        image: the normalised image of the same shape.
    """
    import torch

    odds = log_odds(probability).astype(np.float32)
    volumes = [
        np.pad(np.asarray(volume, dtype=np.float32), MARGIN, mode="reflect")
        for volume in (odds, image)
    ]
    kernels = [
        (_kernel(fitted["weights"]), torch.tensor(fitted["biases"], dtype=torch.float32)),
        (_kernel(fitted["image_weights"]), torch.tensor(fitted["image_bias"], dtype=torch.float32)),
    ]
    found = np.empty(probability.shape, dtype=np.float32)
    wide = max(1, SLAB_VOXELS // max(1, found[0].size))
    with torch.no_grad():
        for start in range(0, found.shape[0], wide):
            stop = min(start + wide, found.shape[0])
            maps = [
                torch.nn.functional.conv3d(
                    torch.from_numpy(volume[start : stop + 2 * MARGIN])[None, None],
                    kernel,
                    bias,
                    dilation=DILATION,
                )[0]
                for volume, (kernel, bias) in zip(volumes, kernels, strict=True)
            ]
            found[start:stop] = temperature(maps[0], maps[1][0]).numpy()
    return found


def _kernel(weights: Sequence[float]) -> torch.Tensor:
    import torch

    return torch.tensor(weights, dtype=torch.float32).reshape(-1, 1, TAPS, TAPS, TAPS)


def apply(fitted: Fitted, probability: Float32Array, image: Float32Array) -> Float32Array:
    """Calibrated probability (x, y, z): the sigmoid of the log-odds over each voxel's temperature.

    Args:
        fitted: what `fit` returned.
        probability: the network's vessel probability (x, y, z).
        image: the normalised image of the same shape.
    """
    from scipy.special import expit

    temperatures = local_temperatures(fitted, probability, image).astype(np.float64)
    scaled: Float32Array = expit(log_odds(probability) / temperatures).astype(np.float32)
    return scaled
