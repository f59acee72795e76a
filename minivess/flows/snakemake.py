"""The one caller of Snakemake: its command, its process group, what failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from minivess import output, paths, provenance
from minivess.config.load import merge, nested
from minivess.errors import RETRYABLE, MinivessError
from minivess.job_events import FAILED, Follower, JobEvent
from minivess.logs import say
from minivess.workflow import CALLER_VARIABLE, GRACE_S, Plan, plan_experiment, resolve_checked

SNAKEFILE = "Snakefile"
POLL_S = 0.5
GROUP_POLL_S = 0.1
TARGETS = (
    "all",
    "prepared_cases",
    "skeletons",
    "trained_runs",
    "results",
    "digests",
    "report",
    "paper",
    "dashboard",
    "external",
    "deploy",
)


# No target of ours ends so: these are data, also where they lie in results.
LISTS = frozenset({".csv", ".tsv", ".zip"})


@dataclass(frozen=True)
class Request:
    """What Snakemake is asked for."""

    experiment: str
    name: str
    overrides: dict[str, Any]
    targets: tuple[str, ...]
    cores: str
    dry_run: bool

    @property
    def root(self) -> Path:
        """Results folder of the experiment."""
        return paths.experiment_folder(self.name)

    def command(self) -> list[str]:
        """The command line; `key=value` pairs as Snakemake takes them, nested ones as YAML."""
        pairs = [f"experiment={_as_yaml(self.experiment)}"]
        for key, value in self.overrides.items():
            pairs.append(f"{key}={_as_yaml(value)}")
        command = [sys.executable, "-m", "snakemake", "--cores", self.cores]
        if not Path(SNAKEFILE).is_file():
            command += ["--snakefile", str(project_folder() / SNAKEFILE)]
        command += ["--dry-run"] if self.dry_run else []
        return [*command, "--config", *pairs, "--", *self.targets]


def project_folder() -> Path:
    """The folder of the Snakefile: this one, else that of the project the package lies in.

    Raises:
        MinivessError: MV-SYSTEM-004 neither has one.
    """
    for folder in (Path.cwd(), provenance.PACKAGE.parent):
        if (folder / SNAKEFILE).is_file():
            return folder
    raise MinivessError(
        "MV-SYSTEM-004",
        what="there is no Snakefile here",
        where=str(Path.cwd()),
        fix="go to the project's folder first",
    )


def _as_yaml(value: Any) -> str:
    """A value as Snakemake's `--config` takes it: a number, True or False, else YAML."""
    if isinstance(value, str) and _stays(value):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    if isinstance(value, str):  # it takes quotes off, but then leaves a tag to YAML
        return f"!!str {json.dumps(value)} "
    return str(text).strip().split("\n")[0]


def _stays(text: str) -> bool:
    """Whether Snakemake reads these letters as the text that they are: `0815` is a number to it."""
    for number in (int, float):
        with suppress(ValueError):
            number(text)
            return False
    try:
        return bool(yaml.safe_load(text) == text)
    except yaml.YAMLError:
        return False


def source_overrides(path: Path) -> dict[str, Any]:
    """The source that a path given on the command line stands for.

    >>> source_overrides(Path("cases.csv"))
    {'data': {'source': 'csv', 'path': 'cases.csv'}}
    """
    if path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        kind = "csv"
    elif (path / "imagesTr").is_dir() and (path / "dataset.json").is_file():
        kind = "nnunet"
    else:
        kind = "minivess"
    return {"data": {"source": kind, "path": path.as_posix()}}


def request(experiment: str, arguments: Sequence[str], cores: str, dry_run: bool) -> Request:
    """Sort arguments into data path, overrides and targets; check the config before anything runs.

    Args:
        experiment: name or path of the experiment file.
        arguments: `key=value` overrides, one path of data, names of rules or of result files.
        cores: number of cores or "all".
        dry_run: only show the plan.

    Raises:
        MinivessError: MV-SYSTEM-004 not in the project's folder, MV-DATA-001 the data are not
            there, and whatever `plan_experiment` finds.
    """
    overrides, targets = _sorted(arguments)
    config = {"experiment": experiment, **overrides}
    name = plan_experiment(config, project_folder(), True).root.name
    return Request(experiment, name, overrides, tuple(targets), cores, dry_run)


def request_without_lock(experiment: str, arguments: Sequence[str], cores: str) -> Request:
    """As `request`, with no look at the experiment's lock: even that would hold it for a moment.

    Args:
        experiment: name or path of the experiment file.
        arguments: as those of `request`.
        cores: number of cores or "all".

    Raises:
        MinivessError: MV-SYSTEM-004 not in the project's folder, MV-DATA-001 the data are not
            there, MV-CONFIG-... whatever is wrong with the config.
    """
    overrides, targets = _sorted(arguments)
    name = resolve_checked({"experiment": experiment, **overrides}, project_folder()).name
    return Request(experiment, name, overrides, tuple(targets), cores, False)


def planned(experiment: str, arguments: Sequence[str]) -> Plan:
    """The plan of an experiment; nothing is written and nothing locked.

    Args:
        experiment: name or path of the experiment file.
        arguments: as those of `request`.

    Raises:
        MinivessError: as `request`.
    """
    overrides, _ = _sorted(arguments)
    config = {"experiment": experiment, **overrides}
    return plan_experiment(config, project_folder(), True, main=False)


