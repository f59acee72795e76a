"""The analyze flow: predictions, metrics, statistics and figures, after the train flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from minivess.flows.shown import shown


@flow(name="analyze", flow_run_name="analyze {experiment}", validate_parameters=False)
def analyze(
    experiment: str = "demo", arguments: list[str] | None = None, cores: str = "all"
) -> State[Any] | None:
    """Predict, evaluate, compare and draw."""
    return shown("analyze", experiment, arguments, cores)
