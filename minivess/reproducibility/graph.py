"""The graph of an experiment: which file is made from which, by which rule and command.

The Snakefile's hooks write it after a run, from Snakemake's own DAG. Digests of inputs are those
that their jobs recorded, so that a file that was made anew afterwards is noticed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from minivess import output, paths, provenance
from minivess.errors import MinivessError
from minivess.reproducibility.records import Made, made_files, read_record, record_file

# Larger files of the user are volumes or a ZIP of them; the manifest has the volumes' digests.
SMALL_BYTES = 4 << 20
# The rules that a run of the whole experiment never has: those of its other targets.
OTHER_TARGETS = frozenset(
    {"dashboard", "deploy", "deploy_onnx", "deploy_parity", "evaluate_external", "paper"}
)


@dataclass(frozen=True)
class Job:
    """A job of the DAG; paths are relative to the working folder.

    Attributes:
        rule: its name.
        command: its shell command.
        log: its log; empty where it has none.
        inputs: SHA-256 of each file it read; none where it is not known, or only to the manifest.
        outputs: the files it declares, then those that it recorded beside them.
    """

    rule: str
    command: str
    log: str
    inputs: dict[str, str | None]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Results folder of an experiment, relative to the working folder, and all its jobs."""

    root: str
    jobs: tuple[Job, ...]


def write_graph(
    root: Path, jobs: Sequence[Mapping[str, Sequence[str] | str]], others: Collection[str] | None
) -> Graph:
    """Write logs/dag.json: these jobs, and of those that were known before what still holds.

    Args:
        root: results folder of the experiment.
        jobs: every job of the DAG that is done, as rule, command, log, inputs and outputs.
        others: after a run of the whole experiment `OTHER_TARGETS`; jobs of any other rule are
            forgotten where they are not among `jobs`, also of one that the config no longer asks
            for. None after a partial or failed run: all jobs stay but those whose outputs are made
            otherwise now.

    Raises:
        MinivessError: MV-STATE-003 a record or the graph is damaged, MV-SYSTEM-... from writing.
    """
    made = made_files(root)
    new = [_with_digests(_job(values), root, made) for values in jobs]
    taken = {name for job in new for name in job.outputs}
    old = read_graph(root).jobs if paths.job_graph(root).is_file() else ()
    kept = [
        job
        for job in old
        if not taken & set(job.outputs) and (others is None or job.rule in others)
    ]
    graph = Graph(root.as_posix(), tuple(sorted([*kept, *new], key=lambda job: job.outputs)))
    output.write_json(asdict(graph), paths.job_graph(root))
    return graph


def _job(values: Mapping[str, Sequence[str] | str]) -> Job:
    return Job(
        rule=str(values["rule"]),
        command=_portable(str(values["command"])),
        log=next(iter(values["log"]), ""),
        inputs=dict.fromkeys(_relative(name) for name in values["inputs"]),
        outputs=tuple(values["outputs"]),
    )


def _relative(name: str) -> str:
    """A path relative to the working folder where it lies in it: the project's own files."""
    path, here = Path(name), Path.cwd()
    below = path.is_absolute() and path.is_relative_to(here)
    return path.relative_to(here).as_posix() if below else name


def _portable(command: str) -> str:
    """A command without this machine's folders: programs by name, relative paths."""
    for text, by in (
        (f"{sys.executable} -m minivess", "minivess"),
        (sys.executable, "python"),
        (f"{Path.cwd()}/", ""),
    ):
        command = command.replace(text, by)
    return command


def _with_digests(job: Job, root: Path, made: Mapping[str, Made]) -> Job:
    record = read_record(record_file(Path(job.log))) if job.log else None
    config = paths.step_config(root, "x").parent
    digests: dict[str, str | None] = {}
    for name in job.inputs:
        path = Path(name)
        below = path.relative_to(root).as_posix() if path.is_relative_to(root) else None
        if path.parent == config:
            digests[name] = record.config.get(path.stem) if record else None
        elif below is not None:
            digests[name] = made[below].digest if below in made else None
        else:
            small = path.is_file() and path.stat().st_size <= SMALL_BYTES
            digests[name] = provenance.file_sha256(path) if small else None
    written = dict.fromkeys(record.outputs) if record else {}
    # A rule cannot declare what depends on the folds: the volumes of ensembles.
    beside = [name for name in written if name not in job.outputs]
    own = beside if written.keys() >= set(job.outputs) else []
    return replace(job, inputs=digests, outputs=(*job.outputs, *own))


def read_graph(root: Path) -> Graph:
    """The graph of an experiment.

    Raises:
        MinivessError: MV-STATE-002 there is none, MV-STATE-003 damaged.
    """
    path = paths.job_graph(root)
    if not path.is_file():
        raise MinivessError(
            "MV-STATE-002",
            what="it is not recorded what was made from what",
            where=str(path),
            found="results of an earlier version, or a run that was killed",
            fix=f"remove {paths.digests(root)} if it is there and run the experiment again; this "
            "makes that file and the record, nothing else",
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        jobs = [Job(**{**job, "outputs": tuple(job["outputs"])}) for job in values["jobs"]]
        return Graph(str(values["root"]), tuple(jobs))
    except (ValueError, KeyError, TypeError) as error:
        raise MinivessError(
            "MV-STATE-003",
            what="the record of what was made from what cannot be read",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            fix=f"remove {path} and {paths.digests(root)} and run the experiment again",
        ) from error
