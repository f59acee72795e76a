"""Every error a user can meet: what is wrong, where, found and expected, what to do next.

An error carries a stable code (`MV-DATA-004`) and ends the process with the exit status of its
family. The registry below is the source of `docs/reference/errors.md`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

CODES: dict[str, str] = {
    "MV-CONFIG-001": "unknown config key",
    "MV-CONFIG-002": "config value of the wrong type or outside its range",
    "MV-CONFIG-003": "unknown experiment, model, loss, metric or figure",
    "MV-CONFIG-004": "config values that contradict each other",
    "MV-CONFIG-005": "config file that is not valid YAML or TOML",
    "MV-DATA-001": "file missing",
    "MV-DATA-002": "file cannot be read: truncated, corrupt or not of the format its name says",
    "MV-DATA-003": "volume is not three-dimensional",
    "MV-DATA-004": "image and label differ in shape",
    "MV-DATA-005": "image and label differ in geometry",
    "MV-DATA-006": "NaN or infinite voxels",
    "MV-DATA-007": "label values that are not 0 and 1 and have no mapping",
    "MV-DATA-008": "empty label",
    "MV-DATA-009": "spacing missing, zero or negative",
    "MV-DATA-010": "implausible unit of the spacing",
    "MV-DATA-011": "duplicate case name",
    "MV-DATA-012": "the same file under two names",
    "MV-DATA-013": "list of cases that cannot be used",
    "MV-DATA-014": "constant image",
    "MV-DATA-015": "file differs from the published checksum or statistics",
    "MV-DATA-016": "suspicious vessel fraction",
    "MV-DATA-017": "validation found errors",
    "MV-DATA-018": "volume of an external set that is among the experiment's own",
    "MV-DATA-019": "external set of the same origin as the experiment's own data",
    "MV-DATA-020": "label that looks like an image: the two may be swapped",
    "MV-FOLDS-001": "a group is in both training and validation",
    "MV-FOLDS-002": "fewer groups than folds need",
    "MV-FOLDS-003": "folds file that does not fit the cases",
    "MV-PATCH-001": "patch larger than the smallest volume",
    "MV-PATCH-002": "patch that the network cannot divide",
    "MV-MODEL-001": "published weights that a network starts from are not there",
    "MV-MODEL-002": "file that is not the weights of the network",
    "MV-LOCK-001": "label of a locked test case",
    "MV-LOCK-002": "test set that is locked for this analysis",
    "MV-LOCK-003": "audit log that was changed",
    "MV-LOCK-004": "unlock without a reason or a name",
    "MV-LOCK-005": "no test set",
    "MV-STATE-001": "results that belong to another configuration",
    "MV-STATE-002": "input of a step is missing: an earlier step has not run",
    "MV-STATE-003": "checkpoint, or another file that a step has written, cannot be read",
    "MV-STATE-004": "the experiment is being run by another process",
    "MV-STATE-005": "results that were changed after they were made",
    "MV-STATE-006": "a second run gave other bytes",
    "MV-SYSTEM-001": "folder cannot be written",
    "MV-SYSTEM-002": "disk full",
    "MV-SYSTEM-003": "device not available",
    "MV-SYSTEM-004": "program missing",
    "MV-SYSTEM-005": "shared memory too small",
    "MV-SYSTEM-006": "memory ran out",
    "MV-TRAIN-001": "the loss is no longer finite",
    "MV-TRAIN-002": "a process of a training on several devices ended before the others",
    "MV-TRAIN-003": "a loss of one's own that cannot be trained with",
    "MV-TRACK-001": "tracking database cannot be reached or is locked",
    "MV-TRACK-002": "tracking store of a kind that is no longer supported",
    "MV-TRACK-003": "tracking database lacks what the files have",
    "MV-PAPER-001": "the paper cannot be rendered",
    "MV-QUERY-001": "SQL query that cannot be run",
    "MV-CONFORMAL-001": "too few calibration cases for the risk that was asked for",
    "MV-ENSEMBLE-001": "members of an ensemble that are the same network",
    "MV-ENSEMBLE-002": "case that a member of an ensemble was trained or selected on",
    "MV-UPLOAD-001": "upload of more bytes than the limit",
    "MV-UPLOAD-002": "upload of more voxels than the limit",
    "MV-UPLOAD-003": "upload of a format that is not accepted",
    "MV-UPLOAD-004": "upload that is truncated or damaged",
    "MV-UPLOAD-005": "upload whose header and data contradict each other",
    "MV-UPLOAD-006": "upload that is not one three-dimensional channel",
    "MV-UPLOAD-007": "upload with voxels that are NaN, infinite or (almost) all the same",
    "MV-UPLOAD-008": "upload whose spacing is missing or implausible",
    "MV-UPLOAD-009": "upload whose name or header points to another file",
    "MV-DEPLOY-001": "network that cannot be exported",
    "MV-FLOW-001": "a flow that another one needs has not run, or has failed",
    "MV-FLOW-002": "Prefect server cannot be reached or started",
    "MV-FLOW-003": "schedule that cannot be used",
    "MV-UPLOAD-010": "reference that does not fit the uploaded volume",
    "MV-SERVICE-001": "service that would be open to everybody without a token",
    "MV-SERVICE-002": "request without the right token",
    "MV-SERVICE-003": "request to a foreign name of this machine, or from another site's page",
    "MV-SERVICE-004": "the service is busy",
    "MV-SERVICE-005": "volume that takes longer than the limit",
    "MV-SERVICE-006": "upload that takes longer than the limit",
    "MV-SERVICE-007": "request that is not the form that the service expects",
    "MV-SERVICE-008": "volume that does not fit into the memory that is left",
    "MV-SERVICE-009": "service or page that did not start, or ended by itself",
    "MV-DEPLOY-002": "exported network that differs from the trained one by more than is allowed",
    "MV-INTERNAL-001": "a defect of MiniVess itself",
}

EXIT_STATUS: dict[str, int] = {
    "INTERNAL": 1,
    "CONFIG": 2,
    "QUERY": 2,
    "DATA": 3,
    "FOLDS": 3,
    "PATCH": 3,
    "SYSTEM": 4,
    "STATE": 5,
    "TRACK": 6,
    "PAPER": 7,
    "TRAIN": 8,
    "LOCK": 9,
    "MODEL": 3,
    "CONFORMAL": 10,
    "ENSEMBLE": 9,
    "UPLOAD": 3,
    "DEPLOY": 11,
    "FLOW": 12,
    "SERVICE": 13,
}

# What may be gone a minute later. Config and data stay as they are: trying again changes nothing.
RETRYABLE = frozenset(
    {
        "MV-SYSTEM-001",
        "MV-SYSTEM-002",
        "MV-SYSTEM-003",
        "MV-TRACK-001",
        "MV-TRAIN-002",
    }
)


@dataclass(eq=False)
class MinivessError(Exception):
    """An error for people: code, what, where, found, expected, fix.

    >>> error = MinivessError(
    ...     "MV-DATA-009",
    ...     what="the volume has no spacing",
    ...     where="case mv01, file mv01.tif",
    ...     found="no spacing in the file, none in the list of cases",
    ...     expected="three positive numbers in micrometres",
    ...     fix="add the columns spacing_x_um,spacing_y_um,spacing_z_um to cases.csv",
    ... )
    >>> error.exit_status
    3
    """

    code: str
    what: str
    where: str = ""
    found: str = ""
    expected: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(f"error code {self.code} is not in minivess.errors.CODES")

    def __reduce__(self) -> tuple[Any, ...]:
        """How another process gets it: an exception keeps only what was given without a name."""
        return type(self), astuple(self)

    @property
    def exit_status(self) -> int:
        """Exit status of the process that ends with this error."""
        return EXIT_STATUS[self.code.split("-")[1]]

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.what}"]
        for name in ("where", "found", "expected", "fix"):
            text = getattr(self, name)
            if text:
                lines.append(f"  {name + ':':<10}{text}")
        return "\n".join(lines)


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like `word`.

    Raises:
        IndexError: nothing is known.

    >>> closest("spacing", ["case", "spacing_x_um"])
    'spacing_x_um'
    """
    return difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.0)[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word nearest to a misspelt one, as a suggestion; all of them where none is near.

    >>> nearest("epoch", ["epochs", "seeds"])
    'did you mean epochs?'
    """
    words = sorted(known)
    matches = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if matches:
        return f"did you mean {matches[0]}?"
    return "known: " + ", ".join(words)
