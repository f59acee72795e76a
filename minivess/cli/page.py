"""The verb that shows the page for people."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from minivess import paths
from minivess.cli.app import ExperimentOption, app

ChampionOption = Annotated[str, typer.Option(help="Rule that it won by: a folder in deploy/.")]


@app.command()
def page(
    experiment: ExperimentOption = "demo",
    champion: ChampionOption = "balanced",
    port: Annotated[int, typer.Option(help="Port; 0: the one of the settings.")] = 0,
) -> None:
    """Show the page on which people segment volumes with the champion, on this computer only."""
    from minivess.config.settings import load_settings
    from minivess.deploy.bundle import read_bundle
    from minivess.deploy.page_server import serve_page

    settings = load_settings()
    bundle = read_bundle(paths.bundle(paths.experiment_folder(experiment), champion))
    serve_page(bundle, replace(settings, page_port=port or settings.page_port))
