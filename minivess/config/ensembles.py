"""The section of ensembles: which are made, and what each of them has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from minivess.config.section import Section, distinct

# Ensembles over the seeds of an arm: one member per seed.
SEED_KINDS = ("mean", "vote", "uniform_soup", "greedy_soup")
MAPPED_KINDS = ("mean",)
UNCERTAINTY_MAPS = ("entropy", "expected_entropy", "mutual_information")
EnsembleKind = Literal["mean", "vote", "uniform_soup", "greedy_soup"]


class EnsemblesConfig(Section):
    """Ensembles of the trained networks, each evaluated as an arm NETWORK+KIND."""

    kinds: Annotated[tuple[EnsembleKind, ...], AfterValidator(distinct)] = Field(
        (),
        description="ensembles to make of each network, loss and fold; those over seeds need two",
    )
    uncertainty_maps: bool = Field(
        True,
        description="write entropy, expected entropy and mutual information of each case, in nats, "
        "where the members have probabilities of their own",
    )

    def made(self, seeds: Iterable[int]) -> list[tuple[str, int]]:
        """Kind and seed of every ensemble of one network, loss and fold.

        One over all seeds has the lowest of them.

        >>> EnsemblesConfig(kinds=("mean", "vote")).made([3, 1])
        [('mean', 1), ('vote', 1)]
        """
        return [(kind, min(seeds)) for kind in self.kinds]

    def maps(self, kind: str) -> tuple[str, ...]:
        """Names of the uncertainty maps of an ensemble.

        >>> EnsemblesConfig().maps("vote")
        ()
        """
        return UNCERTAINTY_MAPS if self.uncertainty_maps and kind in MAPPED_KINDS else ()


def ensemble_model(model: str, kind: str) -> str:
    """What an ensemble of a network's runs is called where runs have their network's name.

    >>> ensemble_model("dynunet", "mean")
    'dynunet+mean'
    """
    return f"{model}+{kind}"
