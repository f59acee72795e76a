"""Signals that must not cut short what ends something else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def signals_later() -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP wait until the end of the block.

    They only reach the main thread: in another one this does nothing. One that is ignored, as
    nohup has SIGHUP, stays so, also for programs that are started in the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {n: signal.signal(n, lambda number, _: waiting.append(number)) for n in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for received in waiting:
        signal.raise_signal(received)
