"""A function in a process of its own, forked from the test.

Exporting a network starts threads of torch's autograd. A process that has them cannot be forked
and train: the tests of distributed training, run after an export by the same worker, would fail.
"""

from __future__ import annotations

import multiprocessing
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

TIMEOUT_S = 300.0


def _send[T](
    answers: Connection, function: Callable[..., T], arguments: tuple[object, ...]
) -> None:
    import torch

    # The pool of threads that the test has used is not in this process.
    torch.set_num_threads(1)
    try:
        answers.send((function(*arguments), ""))
    except Exception:
        answers.send((None, traceback.format_exc()))


def forked[T](function: Callable[..., T], *arguments: object) -> T:
    """What `function(*arguments)` returns; only that must be picklable."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        assert ours.poll(TIMEOUT_S), "the process hangs"
        found, trace = ours.recv()
    finally:
        process.join(10.0)
        if process.is_alive():
            process.kill()
    assert not trace, trace
    return found  # type: ignore[no-any-return]
