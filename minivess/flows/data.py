"""The data flow: volumes are listed, checked, prepared and split into folds."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from minivess.flows.shown import shown


@flow(name="data", flow_run_name="data {experiment}", validate_parameters=False)
def data(
    experiment: str = "demo", arguments: list[str] | None = None, cores: str = "all"
) -> State[Any] | None:
    """Check and prepare the volumes of an experiment."""
    return shown("data", experiment, arguments, cores)
