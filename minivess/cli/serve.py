"""Verbs that put an exported champion into service."""

from __future__ import annotations

from typing import Annotated

import typer

from minivess.cli.app import ExperimentOption, app

KindOption = Annotated[str, typer.Option(help="Which champion: overlap, topology or balanced.")]
CoresOption = Annotated[str, typer.Option(help="CPU cores for making it, or all.")]


@app.command()
def serve(
    experiment: ExperimentOption = "demo",
    kind: KindOption = "balanced",
    page: Annotated[bool, typer.Option("--page/--no-page", help="The page for people too.")] = True,
    cores: CoresOption = "all",
) -> None:
    """Serve a champion: over HTTP, and the page for people. It is exported first where missing.

    Address, token and limits: `configs/deploy/settings.toml`.
    """
    from minivess.config.settings import load_settings
    from minivess.deploy.bundle import read_bundle
    from minivess.flows import serving

    settings = load_settings()
    folder = serving.exported(experiment, kind, cores)
    read_bundle(folder)  # damaged files are reported here, not by the server's log
    programs = [serving.service(folder, settings)]
    if page:
        programs.append(serving.page(experiment, kind, settings))
    serving.serve(programs, settings.max_seconds + 10.0)


@app.command()
def image(
    experiment: ExperimentOption = "demo",
    kind: KindOption = "balanced",
    cores: Annotated[str, typer.Option(help="CPU cores for making it, or all.")] = "all",
) -> None:
    """Build the service of a champion as a Bento, from which BentoML makes a container image."""
    from minivess import paths
    from minivess.deploy.bundle import read_bundle
    from minivess.deploy.image import build
    from minivess.flows import serving
    from minivess.logs import say

    bundle = read_bundle(serving.exported(experiment, kind, cores))
    store = paths.bento_store(paths.experiment_folder(experiment))
    tag = build(bundle, store)
    say(f"built {tag} in {store}; with Docker or Podman it becomes an image:")
    say(f"  BENTOML_HOME={store} bentoml containerize {tag}")
