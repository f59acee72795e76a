"""What a person reads while a step runs, and the same with times in a file."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from pathlib import Path

from minivess import output
from minivess.errors import MinivessError

LOGGER = logging.getLogger("minivess")


def start_logging(path: Path | None) -> None:
    """Messages go to standard error, and to a log file where one is named.

    Raises:
        MinivessError: MV-SYSTEM-001 or -002 the log file cannot be written.
    """
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.addHandler(screen)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            error_record(path).unlink(missing_ok=True)
            path.write_text("", encoding="utf-8")
            append_to(path)
        except OSError as error:
            raise output.os_error(error, path) from error


def append_to(path: Path) -> None:
    """Messages go to the end of a log file as well, to which other processes may write too."""
    file = logging.FileHandler(path, mode="a", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # On a full disk: one line instead of logging's own traceback for each message.
    file.handleError = not_logged  # type: ignore[method-assign]
    LOGGER.addHandler(file)


def not_logged(record: logging.LogRecord) -> None:
    """Tell on the screen that a message found no room in its file."""
    print(f"a message could not be written to its log: {sys.exc_info()[1]}", file=sys.stderr)


def log_file() -> Path | None:
    """The log file that messages go to; None where none is named."""
    files = [h.baseFilename for h in LOGGER.handlers if isinstance(h, logging.FileHandler)]
    return Path(files[0]) if files else None


def say(text: str) -> None:
    """One line for the person who started the step."""
    LOGGER.info(text)


def error_record(log: Path) -> Path:
    """Where the error of a step is left for whoever started it."""
    return log.with_suffix(".error.json")


def report_error(error: MinivessError, log: Path | None, debug: bool) -> None:
    """Print an error; leave it and its traceback beside the log."""
    LOGGER.error(str(error))
    text = "".join(traceback.format_exception(error))
    if log is None:
        if debug or error.code == "MV-INTERNAL-001":
            print(text, file=sys.stderr)
        return
    if debug:
        print(text, file=sys.stderr)
    try:
        _leave_beside(log, text, error)
    except OSError as second:
        # On a full disk not even the log can be written; the screen has the error already.
        print(f"the log {log} could not be written: {second}", file=sys.stderr)


def _leave_beside(log: Path, text: str, error: MinivessError) -> None:
    record = {"code": error.code, "status": error.exit_status, "text": str(error)}
    # First, since a disk may have room for one of them only.
    error_record(log).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with log.open("a", encoding="utf-8") as file:
        file.write(text)
