"""Model soups: one network whose weights are the mean of several networks' weights.

Source: Wortsman et al. 2022, Model soups, arXiv:2203.05482. There the networks were fine-tuned from
one pretrained network; networks that began with different weights need not average well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minivess.errors import MinivessError

if TYPE_CHECKING:
    import torch

    type Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class GreedySoup:
    """Ingredients as indices in the order they were added, and the score of each soup tried."""

    weights: dict[str, torch.Tensor]
    ingredients: tuple[int, ...]
    score: float


def uniform_soup(networks: Sequence[Weights]) -> dict[str, torch.Tensor]:
    """Mean of the networks' weights, summed in float64 in the order given.

    Tensors that are no floating-point numbers (counters of batch normalisation) are the first
    network's.

    Args:
        networks: weights by name, as `weights_of` gives them, of one architecture.

    Raises:
        ValueError: there is no network.
    """
    import torch

    if not networks:
        raise ValueError("a soup needs an ingredient")
    soup = {}
    for name, first in networks[0].items():
        if not first.is_floating_point():
            soup[name] = first.clone()
            continue
        total = torch.zeros_like(first, dtype=torch.float64)
        for weights in networks:
            total += weights[name].to(torch.float64)
        soup[name] = (total / len(networks)).to(first.dtype)
    return soup


def greedy_soup(networks: Sequence[Weights], score: Callable[[Weights], float]) -> GreedySoup:
    """From the best network on, each next one that does not make the soup worse (recipe 1).

    Args:
        networks: weights of one architecture; of equal ones the first counts as better.
        score: on cases that no result is reported on; higher is better.

    Raises:
        ValueError: there is no network.
    """
    if not networks:
        raise ValueError("a soup needs an ingredient")
    alone = [score(weights) for weights in networks]
    order = sorted(range(len(networks)), key=lambda index: (-alone[index], index))
    chosen, best = [order[0]], alone[order[0]]
    for index in order[1:]:
        tried = score(uniform_soup([networks[i] for i in (*chosen, index)]))
        if tried >= best:
            chosen, best = [*chosen, index], tried
    return GreedySoup(uniform_soup([networks[i] for i in chosen]), tuple(chosen), best)


def check_averageable(network: torch.nn.Module, kind: str) -> None:
    """Raise for a network with batch normalisation: its statistics are no mean of others'.

    Raises:
        MinivessError: MV-CONFIG-004.
    """
    import torch

    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            raise MinivessError(
                "MV-CONFIG-004",
                what=f"{kind} averages weights, which batch normalisation does not allow",
                where=name,
                found=type(layer).__name__,
                expected="normalisation without statistics of the training, such as instance norm",
                fix=f"leave {kind} out of ensembles.kinds, or choose another architecture",
            )
