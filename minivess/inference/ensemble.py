"""Ensembles: networks that predict together, and the checks that their numbers are honest.

Members must be different networks, and a case that one of them was trained or selected on has no
place in the evaluation of any of them: networks of different folds may only predict together what
lies outside every fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minivess import output, paths, provenance
from minivess.errors import MinivessError
from minivess.types import BoolArray, Float32Array


@dataclass(frozen=True)
class Member:
    """A network of an ensemble.

    Attributes:
        name: its run, or the file of its weights.
        digest: SHA-256 of the file of its weights.
        seen: cases that it, or the weights that it began with, was trained on or selected on.
    """

    name: str
    digest: str
    seen: frozenset[str]


def read_member(run: Path, name: str) -> Member:
    """The network of a finished run as a member; the digest is that of its file as it is now.

    Raises:
        MinivessError: MV-STATE-002 the run is not finished, MV-STATE-003 its record is damaged.
    """
    record_path, weights = paths.run_record(run), paths.weights(run)
    if not record_path.is_file() or not weights.is_file():
        raise MinivessError(
            "MV-STATE-002",
            what="a member of the ensemble has not been trained",
            where=str(run),
            fix="run the whole experiment",
        )
    record: dict[str, Any] = output.read_json(record_path, "cases")
    own, before = record["cases"], record.get("warm_start", {}).get("seen", ())
    seen = frozenset((*own["train"], *own["selection"], *before))
    return Member(name, provenance.file_sha256(weights), seen)


def check_distinct(members: Sequence[Member]) -> None:
    """Raise where two members are the same file: copies would pass for agreement.

    Raises:
        MinivessError: MV-ENSEMBLE-001.

    >>> check_distinct([Member("a", "0" * 64, frozenset()), Member("b", "1" * 64, frozenset())])
    """
    by_digest: dict[str, str] = {}
    for member in members:
        other = by_digest.setdefault(member.digest, member.name)
        if other != member.name:
            raise MinivessError(
                "MV-ENSEMBLE-001",
                what="two members of the ensemble are the same network",
                where=f"{other} and {member.name}",
                found=f"weights with SHA-256 {member.digest[:16]}... twice",
                expected="members that were trained apart",
                fix="remove the weights of one of them and run the experiment again",
            )


def check_unseen(members: Sequence[Member], cases: Iterable[str]) -> None:
    """Raise for the first case that a member was trained on or selected on.

    Raises:
        MinivessError: MV-ENSEMBLE-002.

    >>> check_unseen([Member("a", "0" * 64, frozenset({"mv01"}))], ["mv02"])
    """
    for case in cases:
        knowing = [member.name for member in members if case in member.seen]
        if knowing:
            raise MinivessError(
                "MV-ENSEMBLE-002",
                what="a member of the ensemble was trained or selected on a case to be predicted",
                where=f"case {case}",
                found=", ".join(knowing),
                expected="cases that no member has seen",
                fix="combine networks of one fold, or evaluate on cases outside every fold",
            )


def mean_probability(probabilities: Iterable[Float32Array]) -> Float32Array:
    """Mean of the members' vessel probabilities (x, y, z), float32.

    Args:
        probabilities: one array per member, of one shape; read one after the other.

    Raises:
        ValueError: there is no member.

    >>> mean_probability([np.float32([0.25]), np.float32([0.75])]).tolist()
    [0.5]
    """
    total, count = None, 0
    for probability in probabilities:
        wide = probability.astype(np.float64)
        total, count = wide if total is None else total + wide, count + 1
    if total is None:
        raise ValueError("an ensemble needs a member")
    return (total / count).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Pooled:
    """What networks predict together, (x, y, z): mean probability and part of the masks."""

    mean: Float32Array
    vote: Float32Array


def pooled(probabilities: Iterable[Float32Array], threshold: float) -> Pooled:
    """`mean_probability` and `vote_fraction` of networks that predict one after the other.

    Args:
        probabilities: one array per member, of one shape.
        threshold: a member's mask is where its probability is above it.

    Raises:
        ValueError: there is no member.

    >>> both = pooled([np.float32([0.9]), np.float32([0.4]), np.float32([0.4])], 0.5)
    >>> both.mean.round(4).tolist(), both.vote.round(4).tolist()
    ([0.5666999816894531], [0.33329999446868896])
    """
    votes: list[BoolArray] = []

    def counted() -> Iterator[Float32Array]:
        for probability in probabilities:
            votes.append(probability > threshold)
            yield probability

    mean = mean_probability(counted())
    return Pooled(mean, vote_fraction(votes))


def vote_fraction(masks: Iterable[BoolArray]) -> Float32Array:
    """Part of the members whose mask has a voxel, (x, y, z), float32.

    A voxel is vessel by majority where more than half of them have it; half of an even number is
    no majority.

    Raises:
        ValueError: there is no member.

    >>> vote_fraction([np.array([True]), np.array([True]), np.array([False])]) > 0.5
    array([ True])
    """
    return mean_probability(mask.astype(np.float32) for mask in masks)
