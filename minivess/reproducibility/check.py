"""A chain checked: every file behind a result is what it was when the result was made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from minivess import provenance, stepcode
from minivess.errors import MinivessError
from minivess.reproducibility.chain import Chain
from minivess.reproducibility.graph import Job
from minivess.reproducibility.records import JobRecord, lock_digest

SHOWN = 20


@dataclass
class Findings:
    """What a check has found so far.

    Attributes:
        equal: files that are what they were.
        problems: file -> what is wrong with it, raw volumes first.
        absent: the user's files that are not on this machine.
        unknown: files of which no digest is known.
        seen: all of them.
    """

    equal: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def check_chain(chain: Chain) -> list[str]:
    """What a check of all files found, and in what code, lock or commit differ from this checkout.

    Files below the results folder must be there. The user's own may be absent where results were
    copied to another machine; the manifest says what they were.

    Raises:
        MinivessError: MV-STATE-005 with every file that is not what it was, the first one of the
            chain first.
    """
    found = Findings()
    used = {chain.target, *(name for job in chain.jobs for name in job.inputs)}
    _check_volumes(chain, found)
    for job in chain.jobs:
        for name in job.inputs:
            if name in chain.producers:
                _check_age(chain, job, name, found)
            elif name not in found.seen:
                _check_given(chain, job, name, found)
        for name in job.outputs:
            if name in used:
                _compare(chain, name, chain.digest(name), found, f"changed since {job.rule} made")
    if found.problems:
        raise _changed(chain, found)
    return [_summary(found), *_notes(chain, found)]


def check_configs(chain: Chain) -> None:
    """Raise where the resolved configs are no longer those that the jobs ran with.

    Raises:
        MinivessError: MV-STATE-005, as `check_chain`.
    """
    found = changed_configs(chain, chain.jobs)
    if found.problems:
        raise _changed(chain, found)


def changed_configs(chain: Chain, jobs: Iterable[Job]) -> Findings:
    """What a check of the resolved configs of some jobs of a chain finds."""
    found = Findings()
    for job in jobs:
        for name in filter(chain.is_config, job.inputs):
            _check_given(chain, job, name, found)
    return found


def outdated(chain: Chain, rules: Collection[str]) -> list[Job]:
    """Jobs of some rules that ran with another config, or from other files, than there are now.

    With them those that were made from what they made.
    """
    found = Findings()
    old: list[Job] = []
    for job in chain.jobs:
        if job.rule not in rules:
            continue
        found.problems.clear()
        for name in job.inputs:
            if name in chain.producers:
                _check_age(chain, job, name, found)
            else:
                _check_given(chain, job, name, found)
        if found.problems or any(chain.producers.get(name) in old for name in job.inputs):
            old.append(job)
    return old


def _check_volumes(chain: Chain, found: Findings) -> None:
    """The user's volumes; of two files, header and voxels, the manifest has one digest."""
    from minivess.data.volume import data_files

    for name in chain.inputs:
        if name not in chain.volumes:
            continue
        files = data_files(chain.place(name))
        names = [name, *(Path(name).with_name(file.name).as_posix() for file in files[1:])]
        found.seen |= set(names)
        if not all(file.is_file() for file in files):
            found.absent += names
        elif _digest(files) == chain.volumes[name]:
            found.equal += names
        else:
            found.problems[name] = "changed since the manifest was made"


def _digest(files: Iterable[Path]) -> str:
    """SHA-256 of the bytes of files one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _check_given(chain: Chain, job: Job, name: str, found: Findings) -> None:
    """A config, or a file of the user that is no volume."""
    record = chain.record(job)
    expected = job.inputs[name]
    if chain.is_config(name) and record is not None:
        expected = record.config.get(Path(name).stem, expected)
    elif not chain.place(name).is_file():
        found.seen.add(name)
        found.absent.append(name)
        return
    _compare(chain, name, expected, found, f"changed since {job.rule} used")


def _compare(chain: Chain, name: str, expected: str | None, found: Findings, changed: str) -> None:
    path = chain.place(name)
    found.seen.add(name)
    if not path.is_file():
        found.problems[name] = "missing"
    elif expected is None:
        found.unknown.append(name)
    elif provenance.file_sha256(path) == expected:
        found.equal.append(name)
    else:
        found.problems[name] = f"{changed} it"


def _check_age(chain: Chain, job: Job, name: str, found: Findings) -> None:
    used, made = job.inputs[name], chain.digest(name)
    if used and made and used != made:
        what = f"made from another {chain.short(name)} than there is now"
        found.seen.add(job.outputs[0])
        found.problems.setdefault(job.outputs[0], what)


def _changed(chain: Chain, found: Findings) -> MinivessError:
    lines = [f"{chain.short(name)}: {what}" for name, what in found.problems.items()]
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return MinivessError(
        "MV-STATE-005",
        what="what is behind this result is not what it was made from",
        where=f"{chain.short(next(iter(found.problems)))}, the first one of the chain",
        found="\n  ".join([f"{len(lines)} of {len(found.seen)} files:", *lines[:SHOWN], *more]),
        expected="the digests that the jobs recorded",
        fix="remove the changed results, restore the changed files of your own, and run the "
        "experiment again; it makes anew what is missing and what depends on it",
    )


def _summary(found: Findings) -> str:
    return f"{len(found.equal)} files are what they were when the result was made"


def _notes(chain: Chain, found: Findings) -> Iterator[str]:
    records = [(job, record) for job in chain.jobs if (record := chain.record(job))]
    if found.absent:
        yield f"not here, so not checked, of the files given by the user: {_some(found.absent)}"
    if found.unknown:
        yield f"without a recorded digest: {_some([chain.short(n) for n in found.unknown])}"
    here, lock = provenance.git_state(), lock_digest()
    differing: dict[str, Callable[[Job, JobRecord], bool]] = {
        "made by other code than this checkout": lambda job, record: (
            code_here(job) not in (record.code, None)
        ),
        "made with another uv.lock than this checkout has": lambda _, record: record.lock != lock,
        "made at another commit than this checkout": lambda _, record: (
            record.git["git_commit"] != here["git_commit"]
        ),
        "made while the checkout differed from its commit": lambda _, record: (
            record.git["git_dirty"] == "true"
        ),
    }
    for text, differs in differing.items():
        rules = dict.fromkeys(job.rule for job, record in records if differs(job, record))
        if rules:
            yield f"{text}: {', '.join(rules)}"


def code_here(job: Job) -> str | None:
    """Digest of the code behind a job in this checkout; none where it has no such step."""
    if job.rule not in stepcode.STEPS:
        return None
    name = Path(job.log).stem
    return stepcode.figure_digest(name) if job.rule == "figure" else stepcode.step_digest(job.rule)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
