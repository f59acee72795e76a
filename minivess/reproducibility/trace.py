"""A chain as a person reads it, a tree from the result to the raw volumes, and as JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from minivess.reproducibility.chain import Chain
from minivess.reproducibility.graph import Job

SHORT = 12
_LOG = re.compile(r"--log \S+ ")


def as_text(chain: Chain, everything: bool = False) -> str:
    """The chain as a tree; what was shown before is not repeated.

    Args:
        chain: what to show.
        everything: each job and file on its own, where else those of one rule share a line.
    """
    tree = Tree(Text(_files(chain, [chain.target])))
    shown: set[str] = set()
    _grow(chain, tree, [chain.producers[chain.target]], shown, everything)
    console = Console(file=io.StringIO(), width=10_000, color_system=None)
    with console.capture() as capture:
        console.print(tree)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _grow(chain: Chain, tree: Tree, jobs: Sequence[Job], shown: set[str], everything: bool) -> None:
    """Add to a branch what its files were made by and from."""
    label = tree.label
    assert isinstance(label, Text)
    label.append("\n" + _made_by(chain, jobs))
    if all(job.outputs[0] in shown for job in jobs):
        label.append(" (see above)")
        return
    shown |= {job.outputs[0] for job in jobs}
    label.append("\n" + _with(chain, jobs))
    given: dict[str, None] = {}
    groups: dict[str, tuple[dict[str, Job], dict[str, None]]] = {}
    for name in dict.fromkeys(name for job in jobs for name in job.inputs):
        behind = chain.producers.get(name)
        if behind is None:
            if not chain.is_config(name):
                given[name] = None
            continue
        key = behind.outputs[0] if everything else behind.rule
        makers, files = groups.setdefault(key, ({}, {}))
        makers[behind.outputs[0]] = behind
        files[name] = None
    for makers, files in groups.values():
        branch = tree.add(Text(_files(chain, list(files), everything)))
        _grow(chain, branch, list(makers.values()), shown, everything)
    for names in _given(chain, given, everything):
        tree.add(Text(names))


def _files(chain: Chain, names: Sequence[str], everything: bool = False) -> str:
    lines = [f"{chain.short(name)}  {_short(chain.digest(name))}" for name in names]
    if everything or len(lines) == 1:
        return "\n".join(lines)
    return f"{len(lines)} files: {lines[0]}, ..."


def _short(digest: str | None) -> str:
    return digest[:SHORT] if digest else "(not recorded)"


def _made_by(chain: Chain, jobs: Sequence[Job]) -> str:
    rule, command = jobs[0].rule, _LOG.sub("", jobs[0].command)
    if len(jobs) == 1:
        return f"made by {rule}: {command}"
    return f"made by {len(jobs)} jobs of {rule}, the first one: {command}"


def _with(chain: Chain, jobs: Sequence[Job]) -> str:
    """Config, code, commit and lock of jobs; each value once."""
    records = [record for job in jobs if (record := chain.record(job))]
    configs = dict.fromkeys(name for job in jobs for name in job.inputs if chain.is_config(name))
    parts = [f"{chain.short(name)} {_short(_config(chain, jobs, name))}" for name in configs]
    if not records:
        return ", ".join([*parts, "no record of the job"])
    changed = {"true": " with changes"}
    commits = [r.git["git_commit"] + changed.get(r.git["git_dirty"], "") for r in records]
    parts.append(f"code {_all(record.code for record in records)}")
    parts.append("commit " + _all(_commit(commit) for commit in commits))
    parts.append("lock " + _all(_short(record.lock) for record in records))
    digests = [record.run_digest for record in records if record.run_digest]
    if digests:
        parts.append("run " + _all(map(_short, digests)))
    return ", ".join(parts)


def _config(chain: Chain, jobs: Iterable[Job], name: str) -> str | None:
    return next((job.inputs[name] for job in jobs if job.inputs.get(name)), None)


def _commit(text: str) -> str:
    commit, _, changes = text.partition(" ")
    return f"{commit[:SHORT]} {changes}".strip()


def _all(values: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]} and {len(distinct) - 1} others"


def _given(chain: Chain, names: Iterable[str], everything: bool) -> list[str]:
    """Lines for what the user gave: volumes, and other files each on its own."""
    volumes = [name for name in names if name in chain.volumes]
    others = [name for name in names if name not in chain.volumes]
    if everything or len(volumes) < 2:
        others, volumes = [*volumes, *others], []
    lines = [f"{name}  {_short(chain.digest(name))}, given by the user" for name in others]
    if volumes:
        first = f"{volumes[0]}  {_short(chain.digest(volumes[0]))}"
        lines.insert(0, f"{len(volumes)} volumes and labels given by the user: {first}, ...")
    return lines


def as_json(chain: Chain) -> str:
    """The chain as JSON; see `as_values`."""
    return json.dumps(as_values(chain), indent=1)


def as_values(chain: Chain) -> dict[str, Any]:
    """The chain as plain values for JSON: jobs from the raw volumes to the result, nothing folded.

    Paths are as they were in the working folder of the run.
    """
    return {
        "file": chain.target,
        "sha256": chain.digest(chain.target),
        "given": {name: chain.digest(name) for name in chain.inputs if not chain.is_config(name)},
        "jobs": [_job_values(chain, job) for job in chain.jobs],
    }


def _job_values(chain: Chain, job: Job) -> dict[str, Any]:
    record = chain.record(job)
    values = {
        "rule": job.rule,
        "command": job.command,
        "log": job.log,
        "inputs": {name: digest or chain.digest(name) for name, digest in job.inputs.items()},
        "outputs": {name: chain.digest(name) for name in job.outputs},
    }
    apart = ("rule", "command", "root", "outputs", "config")
    kept = (
        {key: value for key, value in asdict(record).items() if key not in apart}
        if record
        else None
    )
    return {**values, "record": kept}
