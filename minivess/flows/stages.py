"""The five flows without Prefect: what each asks of Snakemake, what it needs, how it is retried.

A flow here is a function that runs anywhere; `flows/shown.py` shows it in Prefect.
"""

from __future__ import annotations

import fcntl
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from minivess import output, paths, provenance
from minivess.config.load import STEP_SECTIONS, step_values
from minivess.config.schema import Experiment
from minivess.config.settings import Settings, load_settings
from minivess.errors import MinivessError
from minivess.flows import snakemake
from minivess.job_events import JobEvent
from minivess.logs import say
from minivess.steps.paper import find_quarto
from minivess.tracking.address import tracking_uri
from minivess.tracking.flow_runs import begin_flow, check_flow, check_runs, end_flow
from minivess.workflow import Plan, forget_missing_store, plan_experiment

WAIT_S = 1.0
type Watch = Callable[[list[JobEvent]], None]


@dataclass(frozen=True)
class Stage:
    """One flow.

    Attributes:
        name: of the flow.
        does: what it does, in words.
        targets: what it asks of Snakemake.
        needs: the flow that must have finished before.
        steps: those whose config decides its results, besides the steps of the flows before.
        optional: targets that need Quarto; without it they are left out, and that is said.
    """

    name: str
    does: str
    targets: tuple[str, ...]
    needs: str | None
    steps: tuple[str, ...]
    optional: tuple[str, ...] = ()


_OF_DEPLOY = tuple(sorted(step for step in STEP_SECTIONS if step.startswith("deploy")))
_OF_DATA = ("phantom", "manifest", "validate", "preprocess", "folds")
STAGES = {
    stage.name: stage
    for stage in (
        Stage("data", "check and prepare the volumes", ("prepared_cases",), None, _OF_DATA),
        Stage("train", "train every network", ("trained_runs",), "data", ("train",)),
        Stage(
            "analyze",
            "predict, evaluate, compare, draw",
            ("all",),
            "train",
            tuple(sorted({*STEP_SECTIONS} - {*_OF_DATA, "train", "external", *_OF_DEPLOY})),
        ),
        Stage("deploy", "export the champions", ("deploy",), "analyze", _OF_DEPLOY),
        Stage(
            "dashboard",
            "report, paper and dashboard",
            ("report",),
            "analyze",
            (),
            ("paper", "dashboard"),
        ),
    )
}
# Its failure is reported and fails nothing.
BEST_EFFORT = frozenset({"dashboard"})


class FlowFailed(Exception):  # noqa: N818
    """Snakemake could not make what a flow asked for; it has said why."""

    def __init__(self, flow: str, outcome: snakemake.Outcome) -> None:
        texts = [failure["text"].strip() for failure in outcome.failures]
        self.status = outcome.status
        super().__init__("\n\n".join(texts) or f"{flow} ended with status {outcome.status}")


def run_stage(
    name: str, experiment: str, arguments: Sequence[str], cores: str, watch: Watch | None = None
) -> Path:
    """Run one flow to its end; the results folder.

    Waits while another flow works on the same results. Errors that may be gone later are tried
    again, as often as the settings say; Snakemake goes on where it stopped.

    Args:
        name: one of `STAGES`.
        experiment: name or path of the experiment file.
        arguments: overrides and data, as `minivess experiment` takes them.
        cores: number of cores or "all".
        watch: gets what the jobs do, see `snakemake.attempt`.

    Raises:
        MinivessError: MV-FLOW-001 the flow before has not finished, and whatever is wrong with
            config, source or tracking store.
        FlowFailed: Snakemake failed.
    """
    stage, settings = STAGES[name], load_settings()
    asked = _request(experiment, arguments, cores)
    with _turn(asked.root):
        plan = _plan(asked)
        _check_before(stage, plan, ["--experiment", experiment, *arguments])
        targets = (*stage.targets, *_optional(stage))
        asked = replace(asked, targets=targets)
        digest = stage_digest(stage, plan.experiment)
        record = begin_flow(tracking_uri(), asked.name, stage.name, digest)
        status = "KILLED"
        try:
            outcome = _attempts(asked, settings, watch)
            status = "FINISHED" if outcome.status == 0 else "FAILED"
        except MinivessError:
            status = "FAILED"
            raise
        finally:
            end_flow(record, status, {"minivess.targets": " ".join(targets)})
    if outcome.status != 0:
        raise FlowFailed(stage.name, outcome)
    return asked.root


