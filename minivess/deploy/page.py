"""The page for people (Gradio): a volume in, pictures, statistics and a mask out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import gradio as gr

from minivess.deploy import page_actions, page_text
from minivess.deploy.upload import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable

    from minivess.deploy.page_actions import Service

_OVERLAYS = [("Vessels outlined", "outline"), ("filled", "filled"), ("hidden", "none")]


@dataclass(frozen=True)
class Parts:
    """Every part of the page that changes."""

    viewed: gr.State
    file: gr.File
    example: gr.Button
    spacing: gr.Group
    x_um: gr.Number
    y_um: gr.Number
    z_um: gr.Number
    segment: gr.Button
    status: gr.HTML
    start: gr.HTML
    pictures: gr.Column
    slices_tab: gr.Tab
    slice_picture: gr.Image
    index: gr.Slider
    projection_tab: gr.Tab
    projection: gr.Image
    surface_tab: gr.Tab
    surface: gr.Model3D
    overlay: gr.Radio
    results: gr.Column
    model: gr.HTML
    threshold: gr.Slider
    note: gr.HTML
    evaluated: gr.Button
    statistics: gr.HTML
    mask_file: gr.DownloadButton
    csv_file: gr.DownloadButton

    def all(self) -> list[Any]:
        """Every part, as Gradio's outputs."""
        return [getattr(self, one.name) for one in fields(self)]


def build_page(service: Service) -> gr.Blocks:
    """The page for one champion; see `minivess.deploy.page_server.serve_page`.

    Args:
        service: the champion, its session, and what the page accepts.
    """
    bundle = service.bundle
    with gr.Blocks(
        title=f"{page_text.TITLE}: {bundle.experiment}",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(300, 3600),
    ) as page:
        gr.HTML(page_text.header(bundle.experiment, service.meaning), padding=False)
        viewed = gr.State(None, time_to_live=3600)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                choosing = _choosing()
            with gr.Column(scale=6, min_width=300):
                looking = _looking()
            with gr.Column(scale=4, min_width=280):
                model = gr.HTML(page_text.model_facts(bundle), padding=False)
                with gr.Column(visible=False) as results:
                    measured = _measured(bundle.threshold)
        with gr.Accordion("Model card: data, metrics with intervals, limits", open=False):
            gr.Markdown(service.card, elem_classes="mv-card")
        parts = Parts(
            viewed=viewed, results=results, model=model, **choosing, **looking, **measured
        )
        _wire(page, parts, service)
    page.queue(max_size=service.max_queue, default_concurrency_limit=1)
    page.state_session_capacity = service.most_sessions
    built: gr.Blocks = page
    return built


def _choosing() -> dict[str, Any]:
    """Left: the volume."""
    file = gr.File(
        label="Volume (NIfTI or TIFF)", file_types=list(SUFFIXES), height=168, elem_id="mv-file"
    )
    example = gr.Button("Use the example", elem_id="mv-example", size="md")
    with gr.Group(visible=False, elem_id="mv-spacing") as spacing:
        gr.HTML(page_text.SPACING)
        with gr.Row():
            x_um, y_um, z_um = (
                gr.Number(label=f"{axis} (µm)", minimum=0, elem_id=f"mv-{axis}", min_width=70)
                for axis in "xyz"
            )
    segment = gr.Button("Segment", variant="primary", interactive=False, elem_id="mv-segment")
    status = gr.HTML("", elem_id="mv-status", min_height=72, padding=False)
    return {
        "file": file,
        "example": example,
        "spacing": spacing,
        "x_um": x_um,
        "y_um": y_um,
        "z_um": z_um,
        "segment": segment,
        "status": status,
    }


def _looking() -> dict[str, Any]:
    """Middle: the pictures."""
    start = gr.HTML(page_text.START, padding=False)
    with gr.Column(visible=False) as pictures:
        with gr.Tabs():
            with gr.Tab("Slices") as slices_tab:
                slice_picture = _picture("mv-slice", "Slice with the vessels that were found")
                index = gr.Slider(1, 2, 1, step=1, label="Slice", buttons=[], elem_id="mv-index")
            with gr.Tab("Projection") as projection_tab:
                projection = _picture("mv-projection", "Maximum projection along z")
            with gr.Tab("3D surface", visible=False) as surface_tab:
                surface = gr.Model3D(
                    show_label=False,
                    height=500,
                    interactive=False,
                    clear_color=(0.0, 0.0, 0.0, 0.0),
                    elem_id="mv-surface",
                )
                gr.HTML(page_text.SURFACE, padding=False)
        overlay = gr.Radio(
            _OVERLAYS,
            value="outline",
            label="Vessels",
            container=False,
            elem_id="mv-overlay",
            visible=False,
        )
    return {
        "start": start,
        "pictures": pictures,
        "slices_tab": slices_tab,
        "slice_picture": slice_picture,
        "index": index,
        "projection_tab": projection_tab,
        "projection": projection,
        "surface_tab": surface_tab,
        "surface": surface,
        "overlay": overlay,
    }


