"""Signals that wait for the end of a block."""

from __future__ import annotations

import os
import signal

import pytest

from minivess.signals import STOPS, signals_later


def test_a_signal_waits_until_the_run_is_open() -> None:
    class StoppedError(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise StoppedError

    opened = []

    def stopped_while_opening() -> None:
        with signals_later():
            os.kill(os.getpid(), signal.SIGTERM)
            opened.append("the run")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(StoppedError):
            stopped_while_opening()
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
    assert opened == ["the run"]


@pytest.mark.parametrize("number", STOPS)
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with signals_later():
            assert signal.getsignal(number) is signal.SIG_IGN
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
