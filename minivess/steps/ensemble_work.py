"""What the ensembles of one network, loss and fold are made from, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivess import paths
from minivess.config.schema import Experiment
from minivess.inference.ensemble import mean_probability
from minivess.inference.memory import note_of_members
from minivess.inference.uncertainty import uncertainty
from minivess.types import RunKey

if TYPE_CHECKING:
    from minivess.data.folds import Fold
    from minivess.data.preprocess import PreparedCase
    from minivess.types import Float32Array


@dataclass(frozen=True)
class FoldWork:
    """What the ensembles of one network, loss and fold are made from.

    Attributes:
        root: results folder of the experiment.
        config: sections ensembles, inference, evaluation and compute.
        runs: the run of each seed, in the order of the seeds.
        fold: its cases.
        folder: where the ensembles go.
    """

    root: Path
    config: Experiment
    runs: Mapping[int, RunKey]
    fold: Fold
    folder: Path

    def run_folder(self, seed: int) -> Path:
        """Folder of the run of a seed."""
        return paths.run_folder(self.root, self.runs[seed])

    def cases(self, names: tuple[str, ...]) -> Iterator[PreparedCase]:
        """Prepared cases, opened one after the other."""
        from minivess.data.preprocess import open_case

        return (open_case(paths.preprocessed_case(self.root, name)) for name in names)


def write_members(
    work: FoldWork,
    kind: str,
    seed: int,
    case: PreparedCase,
    members: Iterable[tuple[Float32Array, str]],
) -> None:
    """Write the mean of members' probabilities, its mask and, where wanted, the maps.

    Args:
        work: what the ensembles are made from.
        kind: of the ensemble.
        seed: of the ensemble.
        case: what was predicted.
        members: probability (x, y, z) of each, and what is noted of how it was predicted.
    """
    from minivess.data.volume import write_volume
    from minivess.inference.predict import write_prediction

    notes: list[str] = []

    def probabilities() -> Iterator[Float32Array]:
        for probability, note in members:
            notes.append(note)
            yield probability

    folder = paths.ensemble(work.folder, kind, seed)
    maps = work.config.ensembles.maps(kind)
    if maps:
        found = uncertainty(probabilities())
        mean = found.probability
        for name in maps:
            path = paths.uncertainty(folder, case.case, name)
            write_volume(getattr(found, name), path, case.geometry, note_of_members(notes))
    else:
        mean = mean_probability(probabilities())
    mask = mean > work.config.inference.probability_threshold
    write_prediction(folder, case, mean, mask, note_of_members(notes))
