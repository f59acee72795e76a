"""How a flow is shown in Prefect: a task run for each job, progress, artifacts.

A job that Snakemake runs is a task run that waits for it: it begins and ends with the job, has the
lines of its log, and fails with its error. What Prefect does or fails to do changes no result.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.states import Cancelled

from minivess.flows.stages import run_stage
from minivess.flows.tables import metrics_markdown
from minivess.job_events import FAILED, FINISHED, PROGRESS, STARTED, JobEvent
from minivess.logs import error_record, say

TAIL_S = 1.0
CANCEL_POLL_S = 2.0
SILENCE_S = 60.0

# Flows that this process has run to their end, whether or not Prefect could be told.
FINISHED_FLOWS: list[str] = []
# Flow runs that the running one is a part of: who cancels them means it, too.
OUTER_RUNS: list[UUID] = []


class JobFailed(Exception):  # noqa: N818
    """A job of Snakemake failed."""


class RunCancelled(Exception):  # noqa: N818
    """Somebody cancelled the flow run in Prefect."""


class Job:
    """A job while it runs: its log, and whether it has ended and how."""

    def __init__(self, log: Path | None) -> None:
        self.log = log
        self.ended = Event()
        self.failed = False
        self.position = 0

    def new_lines(self) -> list[str]:
        """Lines that the log got since the last call."""
        if self.log is None or not self.log.is_file():
            return []
        content = self.log.read_bytes()
        end = len(content) if self.ended.is_set() else content.rfind(b"\n") + 1
        lines = content[self.position : end].decode("utf-8", "replace").splitlines()
        self.position = max(end, self.position)
        return lines

    def error(self) -> str:
        """What the step has left as its error."""
        record = error_record(self.log) if self.log is not None else None
        if record is None or not record.is_file():
            return "the job was killed, or left no error"
        return record.read_text(encoding="utf-8")


@task(name="job", cache_policy=NO_CACHE)
def follow(job: Job) -> None:
    """Wait for a job of Snakemake; its log lines become those of the task run."""
    logger = get_run_logger()
    while not job.ended.wait(TAIL_S):
        for line in job.new_lines():
            logger.info(line)
    for line in job.new_lines():
        logger.info(line)
    if job.failed:
        raise JobFailed(job.error())


@dataclass
class Board:
    """The jobs of one flow run as Prefect shows them."""

    key: str
    jobs: dict[int, Job] = field(default_factory=dict)
    futures: list[PrefectFuture[Any]] = field(default_factory=list)
    progress: UUID | None = None
    asked_at: float = 0.0
    silent_until: float | None = None

    def watch(self, events: list[JobEvent]) -> None:
        """Show what the jobs have done.

        Raises:
            RunCancelled: the flow run was cancelled.
        """
        for event in events:
            if event.kind == STARTED and event.log:
                self._begin(event)
            elif event.kind in (FINISHED, FAILED) and event.job in self.jobs:
                self._end(self.jobs.pop(event.job), event.kind == FAILED)
            elif event.kind == PROGRESS:
                self.told(partial(self._show, event.done, event.total))
        if time.monotonic() - self.asked_at > CANCEL_POLL_S:
            self.asked_at = time.monotonic()
            if self.told(_is_cancelled):
                raise RunCancelled

    def close(self) -> None:
        """End the task runs of jobs that were stopped, and wait for all."""
        for job in self.jobs.values():
            self._end(job, failed=True)
        for future in self.futures:
            future.wait()

    def _begin(self, event: JobEvent) -> None:
        job = self.jobs[event.job] = Job(Path(event.log))
        shown = follow.with_options(name=event.rule, task_run_name=event.message)
        self.futures.append(shown.submit(job))

    @staticmethod
    def _end(job: Job, failed: bool) -> None:
        job.failed = failed
        job.ended.set()

    def _show(self, done: int, total: int) -> None:
        percent = 100 * done / max(total, 1)
        text = f"{done} of {total} jobs"
        if self.progress is None:
            made = create_progress_artifact(percent, self.key, text)
            assert isinstance(made, UUID)  # the flow is no coroutine
            self.progress = made
        else:
            update_progress_artifact(self.progress, percent, text)

    def told(self, call: Callable[[], Any]) -> Any:
        """What a call of the server gives; without an answer it is left alone for a while."""
        if self.silent_until is not None and time.monotonic() < self.silent_until:
            return None
        try:
            return call()
        except httpx.HTTPError as error:
            if self.silent_until is None:
                say(f"the Prefect server does not answer ({error}); the run goes on")
            self.silent_until = time.monotonic() + SILENCE_S
            return None


def _is_cancelled() -> bool:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return False
    with get_client(sync_client=True) as client:
        runs = [client.read_flow_run(run) for run in (context.flow_run.id, *OUTER_RUNS)]
    states = [run.state for run in runs if run.state is not None]
    return any(state.is_cancelling() or state.is_cancelled() for state in states)


def artifact_key(*words: str) -> str:
    """A name that Prefect takes for an artifact: lower-case letters, digits and dashes.

    >>> artifact_key("My_Data", "metrics")
    'my-data-metrics'
    """
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def shown(name: str, experiment: str, arguments: list[str] | None, cores: str) -> State[Any] | None:
    """Run a flow inside its Prefect run; a state where it was cancelled.

    Args:
        name: of the flow.
        experiment: name or path of the experiment file.
        arguments: overrides and data.
        cores: number of cores or "all".

    Raises:
        MinivessError, FlowFailed: see `stages.run_stage`.
    """
    label = Path(experiment).stem
    board = Board(artifact_key(label, name, "progress"))
    try:
        root = run_stage(name, experiment, arguments or [], cores, board.watch)
    except RunCancelled:
        say(f"the flow {name} was cancelled; the same command goes on from here")
        return Cancelled(message="cancelled; all its jobs were ended")
    finally:
        board.close()
    FINISHED_FLOWS.append(name)
    if name in ("analyze", "dashboard"):
        board.told(lambda: _publish(root, name))
    return None


def _publish(root: Path, name: str) -> None:
    key = artifact_key(root.name, name, "results")
    create_markdown_artifact(metrics_markdown(root), key, f"results of {root.name}")
