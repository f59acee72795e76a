"""Running a flow from the command line: in Prefect where a server is at hand, else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minivess.errors import MinivessError, nearest
from minivess.flows.serve import ALL
from minivess.flows.server import find_server, use_server
from minivess.flows.stages import BEST_EFFORT, STAGES, FlowFailed, run_all, run_stage
from minivess.logs import say


def run_flow(name: str, experiment: str, arguments: Sequence[str], cores: str) -> int:
    """Run a flow or all of them; the exit status of its first failed step, 0 where none failed.

    Args:
        name: data, train, analyze, deploy, dashboard or all.
        experiment: name or path of the experiment file.
        arguments: overrides and data.
        cores: number of cores or "all".

    Raises:
        MinivessError: MV-CONFIG-003 no such flow, MV-FLOW-001 the flow before has not finished,
            MV-FLOW-002 the server of the settings does not answer, and whatever is wrong with
            config, source or tracking store.
    """
    known = (*STAGES, ALL)
    if name not in known:
        raise MinivessError(
            "MV-CONFIG-003", what=f"there is no flow {name}", fix=nearest(name, known)
        )
    api = find_server()
    try:
        if api is not None:
            return _run_shown(api, name, experiment, arguments, cores)
        if name == ALL:
            run_all(experiment, arguments, cores)
        else:
            run_stage(name, experiment, arguments, cores)
    except FlowFailed as error:
        return error.status
    return 0


def _run_shown(api: str, name: str, experiment: str, arguments: Sequence[str], cores: str) -> int:
    use_server(api)
    say(f"Prefect shows this run: {api.removesuffix('/api')}")
    import httpx

    from minivess.flows.everything import FLOWS, everything
    from minivess.flows.shown import FINISHED_FLOWS

    flow = everything if name == ALL else FLOWS[name]
    try:
        state: Any = flow(experiment, list(arguments), cores, return_state=True)
    except httpx.HTTPError as error:
        if set(FINISHED_FLOWS) >= (set(STAGES) - BEST_EFFORT if name == ALL else {name}):
            say("the results are complete, but the Prefect server could not be told")
            return 0
        raise MinivessError(
            "MV-FLOW-002",
            what="the Prefect server has gone",
            where=api,
            found=f"{type(error).__name__}: {error}",
            fix="run the same command again: it goes on from here, with or without a server",
        ) from error
    if state.is_cancelled():
        return CANCELLED
    state.result(raise_on_failure=True)
    return 0


# As of a process that SIGTERM has ended.
CANCELLED = 143
