"""The verb that shows the page for people."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from minivess.cli.app import ExperimentOption, app
from minivess.cli.serve import CoresOption, KindOption


@app.command()
def page(
    experiment: ExperimentOption = "demo",
    kind: KindOption = "balanced",
    cores: CoresOption = "all",
    port: Annotated[
        int, typer.Option(help="Port; 0: the one of the settings.", min=0, max=65535)
    ] = 0,
    announce: Annotated[bool, typer.Option(hidden=True)] = True,
) -> None:
    """Show the page on which people segment volumes with a champion, on this computer only.

    The champion is exported first where that is missing.
    """
    from minivess.config.settings import load_settings
    from minivess.deploy.bundle import read_bundle
    from minivess.deploy.page_server import serve_page
    from minivess.flows import serving

    settings = load_settings()
    serving.check_free("page", f"http://127.0.0.1:{port or settings.page_port}")
    bundle = read_bundle(serving.exported(experiment, kind, cores))
    serve_page(bundle, replace(settings, page_port=port or settings.page_port), announce)
