"""The verb that segments new volumes with an exported champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from minivess.cli.app import ExperimentOption, app


@app.command()
def segment(
    path: Annotated[Path, typer.Argument(help="A volume, or a folder of volumes.")],
    experiment: ExperimentOption = "demo",
    kind: Annotated[
        str, typer.Option(help="Champion: balanced, overlap or topology.")
    ] = "balanced",
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder of an exported champion; else that of -e and --kind."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Mask (.nii or .nii.gz); a folder for a folder.")
    ] = None,
    probability: Annotated[
        bool, typer.Option("--probability", help="Write the probability beside the mask.")
    ] = False,
    spacing_um: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Spacing x y z in um, where the file has none."),
    ] = None,
    unit: Annotated[
        Literal["header", "um", "mm"], typer.Option(help="Unit of the header's spacing.")
    ] = "header",
    variant: Annotated[
        str | None, typer.Option(help="Network of lower precision: int8 or fp16.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; else the deployment setting.")
    ] = None,
) -> None:
    """Segment new volumes with an exported champion; print spacing, time, vessel statistics."""
    from minivess.steps import segment as step

    step.segment_files(
        path,
        step.Request(
            folder=bundle or step.bundle_folder(experiment, kind),
            out=out,
            probability=probability,
            spacing_um=spacing_um,
            unit=unit,
            variant=variant,
            threads=threads,
        ),
    )
