"""The section of ensembles: which are made, and what each of them has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from minivess.config.section import Section, distinct
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from minivess.config.schema import Experiment
    from minivess.config.training import TrainingConfig

# Ensembles over the seeds of an arm: one member per seed.
SEED_KINDS = ("mean", "vote", "uniform_soup", "greedy_soup")
# Ensembles whose members have probabilities of their own, and so entropies.
MAPPED_KINDS = ("mean", "mc_dropout", "swag", "snapshot")
UNCERTAINTY_MAPS = ("entropy", "expected_entropy", "mutual_information")
EnsembleKind = Literal[
    "mean", "vote", "uniform_soup", "greedy_soup", "mc_dropout", "swa", "swag", "snapshot"
]


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

    mc_passes: int = Field(20, ge=2, description="passes of mc_dropout, each with other units off")
    swag_samples: int = Field(30, ge=2, description="networks drawn for swag")

    def made(self, seeds: Iterable[int]) -> list[tuple[str, int]]:
        """Kind and seed of every ensemble of one network, loss and fold.

        One over all seeds has the lowest of them.

        >>> EnsemblesConfig(kinds=("mean", "vote")).made([3, 1])
        [('mean', 1), ('vote', 1)]
        """
        every = sorted(seeds)
        return [
            (kind, seed)
            for kind in self.kinds
            for seed in (every[:1] if kind in SEED_KINDS else every)
        ]

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


def check_ensembles(experiment: Experiment) -> None:
    """Raise for ensembles whose members nothing would make.

    Raises:
        MinivessError: MV-CONFIG-004; it names every such kind and key.
    """
    training, kinds = experiment.training, set(experiment.ensembles.kinds)
    problems = [*_trainings(training)]
    over_seeds = [kind for kind in experiment.ensembles.kinds if kind in SEED_KINDS]
    if over_seeds and len(experiment.seeds) < 2:
        problems.append(f"at least two seeds are needed for {', '.join(over_seeds)}")
    dry = [name for name, model in experiment.models.items() if model.dropout == 0]
    if "mc_dropout" in kinds and dry:
        problems.append(f"mc_dropout needs models.NAME.dropout above 0: {', '.join(dry)}")
    if kinds & {"swa", "swag"} and training.swa_start is None:
        problems.append("swa and swag need training.swa_start")
    if "swag" in kinds and training.swag_rank is None:
        problems.append("swag needs training.swag_rank")
    if "snapshot" in kinds and training.snapshot_cycles is None:
        problems.append("snapshot needs training.snapshot_cycles")
    if problems:
        raise MinivessError(
            "MV-CONFIG-004",
            what="the config asks for ensembles without what they are made of",
            where=f"experiment {experiment.name}, ensembles.kinds and training",
            found="; ".join(problems),
            fix="docs/how-to/ensembles.md says what each kind needs",
        )


def _trainings(training: TrainingConfig) -> Iterator[str]:
    """What contradicts itself in the keys of averaged weights and snapshots."""
    start, rank, cycles = training.swa_start, training.swag_rank, training.snapshot_cycles
    if start is not None and start > training.epochs:
        yield f"training.swa_start={start} is after the last epoch, {training.epochs}"
    if rank is not None and start is None:
        yield "training.swag_rank needs training.swa_start"
    if rank is not None and start is not None and rank > training.epochs - start + 1:
        yield f"training.swag_rank={rank} is more than the epochs from swa_start={start} on"
    if cycles is not None and start is not None:
        yield "training.snapshot_cycles and training.swa_start are two learning rates"
    if cycles is not None and training.epochs % cycles:
        yield f"training.epochs={training.epochs} is no multiple of snapshot_cycles={cycles}"