def _picture(name: str, text: str) -> gr.Image:
    picture: gr.Image = gr.Image(
        show_label=False,
        interactive=False,
        format="png",
        height=500,
        buttons=["download", "fullscreen"],
        alt_text=text,
        elem_id=name,
        elem_classes="mv-picture",
    )
    return picture


def _measured(threshold: float) -> dict[str, Any]:
    """Right: threshold, statistics, downloads."""
    statistics = gr.HTML(elem_id="mv-statistics", padding=False)
    with gr.Row():
        mask_file = gr.DownloadButton(
            "Mask (NIfTI)", variant="primary", size="md", min_width=120, elem_id="mv-mask"
        )
        csv_file = gr.DownloadButton("Statistics (CSV)", size="md", min_width=120, elem_id="mv-csv")
    slider = gr.Slider(
        0.01, 0.99, threshold, step=0.01, label="Threshold", buttons=[], elem_id="mv-threshold"
    )
    note = gr.HTML(page_text.threshold_note(threshold, threshold), elem_id="mv-note", padding=False)
    evaluated = gr.Button(
        f"Back to {threshold:g}", size="sm", visible=False, elem_id="mv-evaluated"
    )
    return {
        "statistics": statistics,
        "mask_file": mask_file,
        "csv_file": csv_file,
        "threshold": slider,
        "note": note,
        "evaluated": evaluated,
    }


type _Run = Callable[[Callable[..., page_actions.Updates]], Callable[..., page_actions.Updates]]

_LIGHT: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
    "trigger_mode": "always_last",
}


def _wire(page: gr.Blocks, parts: Parts, service: Service) -> None:
    """What happens when."""

    def run(action: Callable[..., page_actions.Updates]) -> Callable[..., page_actions.Updates]:
        return _visiting(action, service, parts)

    def forget(request: gr.Request) -> None:
        folder = page_actions.visitor_folder(service, request.session_hash)
        shutil.rmtree(folder, ignore_errors=True)

    _wire_volume(parts, run)
    _wire_pictures(parts, run)
    _wire_threshold(parts, run, service.bundle.threshold)
    page.unload(forget)


def _wire_volume(parts: Parts, run: _Run) -> None:
    choice: list[Any] = [parts.file, parts.x_um, parts.y_um, parts.z_um]
    parts.example.click(run(page_actions.example), None, [*choice, parts.status], **_LIGHT)
    parts.file.change(run(page_actions.choose), choice, parts.all(), **_one_at_a_time("read"))
    for number in choice[1:]:
        number.change(run(page_actions.choose), choice, parts.all(), **_LIGHT)
    parts.segment.click(
        run(page_actions.segment),
        [parts.viewed, parts.overlay],
        parts.all(),
        show_progress="full",
        show_progress_on=parts.status,
        **_one_at_a_time("predict"),
    )


def _wire_pictures(parts: Parts, run: _Run) -> None:
    look = [parts.viewed, parts.index, parts.overlay]
    pictures = [parts.slice_picture, parts.projection, parts.status]
    parts.index.input(run(page_actions.turn), look, pictures, **_LIGHT)
    parts.overlay.input(run(page_actions.draw), look, pictures, **_LIGHT)
    for tab in (parts.slices_tab, parts.projection_tab):
        tab.select(
            run(page_actions.show_planes), parts.viewed, [parts.overlay, parts.status], **_LIGHT
        )
    parts.surface_tab.select(
        run(page_actions.show_surface),
        parts.viewed,
        [parts.surface, parts.overlay, parts.status],
        show_progress_on=parts.surface,
        **_one_at_a_time("measure"),
    )


def _wire_threshold(parts: Parts, run: _Run, evaluated: float) -> None:
    """The pictures follow the slider at once, the statistics as soon as they can."""
    moved = [parts.viewed, parts.index, parts.overlay, parts.threshold]
    noted = [parts.slice_picture, parts.projection, parts.status, parts.note, parts.evaluated]
    parts.threshold.input(run(page_actions.preview), moved, noted, **_LIGHT)
    measure: dict[str, Any] = {
        "fn": run(page_actions.change_threshold),
        "inputs": moved,
        "outputs": parts.all(),
        "show_progress": "minimal",
        "show_progress_on": parts.statistics,
        "trigger_mode": "always_last",
        **_one_at_a_time("measure"),
    }
    parts.threshold.input(**measure)
    back = parts.evaluated.click(lambda: evaluated, None, parts.threshold, **_LIGHT)
    back.then(**measure)


def _one_at_a_time(kind: str) -> dict[str, Any]:
    """Options of an action that waits for others of its kind, and for nothing else."""
    return {"concurrency_id": kind, "api_visibility": "private"}


def _visiting(
    action: Callable[..., page_actions.Updates], service: Service, parts: Parts
) -> Callable[..., page_actions.Updates]:
    """An action as Gradio calls it, which gives the request and the progress bar by position."""

    def run(
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio looks at the default
        *values: Any,
    ) -> page_actions.Updates:
        folder = page_actions.visitor_folder(service, request.session_hash)
        folder.mkdir(exist_ok=True)

        def tell(part: float, doing: str) -> None:
            progress(part, desc=doing)

        visit = page_actions.Visit(service, parts, folder, tell)
        return page_actions.guarded(action, visit, *values)

    return run
