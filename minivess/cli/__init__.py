"""The command `minivess`: one thin verb per step of the DAG, plus verbs for people.

Every step reads its resolved config and its inputs from `results/<experiment>/` and writes its
outputs there, as the rule of the same name in `workflow/rules/` declares them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

# Importing a module of verbs registers them, in the order of the help.
from minivess.cli import steps  # noqa: F401  # isort: skip
from minivess import logs
from minivess.cli import (  # noqa: F401
    calibration,
    champion,
    deploy,
    doctor,
    ensembles,
    external,
    flows,
    locked_set,
    losses,
    page,
    people,
    points,
    segment,
    serve,
    sweep,
)
from minivess.cli.app import STATE, app
from minivess.environment import prepare_environment
from minivess.errors import MinivessError
from minivess.logs import say

__all__ = ["app", "main"]


class Terminated(BaseException):
    """SIGTERM reached the process, or SIGHUP: its terminal is gone."""


def _on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


def main() -> None:
    """Run a verb; end with the exit status of its error."""
    prepare_environment()
    signal.signal(signal.SIGTERM, _on_signal)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _on_signal)
    status = _run()
    if "torch" in sys.modules:
        # Taking torch's modules apart takes a second; everything is written and closed by now.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _run() -> int:
    try:
        app(prog_name="minivess")
    except SystemExit as end:  # Typer ends every verb so
        return end.code if isinstance(end.code, int) else 0
    except MinivessError as error:
        return _failed(error)
    except Terminated as end:
        with suppress(OSError):  # there may be no terminal any more
            say("stopped; the same command goes on from here")
        return 128 + int(end.args[0])
    except Exception as error:
        return _failed(_internal(error))
    return 0


def _internal(error: Exception) -> MinivessError:
    wrapped = MinivessError(
        "MV-INTERNAL-001",
        what="MiniVess met something it was not written for",
        where=f"minivess {' '.join(sys.argv[1:])}",
        found=f"{type(error).__name__}: {error}",
        fix="please report this with the log or traceback",
    )
    wrapped.__cause__ = error
    return wrapped


def _failed(error: MinivessError) -> int:
    log, debug = STATE["log"], bool(STATE["debug"])
    logs.report_error(error, log if isinstance(log, Path) else None, debug)
    return error.exit_status
