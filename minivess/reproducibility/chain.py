"""The chain behind a result: every job and file that it was made from, back to the raw volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from minivess import paths
from minivess.errors import MinivessError, closest
from minivess.reproducibility.graph import Graph, Job, read_graph
from minivess.reproducibility.records import JobRecord, read_record, record_file


@dataclass(frozen=True)
class Chain:
    """A result and everything behind it.

    Attributes:
        root: results folder as it lies here.
        recorded: results folder as the records name it, relative to their working folder.
        target: the result, as the records name it.
        jobs: all jobs behind it, each after those that made its inputs.
        records: what each job left, by its first output; jobs without record are not in it.
        volumes: digests of the source volumes, by their names in the manifest.
    """

    root: Path
    recorded: Path
    target: str
    jobs: tuple[Job, ...]
    records: Mapping[str, JobRecord]
    volumes: Mapping[str, str]

    @cached_property
    def producers(self) -> dict[str, Job]:
        """The job that made each file."""
        return {name: job for job in self.jobs for name in job.outputs}

    @property
    def inputs(self) -> list[str]:
        """Every input that no job made, configs of steps included, each once."""
        names = {name: None for job in self.jobs for name in job.inputs}
        return [name for name in names if name not in self.producers]

    def record(self, job: Job) -> JobRecord | None:
        """What a job left; none where it left nothing."""
        return self.records.get(job.outputs[0])

    def digest(self, name: str) -> str | None:
        """What a file was when it was made, or when the run ended that used it."""
        job = self.producers.get(name)
        if job is not None:
            record = self.record(job)
            return record.outputs.get(name) if record else None
        known = (job.inputs[name] for job in self.jobs if job.inputs.get(name))
        return next(known, self.volumes.get(name))

    def is_config(self, name: str) -> bool:
        """Whether a file is the resolved config of a step."""
        return Path(name).parent == paths.step_config(self.recorded, "x").parent

    def label(self, job: Job) -> str:
        """What a job is called: its rule, and which of its jobs it is where it has several."""
        return Path(job.log).relative_to(self.recorded / "logs").with_suffix("").as_posix()

    def short(self, name: str) -> str:
        """The name of a file below the results folder, else as recorded."""
        path = Path(name)
        below = path.is_relative_to(self.recorded)
        return path.relative_to(self.recorded).as_posix() if below else name

    def place(self, name: str) -> Path:
        """Where a recorded file lies here: also where the results folder was moved or copied."""
        path = Path(name)
        if path.is_relative_to(self.recorded):
            return self.root / path.relative_to(self.recorded)
        return working_folder(self.root, self.recorded) / path


def working_folder(root: Path, recorded: Path) -> Path:
    """The folder that an experiment was run in: the present one where its results were moved."""
    levels = len(recorded.parts)
    if not recorded.is_absolute() and root.parts[-levels:] == recorded.parts:
        return root.parents[levels - 1]
    return Path.cwd()


def results_folder(path: Path) -> Path:
    """The results folder that a file lies in.

    Raises:
        MinivessError: MV-STATE-002 in none whose graph is recorded.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - a link names the file it was asked for
    for folder in whole.parents:
        if paths.job_graph(folder).is_file():
            return folder
    results = paths.RESULTS.absolute()
    if whole.is_relative_to(results) and whole != results:
        read_graph(results / whole.relative_to(results).parts[0])  # says what is missing there
    raise MinivessError(
        "MV-STATE-002",
        what="the file is not in the results folder of an experiment",
        where=str(path),
        expected=f"a file below {paths.RESULTS}/<experiment>/, or in a copy of that folder with "
        "its logs",
        fix="name a result, for example results/demo/figures/paired_cases.svg",
    )


def chain_of(path: Path) -> Chain:
    """The chain behind a result.

    Args:
        path: a declared output of an experiment; it need not be there any more.

    Raises:
        MinivessError: MV-STATE-002 nothing is recorded, MV-STATE-003 a record is damaged,
            MV-CONFIG-003 no step makes this file.
    """
    root = results_folder(path)
    graph = read_graph(root)
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - as above
    target = (Path(graph.root) / whole.relative_to(root)).as_posix()
    producers = {name: job for job in graph.jobs for name in job.outputs}
    if target not in producers:
        raise MinivessError(
            "MV-CONFIG-003",
            what="no step makes this file",
            where=str(path),
            fix=f"did you mean {_nearest(target, graph, root)}?",
        )
    return _chain(root, graph, target, [producers[target]])


def whole_chain(root: Path) -> Chain:
    """The chain of all jobs of an experiment, with its digests as the result.

    Raises:
        MinivessError: MV-STATE-002 nothing is recorded, MV-STATE-003 a record is damaged.
    """
    graph = read_graph(root)
    return _chain(root, graph, paths.digests(Path(graph.root)).as_posix(), graph.jobs)


def _chain(root: Path, graph: Graph, target: str, last: Sequence[Job]) -> Chain:
    producers = {name: job for job in graph.jobs for name in job.outputs}
    jobs = tuple(_behind(last, producers))
    return Chain(root, Path(graph.root), target, jobs, _records(jobs, graph, root), _volumes(root))


def _nearest(target: str, graph: Graph, root: Path) -> str:
    name = closest(target, [name for job in graph.jobs for name in job.outputs])
    path, here = root / Path(name).relative_to(graph.root), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _behind(last: Sequence[Job], producers: Mapping[str, Job]) -> Iterator[Job]:
    """Some jobs and all behind them, each once and after those that it depends on."""
    started: set[str] = set()
    for job in last:
        if job.outputs[0] not in started:
            started.add(job.outputs[0])
            yield from _walk(job, producers, started)


def _walk(last: Job, producers: Mapping[str, Job], started: set[str]) -> Iterator[Job]:
    open_jobs = [(last, iter(last.inputs))]
    while open_jobs:
        job, names = open_jobs[-1]
        for name in names:
            behind = producers.get(name)
            if behind is not None and behind.outputs[0] not in started:
                started.add(behind.outputs[0])
                open_jobs.append((behind, iter(behind.inputs)))
                break
        else:
            open_jobs.pop()
            yield job


def _records(jobs: tuple[Job, ...], graph: Graph, root: Path) -> dict[str, JobRecord]:
    found = {}
    for job in jobs:
        if job.log:
            log = root / Path(job.log).relative_to(graph.root)
            record = read_record(record_file(log))
            if record is not None:
                found[job.outputs[0]] = record
    return found


def _volumes(root: Path) -> dict[str, str]:
    """Digests of all volumes and labels by file name, as the manifest has them."""
    import polars as pl

    path = paths.manifest(root)
    if not path.is_file():
        return {}
    try:
        table = pl.read_parquet(path, columns=["image", "image_sha256", "label", "label_sha256"])
    except (pl.exceptions.PolarsError, OSError):
        return {}  # its own digest says that it was changed
    pairs = [*zip(table["image"], table["image_sha256"], strict=True)]
    pairs += [*zip(table["label"], table["label_sha256"], strict=True)]
    return {name: digest for name, digest in pairs if digest}