def _sorted(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Overrides, and the targets among the arguments."""
    overrides: dict[str, Any] = {}
    targets: list[str] = []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if separator and "/" not in key:
            overrides = merge(overrides, nested(key, _value(argument, value)))
        elif argument in TARGETS:
            targets.append(argument)
        elif Path(argument).exists() and (
            not argument.startswith("results/") or Path(argument).suffix.lower() in LISTS
        ):
            overrides = merge(overrides, source_overrides(Path(argument)))
        elif Path(argument).suffix.lower() in LISTS:
            raise MinivessError(
                "MV-DATA-001",
                what="the data are not there",
                where=argument,
                expected="a CSV of cases, a folder or a ZIP",
                fix="check the path",
            )
        else:
            targets.append(argument)
    return overrides, targets


def _value(argument: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MinivessError(
            "MV-CONFIG-005",
            what="the value of a key is not YAML",
            where=argument,
            found=str(error).splitlines()[0],
            expected="a number, a word, or a list such as [96,96,8]",
            fix="check brackets and quotes; quote the whole argument in the shell",
        ) from error


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: exit status of Snakemake, or that of the first failed step's error.
        failures: error of each failed step: code, status, text.
        failed_jobs: how many jobs failed; a killed one leaves no error.
    """

    status: int
    failures: tuple[dict[str, Any], ...] = ()
    failed_jobs: int = 0


def run(
    asked: Request, working: Path = Path(), environment: Mapping[str, str] | None = None
) -> int:
    """Run Snakemake; its exit status, or that of the first failed step's error.

    Args:
        asked: what for.
        working: the folder to run it in.
        environment: its environment variables; none: ours.
    """
    return attempt(asked, working, environment).status


def attempt(
    asked: Request,
    working: Path = Path(),
    environment: Mapping[str, str] | None = None,
    watch: Callable[[list[JobEvent]], None] | None = None,
    log: Path | None = None,
) -> Outcome:
    """Run Snakemake and tell how it ended.

    The child has a process group of its own: an interrupt reaches every job, and none is left. It
    ends with this process, even where that one is killed.

    Args:
        asked: what for.
        working: the folder to run it in.
        environment: its environment variables; none: ours.
        watch: gets what the jobs have done since the last call, twice a second, also if that is
            nothing; what it raises stops the run.
        log: file that gets what Snakemake and its jobs print; none: the terminal.
    """
    root = working / asked.root
    if not asked.dry_run:
        for record in _error_records(root):
            record.unlink()
    events: list[JobEvent] = []
    with _started(asked, working, environment, log) as process:
        follower = Follower(paths.job_events(root), process.pid)
        while True:
            try:
                status: int | None = process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                status = None
            new = follower.new_events()
            events += new
            if watch is not None:
                watch(new)
            if status is not None:
                break
    return Outcome(status) if asked.dry_run else _reported(asked, root, status, events)


@contextmanager
def _started(
    asked: Request, working: Path, environment: Mapping[str, str] | None, log: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Snakemake, which ends when this process does: it holds one end of a pipe, we the other."""
    with ExitStack() as opened:
        printed = None if log is None else opened.enter_context(_appended(log))
        held, ours = os.pipe()
        process = subprocess.Popen(
            asked.command(),
            cwd=working,
            env={**(environment or os.environ), CALLER_VARIABLE: str(held)},
            start_new_session=True,
            pass_fds=(held,),
            stdout=printed,
            stderr=printed,
        )
    os.close(held)
    try:
        yield process
    except BaseException:
        stop_group(process)
        raise
    finally:
        os.close(ours)


def _appended(log: Path) -> IO[bytes]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError as error:
        raise output.os_error(error, log) from error


def _reported(asked: Request, root: Path, status: int, events: Sequence[JobEvent]) -> Outcome:
    """Print where the results are, or what failed."""
    if status == 0 and asked.targets in ((), ("all",)):
        say(f"everything is in {asked.root}; `just summary {asked.name}` prints the table")
    failures = tuple(_failure(path) for path in _error_records(root))
    for failure in failures:
        say("\n" + failure["text"])
    failed = sum(event.kind == FAILED for event in events)
    first = int(failures[0]["status"]) if failures and status != 0 else status
    return Outcome(first, failures, failed)


def is_retryable(outcome: Outcome) -> bool:
    """Whether the same run may succeed later: every error is marked so, or a job was killed.

    >>> is_retryable(Outcome(3, ({"code": "MV-DATA-017"},), 1))
    False
    >>> is_retryable(Outcome(6, ({"code": "MV-TRACK-001"},), 1))
    True
    """
    codes = {failure["code"] for failure in outcome.failures}
    happened = bool(codes) or outcome.failed_jobs > 0
    return outcome.status != 0 and happened and codes <= RETRYABLE


def _failure(record: Path) -> dict[str, Any]:
    """The error that a step has left; on a full disk it could only begin the file."""
    try:
        failure: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        error = MinivessError(
            "MV-SYSTEM-002",
            what="the disk is full",
            where=str(record),
            found="a step could not write there why it failed",
            fix="free some space and run the same command again; it goes on where it stopped",
        )
        return {"code": error.code, "status": error.exit_status, "text": str(error)}
    return failure


def stop_group(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """End a process and all its children: SIGTERM, and SIGKILL for what is left after a while.

    The leader may end before its children have: they have the same time to write what they have.
    """
    end = time.monotonic() + grace_s
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=grace_s)
        while _works(process.pid) and time.monotonic() < end:
            time.sleep(GROUP_POLL_S)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _works(group: int) -> bool:
    """Whether a process of the group still runs; one that has ended and is not reaped does not."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _error_records(root: Path) -> list[Path]:
    return sorted((root / "logs").rglob("*.error.json"), key=lambda path: path.stat().st_mtime)
