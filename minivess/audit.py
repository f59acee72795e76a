"""A log that shows when it was changed: every line carries the digest of the line before it.

The form is JSON Lines. Changing, removing or reordering lines breaks the chain. Cutting off the
tail does not, so a seal beside the log holds the number of lines and the digest of the last one.
Who can write both files can forge both: only a head digest noted elsewhere (a lab book, a
preregistration, a commit) proves that nothing before it was changed since. Source of the idea:
Schneier and Kelsey 1999, Secure audit logs to support computer forensics, doi
10.1145/317087.317089 (without their keys: there is no secret on a researcher's machine).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minivess import output, provenance
from minivess.errors import MinivessError

LOG, SEAL, LOCK = "log.jsonl", "seal.json", ".lock"
# Events of the test set; the fact `analysis` of their lines is the digest of what is evaluated.
UNLOCK, EVALUATE = "unlock-test", "test-evaluate"
FIRST = "0" * 64


@dataclass(frozen=True)
class Line:
    """One line of the log.

    Attributes:
        number: from 1, without gaps.
        time: UTC, ISO 8601.
        event: what happened.
        who, reason: as they were given.
        facts: what it was about, plain values.
        previous: digest of the line before; zeros for the first one.
        digest: SHA-256 of all other fields as canonical JSON.
    """

    number: int
    time: str
    event: str
    who: str
    reason: str
    facts: Mapping[str, Any]
    previous: str
    digest: str


def append(folder: Path, event: str, who: str, reason: str, facts: Mapping[str, Any]) -> Line:
    """Add a line to the log of a folder and seal it; the whole log is checked first.

    Args:
        folder: of the log; it need not be there.
        event: one word.
        who: a name.
        reason: a sentence.
        facts: plain values.

    Raises:
        MinivessError: MV-LOCK-003 the log was changed, MV-LOCK-004 no name or no reason,
            MV-SYSTEM-... it cannot be written.
    """
    from filelock import FileLock

    for name, text in (("who", who), ("reason", reason)):
        if not text.strip():
            raise MinivessError(
                "MV-LOCK-004",
                what=f"the log needs to know {name}",
                where=f"--{name}",
                found=repr(text),
                expected="a name and a sentence that others understand later",
                fix='for example --who "A. Researcher" --reason "final result, as preregistered"',
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            return _append(folder, event, who.strip(), reason.strip(), facts)
    except OSError as error:
        raise output.os_error(error, folder / LOG) from error


def _append(folder: Path, event: str, who: str, reason: str, facts: Mapping[str, Any]) -> Line:
    lines = verify(folder)
    values: dict[str, Any] = {
        "number": len(lines) + 1,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "event": event,
        "who": who,
        "reason": reason,
        "facts": facts,
        "previous": lines[-1].digest if lines else FIRST,
    }
    lines.append(Line(**values, digest=provenance.json_sha256(values)))
    output.write_text("".join(_as_text(line) + "\n" for line in lines), folder / LOG)
    # Killed before this, the log has one line more than its seal; `verify` knows.
    output.write_json({"lines": len(lines), "head": lines[-1].digest}, folder / SEAL)
    return lines[-1]


def _as_text(line: Line) -> str:
    return json.dumps(asdict(line), sort_keys=True)


def verify(folder: Path) -> list[Line]:
    """The lines of a log that nobody has changed; none where there is no log.

    A last line that is not sealed passes: the process that appended it was killed in between.

    Raises:
        MinivessError: MV-LOCK-003 the first thing that does not fit.
    """
    log, seal = folder / LOG, folder / SEAL
    if not log.exists() and not seal.exists():
        return []
    if not log.exists():
        raise _changed(log, "a seal without a log", "the log that was sealed")
    lines: list[Line] = []
    for number, text in enumerate(log.read_bytes().split(b"\n")[:-1], 1):
        lines.append(_checked(text, number, lines[-1].digest if lines else FIRST, log))
    if not log.read_bytes().endswith(b"\n"):
        raise _changed(log, "a last line without its end", "whole lines")
    count, head = _read_seal(seal)
    if (
        count not in (len(lines), len(lines) - 1)
        or head != ([FIRST] + [line.digest for line in lines])[count]
    ):
        raise _changed(
            log,
            f"{len(lines)} lines, the last one {lines[-1].digest[:16]}...",
            f"{count} lines, the last one {head[:16]}..., as {seal} has sealed",
        )
    return lines


def _checked(text: bytes, number: int, previous: str, log: Path) -> Line:
    where = f"{log}, line {number}"
    try:
        values = json.loads(text)
        line = Line(**{field.name: values[field.name] for field in fields(Line)})
    except (ValueError, KeyError, TypeError) as error:
        raise _changed(where, f"{type(error).__name__}: {error}", "a line of the log") from error
    if line.number != number or line.previous != previous:
        found = f"number {line.number}, after the line {str(line.previous)[:16]}..."
        raise _changed(where, found, f"number {number}, after the line {previous[:16]}...")
    rest = {name: value for name, value in values.items() if name != "digest"}
    if line.digest != provenance.json_sha256(rest) or text != _as_text(line).encode():
        raise _changed(where, "other content than its digest", "the line as it was written")
    return line


def _read_seal(seal: Path) -> tuple[int, str]:
    try:
        values = json.loads(seal.read_text(encoding="utf-8"))
        return int(values["lines"]), str(values["head"])
    except FileNotFoundError:
        return 0, FIRST
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _changed(seal, f"{type(error).__name__}: {error}", "number and head") from error


def _changed(where: Path | str, found: str, expected: str) -> MinivessError:
    return MinivessError(
        "MV-LOCK-003",
        what="the audit log is not what was written",
        where=str(where),
        found=found,
        expected=expected,
        fix="restore log and seal from a backup; if there is none, say so where the results are "
        "reported: what was unlocked before cannot be shown any more",
    )
