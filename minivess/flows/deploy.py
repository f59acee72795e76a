"""The deploy flow: the champions leave as models that the service loads, after the analyze flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from minivess.flows.shown import shown


@flow(name="deploy", flow_run_name="deploy {experiment}", validate_parameters=False)
def deploy(
    experiment: str = "demo", arguments: list[str] | None = None, cores: str = "all"
) -> State[Any] | None:
    """Export the champions of an experiment."""
    return shown("deploy", experiment, arguments, cores)
