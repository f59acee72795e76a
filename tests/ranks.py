"""Several processes that train together, forked from the test: no start-up, no command line."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from minivess.errors import MinivessError
from minivess.training.distributed import Team, joined

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

TIMEOUT_S = 120.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _member(
    team: Team, port: int, function: Callable[..., Any], arguments: Any, answers: Connection
) -> None:
    import torch

    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ.update(where)
    torch.set_num_threads(1)
    try:
        with joined(team, torch.device("cpu")):
            answers.send((function(team, *arguments), None))
    except MinivessError as error:
        answers.send((asdict(error), traceback.format_exc()))
    except BaseException as error:
        answers.send((repr(error), traceback.format_exc()))


def in_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(team, *arguments)` returns in each of `size` processes.

    Of an error of ours its fields, of another one its text, of a process that was killed its exit
    status. What is returned must not be tensors, which are shared with a process that is gone.
    """
    context, port = multiprocessing.get_context("fork"), free_port()
    members = []
    for rank in range(size):
        ours, theirs = context.Pipe(duplex=False)
        team = Team(rank, size, rank)
        process = context.Process(target=_member, args=(team, port, function, arguments, theirs))
        process.start()
        theirs.close()
        members.append((process, ours))
    answers: list[Any] = []
    try:
        for process, ours in members:
            assert ours.poll(TIMEOUT_S), "a process hangs"
            try:
                answer, trace = ours.recv()
            except EOFError:
                process.join(TIMEOUT_S)
                answer, trace = process.exitcode, None
            if trace is not None:
                print(trace)  # shown where the test fails
            answers.append(answer)
    finally:
        for process, _ in members:
            process.join(10.0)
            if process.is_alive():
                process.kill()
    return answers