def _request(experiment: str, arguments: Sequence[str], cores: str) -> snakemake.Request:
    asked = snakemake.request_without_lock(experiment, arguments, cores)
    if asked.targets:
        raise MinivessError(
            "MV-CONFIG-004",
            what="a flow has targets of its own",
            found=" ".join(asked.targets),
            expected="overrides (key=value) or data",
            fix=f"minivess experiment {experiment} {' '.join(asked.targets)}",
        )
    return asked


def _tell_waiting(holder: str) -> bool:
    say(f"waiting: {holder}")
    return True


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """Hold the lock between flows on one results folder; wait for it."""
    path = paths.flow_lock(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a", encoding="utf-8")
    except OSError as error:
        raise output.os_error(error, path) from error
    with handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                told = told or _tell_waiting(f"another flow works on {root}")
                time.sleep(WAIT_S)
        yield


def _plan(asked: snakemake.Request) -> Plan:
    """The plan, once no other process works on the experiment."""
    config = {"experiment": asked.experiment, **asked.overrides}
    told = False
    while True:
        try:
            return plan_experiment(config, snakemake.project_folder(), True)
        except MinivessError as error:
            if error.code != "MV-STATE-004":
                raise
            told = told or _tell_waiting(error.found)
            time.sleep(WAIT_S)


def _check_before(stage: Stage, plan: Plan, again: Sequence[str]) -> None:
    """Refuse to go on before the flow that this one needs; `again` is what to call that with."""
    forget_missing_store(plan.root)
    if stage.needs is None:
        return
    uri, before = tracking_uri(), STAGES[stage.needs]
    fix = shlex.join(["minivess", "flow", "run", before.name, *again])
    digest = stage_digest(before, plan.experiment)
    check_flow(uri, plan.root.name, before.name, digest, fix)
    if before.name == "train":
        check_runs(uri, plan.root.name, plan.runs(), fix)


def _optional(stage: Stage) -> tuple[str, ...]:
    if not stage.optional:
        return ()
    try:
        find_quarto()
    except MinivessError as error:
        say(f"{' and '.join(stage.optional)} are left out:\n{error}")
        return ()
    return stage.optional


def stage_digest(stage: Stage, experiment: Experiment) -> str:
    """Digest of the resolved config of a flow's steps and of all steps before them.

    Also of the losses and seeds that are trained, which are in the config of no single step.
    """
    before = stage_digest(STAGES[stage.needs], experiment) if stage.needs else ""
    own = {
        file: values
        for file, values in step_values(experiment).items()
        # A network's or a figure's own file is named after its step.
        if any(file == step or file.startswith(f"{step}-") for step in stage.steps)
    }
    runs = [experiment.losses, experiment.seeds] if "train" in stage.steps else []
    return provenance.json_sha256([before, own, runs])


def _attempts(
    asked: snakemake.Request, settings: Settings, watch: Watch | None
) -> snakemake.Outcome:
    for left in range(settings.flow_retries, -1, -1):
        outcome = snakemake.attempt(asked, watch=watch)
        if left == 0 or not snakemake.is_retryable(outcome):
            break
        say(f"trying again in {settings.flow_retry_delay_s:g} s, {left} more times at most")
        time.sleep(settings.flow_retry_delay_s)
    return outcome


def run_all(experiment: str, arguments: Sequence[str], cores: str) -> Path:
    """Run the five flows one after the other; a failed one of best effort is only told.

    Raises:
        MinivessError, FlowFailed: see `run_stage`.
    """
    for name in STAGES:
        with tolerated(name):
            root = run_stage(name, experiment, arguments, cores)
    return root


@contextmanager
def tolerated(name: str) -> Iterator[None]:
    """Tell of the failure of a flow of best effort, and go on."""
    try:
        yield
    except (MinivessError, FlowFailed) as error:
        if name not in BEST_EFFORT:
            raise
        say(f"the flow {name} failed; the others do not need it\n{error}")
