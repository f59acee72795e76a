"""Flows on a schedule, or when files arrive: a process that waits and starts them."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from minivess.errors import MinivessError, nearest
from minivess.flows.stages import STAGES
from minivess.logs import say

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

ALL = "all"
LOOK_S = 5.0
LEAST_S = 60.0
type Seen = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Schedule:
    """When flows start by themselves.

    Attributes:
        experiment: name or path of the experiment file.
        flow: which flow, or all.
        arguments: overrides and data.
        cron: five fields, as `0 2 * * *`; none: by nothing.
        every_s: time between starts, in s; none: by nothing.
        folder: folder of data; a flow starts when a file in it is new or changed.
        settle_s: how long files must stay as they are before they count as arrived, in s.
        paused: nothing starts by itself until somebody resumes it.
    """

    experiment: str
    flow: str = ALL
    arguments: tuple[str, ...] = ()
    cron: str | None = None
    every_s: float | None = None
    folder: Path | None = None
    settle_s: float = 30.0
    paused: bool = False


def check_schedule(schedule: Schedule) -> None:
    """Refuse what Prefect would refuse later, or never tell.

    Raises:
        MinivessError: MV-CONFIG-003 no such flow, MV-FLOW-003 cron and interval, a wrong one of
            either, no such folder, or a wait of no time.
    """
    known = (*STAGES, ALL)
    if schedule.flow not in known:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no flow {schedule.flow}",
            fix=nearest(schedule.flow, known),
        )
    problem = ""
    if schedule.cron is not None and schedule.every_s is not None:
        problem = "both cron and an interval"
    elif schedule.cron is not None and not _is_cron(schedule.cron):
        problem = f"cron {schedule.cron!r}"
    elif schedule.every_s is not None and schedule.every_s < LEAST_S:
        problem = f"an interval of {schedule.every_s:g} s"
    elif schedule.folder is not None and not schedule.folder.is_dir():
        problem = f"no folder {schedule.folder}"
    elif not schedule.settle_s > 0:
        problem = f"files that have arrived after {schedule.settle_s:g} s"
    if problem:
        raise MinivessError(
            "MV-FLOW-003",
            what="the schedule cannot be used",
            found=problem,
            expected="cron as '0 2 * * *', or an interval of at least 60 s; an existing folder; "
            "a time above 0 s after which files have arrived",
            fix="minivess flow serve --help",
        )


def _is_cron(text: str) -> bool:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=text)
    except (ValidationError, ValueError):
        return False
    return True


def deployment_name(schedule: Schedule) -> str:
    """Name of the deployments of an experiment.

    >>> deployment_name(Schedule("configs/experiment/demo.yaml"))
    'demo'
    """
    return Path(schedule.experiment).stem


def deployments(schedule: Schedule) -> list[RunnerDeployment]:
    """A deployment of each flow, to be started by hand; the schedule is on the one it names."""
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from minivess.flows.everything import FLOWS, everything

    parameters = {"experiment": schedule.experiment, "arguments": list(schedule.arguments)}
    made = []
    for name, flow in {**FLOWS, ALL: everything}.items():
        timed: dict[str, Any] = {}
        if name == schedule.flow:
            timed = {"cron": schedule.cron, "interval": schedule.every_s}
        offered = flow.to_deployment(
            deployment_name(schedule),
            parameters=parameters,
            paused=schedule.paused and name == schedule.flow,
            tags=["minivess"],
            entrypoint_type=EntrypointType.MODULE_PATH,
            **{key: value for key, value in timed.items() if value is not None},
        )
        assert isinstance(offered, RunnerDeployment)  # the flow is no coroutine
        made.append(offered)
    return made


def serve(schedule: Schedule) -> None:
    """Offer the flows to the server and run what is due, until interrupted.

    One run at a time; further ones wait their turn. Schedules are paused while nobody serves them.

    Raises:
        MinivessError: see `check_schedule`.
    """
    import prefect

    check_schedule(schedule)
    offered = deployments(schedule)
    stop = Event()
    watcher = Thread(target=watch_folder, args=(schedule, stop), daemon=True)
    if schedule.folder is not None:
        watcher.start()
    say(f"serving the flows of {deployment_name(schedule)}; Ctrl-C ends it")
    try:
        # One at a time: others wait at the server, not here as processes that wait for a lock.
        prefect.serve(*offered, limit=1, pause_on_shutdown=True, print_starting_message=False)
    finally:
        stop.set()


def watch_folder(schedule: Schedule, stop: Event) -> None:
    """Start the flow whenever files of the folder are new or changed and have settled."""
    assert schedule.folder is not None
    started = pending = files_of(schedule.folder)
    since = time.monotonic()
    while not stop.wait(min(LOOK_S, schedule.settle_s)):
        found = files_of(schedule.folder)
        if found != pending:
            pending, since = found, time.monotonic()
        elif found != started and time.monotonic() - since >= schedule.settle_s:
            arrived = sorted(name for name in found if found[name] != started.get(name))
            if not arrived or start_run(schedule, arrived):
                started = found


def files_of(folder: Path) -> Seen:
    """Size in bytes and time of change in ns of every file below a folder but hidden ones."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        with suppress(FileNotFoundError):  # it has gone since
            facts = path.stat()
            if S_ISREG(facts.st_mode):
                found[name.as_posix()] = (facts.st_size, facts.st_mtime_ns)
    return found


def start_run(schedule: Schedule, arrived: list[str]) -> bool:
    """Ask the server for a run since files arrived; false where it is paused, silent or forgot."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Scheduled

    name = f"{schedule.flow}/{deployment_name(schedule)}"
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(name)
            if deployment.paused:
                return False
            text = f"{len(arrived)} new or changed: {', '.join(arrived[:8])}"
            client.create_flow_run_from_deployment(
                deployment.id, state=Scheduled(message=text), tags=["files-arrived"]
            )
    except httpx.HTTPError as error:
        say(f"the Prefect server does not answer ({error}); files that arrived wait")
        return False
    except ObjectNotFound:
        say(f"the Prefect server does not know {name}; files that arrived wait")
        return False
    say(f"started {schedule.flow}: {text}")
    return True


def set_paused(experiment: str, flow: str, paused: bool) -> None:
    """Pause or resume what starts a flow by itself.

    Raises:
        MinivessError: MV-FLOW-003 it is not served.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    name = f"{flow}/{deployment_name(Schedule(experiment))}"
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound as error:
            raise MinivessError(
                "MV-FLOW-003",
                what=f"the flow {name} is not served",
                fix=f"minivess flow serve --experiment {experiment}",
            ) from error
        if paused:
            client.pause_deployment(deployment.id)
        else:
            client.resume_deployment(deployment.id)
    say(f"{name} is {'paused' if paused else 'resumed'}")
