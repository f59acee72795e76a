"""Starts the processes that train one fold together, and ends with the first error of any of them.

It is torchrun's own launcher, used from Python: `torchrun ... -m minivess train ...` by hand or by
a cluster runs the same code. The launcher ends all processes when one fails.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from minivess.config.schema import ComputeConfig
from minivess.errors import MinivessError
from minivess.logs import append_to, log_file, say
from minivess.training.distributed import Team

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# Process id of the `minivess train` that has started this one.
LAUNCHER = "MINIVESS_LAUNCHER"
# Its log, to which the process that leads writes as well.
LOG = "MINIVESS_LAUNCHER_LOG"
# Set by torchrun: where a process leaves its error.
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
LOOPBACK = "127.0.0.1"
# Less than an experiment waits for its jobs to end.
GRACE_S = 15
# Not SIGHUP, which nohup has this process ignore.
SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOPPED = 128 + signal.SIGTERM
LOST = "MV-TRAIN-002"
_PR_SET_PDEATHSIG = 1


def start_team(compute: ComputeConfig, arguments: Sequence[str]) -> None:
    """Run `minivess arguments` in one process per device; return when all have succeeded.

    Args:
        compute: number and kind of the devices.
        arguments: of the command that each process runs.

    Raises:
        MinivessError: the first error of any process; MV-TRAIN-002 where one was killed.
    """
    # Its messages would come before and beside our own, which say more.
    quiet = logging.getLogger("torch.distributed.elastic")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with _handlers_kept(), _environment(compute), tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=compute.devices,
            run_id=f"minivess-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint=f"{LOOPBACK}:0",  # any free port
            local_addr=LOOPBACK,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            shutdown_timeout=GRACE_S,
            signals_to_handle=",".join(number.name for number in SIGNALS),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "minivess", *arguments)
        except ChildFailedError as failed:
            raise first_error(failed.failures, compute.devices) from None
        except SignalException as stopped:
            received = stopped.sigval
        else:
            return
    # All processes have ended: now as if nothing but this one had been signalled.
    signal.raise_signal(received)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Our own signal handlers again, after the launcher has set its."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _environment(compute: ComputeConfig) -> Iterator[None]:
    """What the processes of a team inherit."""
    inherited = {LAUNCHER: str(os.getpid())}
    if compute.device == "cpu":
        inherited["GLOO_SOCKET_IFNAME"] = "lo"
    if log := log_file():
        inherited[LOG] = str(log)
    before = dict(os.environ)
    os.environ.update(inherited)
    try:
        yield
    finally:
        for name in inherited:
            del os.environ[name]
        os.environ.update(before)


def first_error(failures: Mapping[int, ProcessFailure], size: int) -> MinivessError:
    """The error that ended a team: what a process met itself, before what it met in another.

    Args:
        failures: by rank, as the launcher reports them.
        size: processes of the team.
    """
    rank, failure = min(failures.items(), key=lambda item: (_order(item[1]), item[0]))
    record = failure.error_file_data.get("minivess")
    if record is not None:
        error = MinivessError(**record["error"])
        error.add_note(f"In process {rank} of {size}:\n{record['traceback']}")
        return error
    signalled = failure.exitcode < 0
    return MinivessError(
        LOST,
        what="a process of the training ended before the others",
        where=f"process {rank} of {size}, config compute.devices={size}",
        found=failure.signal_name() if signalled else f"exit status {failure.exitcode}",
        fix="the same command goes on from the last epoch; SIGKILL often means that memory ran out",
    )


def _order(failure: ProcessFailure) -> tuple[int, int]:
    """Kind and time of a failure, in the order in which they explain the others."""
    record = failure.error_file_data.get("minivess")
    if record is not None:
        return (3 if record["error"]["code"] == LOST else 0), record["nanoseconds"]
    if failure.exitcode in (-signal.SIGTERM, STOPPED):
        return 4, 0  # as the launcher ends the others
    return (1 if failure.exitcode < 0 else 2), 0


@contextmanager
def reporting(team: Team) -> Iterator[None]:
    """In a process of a team: its error reaches who has started it, and is told once.

    Raises:
        SystemExit: in place of an error that the launcher tells, or that is another process's.
    """
    launcher = int(os.environ.get(LAUNCHER, "0"))
    if team.size == 1:
        yield
        return
    if launcher:
        _end_with(launcher)
    if launcher and team.leads and LOG in os.environ:
        append_to(Path(os.environ[LOG]))
    try:
        yield
    except Exception as error:
        known = _leave_error(error, team)
        if launcher:
            raise SystemExit(known.exit_status) from error
        if known.code == LOST:
            say(str(known))
            raise SystemExit(known.exit_status) from error
        raise
    except BaseException:
        if launcher:
            raise SystemExit(STOPPED) from None
        raise


def _end_with(launcher: int) -> None:
    """Have the kernel end this process when its launcher ends, also by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        raise SystemExit(STOPPED)


def _leave_error(error: Exception, team: Team) -> MinivessError:
    """Write an error where torchrun looks for it; the error as one of ours."""
    known = error if isinstance(error, MinivessError) else _defect(error, team)
    now = time.time_ns()
    record = {
        "message": {"message": str(known), "extraInfo": {"timestamp": str(now // 10**9)}},
        "minivess": {
            "error": asdict(known),
            "traceback": "".join(traceback.format_exception(error)),
            "nanoseconds": now,
        },
    }
    file = os.environ.get(ERROR_FILE)
    if file:
        Path(file).write_text(json.dumps(record), encoding="utf-8")
    return known


def _defect(error: Exception, team: Team) -> MinivessError:
    return MinivessError(
        "MV-INTERNAL-001",
        what="MiniVess met something it was not written for",
        where=f"process {team.rank} of {team.size} of a training",
        found=f"{type(error).__name__}: {error}",
        fix="please report this with the log or traceback",
    )
