"""The train flow: every network of the experiment, after the data flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from minivess.flows.shown import shown


@flow(name="train", flow_run_name="train {experiment}", validate_parameters=False)
def train(
    experiment: str = "demo", arguments: list[str] | None = None, cores: str = "all"
) -> State[Any] | None:
    """Train every network of an experiment."""
    return shown("train", experiment, arguments, cores)
