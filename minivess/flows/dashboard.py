"""The dashboard flow: report, paper and dashboard, after the analyze flow; of best effort."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from minivess.flows.shown import shown


@flow(name="dashboard", flow_run_name="dashboard {experiment}", validate_parameters=False)
def dashboard(
    experiment: str = "demo", arguments: list[str] | None = None, cores: str = "all"
) -> State[Any] | None:
    """Write report, paper and dashboard of an experiment."""
    return shown("dashboard", experiment, arguments, cores)
