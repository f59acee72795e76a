"""A verb for those who write a loss."""

from __future__ import annotations

from typing import Annotated

import typer

from minivess.cli.app import app
from minivess.logs import say


@app.command("check-loss")
def check_loss(
    name: Annotated[str, typer.Argument(help="module:Name, or a loss of the registry.")],
) -> None:
    """Check a loss of your own as every training does at its start."""
    from minivess.config.training import LossConfig, own_name
    from minivess.losses import build_loss

    build_loss(own_name(name), LossConfig())
    say(f"{name} can be trained with")
