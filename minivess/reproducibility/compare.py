"""Two runs of an experiment compared: the first file of the DAG that differs, and what in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minivess import paths, provenance
from minivess.errors import MinivessError
from minivess.reproducibility.difference import difference


@dataclass(frozen=True)
class Comparison:
    """Names of files, each list in the order of the DAG."""

    equal: tuple[str, ...]
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    additional: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every file is there and equal."""
        return not (self.differing or self.missing or self.additional)

    def __str__(self) -> str:
        counts = {
            "equal": self.equal,
            "different": self.differing,
            "missing": self.missing,
            "additional": self.additional,
        }
        shown = [
            f"{len(names)} {word}" for word, names in counts.items() if names or word == "equal"
        ]
        return ", ".join(shown)


def compare_digests(expected: Mapping[str, str], found: Mapping[str, str]) -> Comparison:
    """Compare what two SHA256SUMS say.

    >>> str(compare_digests({"a": "0", "b": "1"}, {"a": "0", "b": "2"}))
    '1 equal, 1 different'
    """
    both = [name for name in expected if name in found]
    return Comparison(
        equal=tuple(name for name in both if expected[name] == found[name]),
        differing=tuple(name for name in both if expected[name] != found[name]),
        missing=tuple(name for name in expected if name not in found),
        additional=tuple(name for name in found if name not in expected),
    )


def check_files(root: Path, digests: Mapping[str, str]) -> None:
    """Raise where a file is no longer what SHA256SUMS says.

    Raises:
        MinivessError: MV-STATE-005 changed or removed since, with every such file.
    """
    changed = [
        name
        for name, digest in digests.items()
        if not (root / name).is_file() or provenance.file_sha256(root / name) != digest
    ]
    if changed:
        shown = "\n  ".join(changed[:20])
        raise MinivessError(
            "MV-STATE-005",
            what="results were changed or removed after they were made",
            where=str(paths.digests(root)),
            found=f"{len(changed)} of {len(digests)} files:\n  {shown}",
            fix="remove the changed ones and run the experiment again; it makes them anew",
        )


def check_same(expected: Path, found: Path, comparison: Comparison, against: str) -> None:
    """Raise for the first file that differs, saying what in it does.

    Args:
        expected: results folder that counts.
        found: results folder of the other run.
        comparison: of their digests.
        against: what the other one is, for the message.

    Raises:
        MinivessError: MV-STATE-006.
    """
    if comparison.same:
        return
    first = next(iter((*comparison.missing, *comparison.differing, *comparison.additional)))
    if first in comparison.differing:
        what = difference(expected / first, found / first)
    else:
        what = "only one of the two runs has it"
    raise MinivessError(
        "MV-STATE-006",
        what=f"{against} gave other bytes",
        where=f"{first}, the first file of the DAG that differs",
        found=f"{what} ({comparison})",
        expected=f"the bytes of {expected}",
        fix=f"compare it with {found / first}; docs/explanation/reproducibility.md says what "
        "can make the difference",
    )
