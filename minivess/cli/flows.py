"""Verbs of the flows: run, serve, start with a server, pause, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivess.cli.app import app
from minivess.errors import MinivessError

flow_app = typer.Typer(
    no_args_is_help=True, help="Whole stages, on a schedule and with Prefect's pages."
)
app.add_typer(flow_app, name="flow")

FlowArgument = Annotated[str, typer.Argument(help="data, train, analyze, deploy, dashboard, all.")]
FileOption = Annotated[
    str, typer.Option("--experiment", "-e", help="File in configs/experiment/, or a path.")
]
FlowOption = Annotated[str, typer.Option("--flow", help="The flow that starts by itself, or all.")]
CronOption = Annotated[str | None, typer.Option(help="When it starts, as '0 2 * * *'.")]
EveryOption = Annotated[float | None, typer.Option(help="Time between starts, in s.")]
WatchOption = Annotated[
    Path | None, typer.Option(help="Folder of data: it starts when files in it have changed.")
]
SettleOption = Annotated[float, typer.Option(help="Files unchanged so long have arrived, in s.")]
PausedOption = Annotated[bool, typer.Option("--paused", help="Start nothing until resumed.")]
ArgumentsArgument = Annotated[
    list[str] | None, typer.Argument(help="key=value overrides; a CSV, folder or ZIP of data.")
]


@flow_app.command()
def run(
    name: FlowArgument,
    arguments: ArgumentsArgument = None,
    experiment: FileOption = "demo",
    cores: Annotated[str, typer.Option(help="CPU cores, or all.")] = "all",
) -> None:
    """Run a flow, or all of them, here and now; Prefect shows it where a server is at hand."""
    from minivess.flows.run import run_flow

    status = run_flow(name, experiment, arguments or [], cores)
    if status != 0:
        raise typer.Exit(status)


@flow_app.command()
def serve(
    arguments: ArgumentsArgument = None,
    experiment: FileOption = "demo",
    flow: FlowOption = "all",
    cron: CronOption = None,
    every: EveryOption = None,
    watch: WatchOption = None,
    settle: SettleOption = 30.0,
    paused: PausedOption = False,
) -> None:
    """Offer the flows to the Prefect server and run them when they are due, until Ctrl-C."""
    from minivess.flows.serve import Schedule
    from minivess.flows.serve import serve as serve_flows

    _use_server()
    serve_flows(
        Schedule(experiment, flow, tuple(arguments or ()), cron, every, watch, settle, paused)
    )


@flow_app.command()
def start(
    arguments: ArgumentsArgument = None,
    experiment: FileOption = "demo",
    flow: FlowOption = "all",
    cron: CronOption = None,
    every: EveryOption = None,
    watch: WatchOption = None,
    settle: SettleOption = 30.0,
    paused: PausedOption = False,
) -> None:
    """Start a Prefect server with its pages on loopback and serve the flows; Ctrl-C ends all."""
    from minivess.config.settings import load_settings
    from minivess.flows import server
    from minivess.flows.serve import Schedule
    from minivess.flows.serve import serve as serve_flows

    schedule = Schedule(
        experiment, flow, tuple(arguments or ()), cron, every, watch, settle, paused
    )
    with server.running_server(load_settings().prefect_port) as api:
        server.use_server(api)
        serve_flows(schedule)


@flow_app.command()
def pause(experiment: FileOption = "demo", flow: FlowOption = "all") -> None:
    """Let nothing start a served flow by itself."""
    _set_paused(experiment, flow, True)


@flow_app.command()
def resume(experiment: FileOption = "demo", flow: FlowOption = "all") -> None:
    """Let schedule and arriving files start a served flow again."""
    _set_paused(experiment, flow, False)


def _set_paused(experiment: str, flow: str, paused: bool) -> None:
    from minivess.flows.serve import set_paused

    _use_server()
    set_paused(experiment, flow, paused)


def _use_server() -> None:
    from minivess.flows import server

    api = server.find_server()
    if api is None:
        raise MinivessError(
            "MV-FLOW-002",
            what="there is no Prefect server to serve flows with",
            fix="start one together with the schedule: just flows",
        )
    server.use_server(api)
