"""What people read while a step runs, and what is left beside its log when it fails."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from minivess.errors import MinivessError
from minivess.logs import LOGGER, error_record, report_error, say, start_logging


@pytest.fixture(autouse=True)
def logger_as_before() -> Iterator[None]:
    handlers, level, propagate = list(LOGGER.handlers), LOGGER.level, LOGGER.propagate
    yield
    for handler in set(LOGGER.handlers) - set(handlers):
        handler.close()
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)
    LOGGER.propagate = propagate


def failure() -> MinivessError:
    try:
        try:
            raise OSError("short read")
        except OSError as error:
            raise MinivessError("MV-DATA-002", what="broken", fix="copy it again") from error
    except MinivessError as error:
        return error


def test_messages_go_to_standard_error_alone(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(None)
    say("one case")
    captured = capsys.readouterr()
    assert captured.err == "one case\n"
    assert captured.out == ""


def test_a_log_file_has_the_same_with_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "logs" / "train" / "a.log"
    start_logging(path)
    say("µ case")
    assert capsys.readouterr().err == "µ case\n"
    text = path.read_text(encoding="utf-8")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO µ case\n", text)


def test_a_second_start_says_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    start_logging(first)
    start_logging(second)
    say("once")
    assert capsys.readouterr().err == "once\n"
    assert first.read_text(encoding="utf-8") == ""
    assert second.read_text(encoding="utf-8").count("once") == 1


def test_a_new_start_forgets_the_log_and_the_error_of_the_last(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    start_logging(path)
    report_error(failure(), path, debug=False)
    assert error_record(path).exists()
    start_logging(path)
    assert not error_record(path).exists()
    assert path.read_text(encoding="utf-8") == ""


def test_an_error_is_shown_short_and_kept_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.log"
    start_logging(path)
    error = failure()
    report_error(error, path, debug=False)
    assert capsys.readouterr().err == f"{error}\n"
    text = path.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "short read" in text
    record = json.loads(error_record(path).read_text(encoding="utf-8"))
    assert record == {"code": "MV-DATA-002", "status": 3, "text": str(error)}


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(tmp_path / "a.log")
    report_error(failure(), tmp_path / "a.log", debug=True)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("debug", "shown"), [(False, False), (True, True)])
def test_without_a_log_only_debug_shows_the_traceback(
    debug: bool, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging(None)
    report_error(failure(), None, debug=debug)
    captured = capsys.readouterr().err
    assert ("Traceback" in captured) is shown
    assert "MV-DATA-002: broken" in captured


def test_a_defect_shows_its_traceback_where_there_is_no_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_logging(None)
    report_error(MinivessError("MV-INTERNAL-001", what="a defect"), None, debug=False)
    assert "minivess.errors.MinivessError" in capsys.readouterr().err


def test_messages_do_not_reach_other_loggers(caplog: pytest.LogCaptureFixture) -> None:
    start_logging(None)
    with caplog.at_level(logging.INFO):
        say("ours")
    assert caplog.records == []
