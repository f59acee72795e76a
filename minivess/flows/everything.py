"""All five flows, one after the other."""

from __future__ import annotations

from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext

from minivess.flows.analyze import analyze
from minivess.flows.dashboard import dashboard
from minivess.flows.data import data
from minivess.flows.deploy import deploy
from minivess.flows.shown import OUTER_RUNS
from minivess.flows.stages import tolerated
from minivess.flows.train import train

FLOWS: dict[str, Flow[..., Any]] = {
    "data": data,
    "train": train,
    "analyze": analyze,
    "deploy": deploy,
    "dashboard": dashboard,
}


@flow(name="all", flow_run_name="all {experiment}", validate_parameters=False)
def everything(
    experiment: str = "demo", arguments: list[str] | None = None, cores: str = "all"
) -> State[Any] | None:
    """Run the five flows; a failed dashboard is only told."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        OUTER_RUNS.append(context.flow_run.id)
    for name, one in FLOWS.items():
        with tolerated(name):
            state: State[Any] = one(experiment, arguments, cores, return_state=True)  # type: ignore[assignment]
            if state.is_cancelled():
                return state
            state.result(raise_on_failure=True)
    return None
