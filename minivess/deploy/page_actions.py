"""What the page does when someone chooses a volume, segments it, moves a slider."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from minivess.deploy import page_text, viewing, views
from minivess.deploy.segment import segment as segment_volume
from minivess.deploy.upload import Limits, read_upload
from minivess.errors import MinivessError

if TYPE_CHECKING:
    import onnxruntime

    from minivess.deploy.bundle import Bundle
    from minivess.deploy.page import Parts
    from minivess.deploy.viewing import Viewed
    from minivess.deploy.views import Overlay
    from minivess.types import Spacing

type Updates = dict[Any, Any]

_NO_SPACING = "MV-UPLOAD-008"
_CHOICE = "choice"  # in a visitor's folder: which choice of a volume was the last
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Service:
    """What the page serves.

    Attributes:
        bundle, session: the champion and its network.
        card: its model card as Markdown.
        meaning: what it is the champion of, in words.
        limits: of an upload.
        max_seconds: longest segmentation.
        max_queue: requests that may wait.
        most_sessions: people whose volumes are held in memory.
        folder: of the files that the page makes; removed when it ends.
        ending: set once the page is to end.
    """

    bundle: Bundle
    session: onnxruntime.InferenceSession
    card: str
    meaning: str
    limits: Limits
    max_seconds: int
    max_queue: int
    most_sessions: int
    folder: Path
    ending: threading.Event


@dataclass(frozen=True, eq=False)
class Visit:
    """One action of one visitor.

    Attributes:
        service: what the page serves.
        parts: those of the page.
        folder: the visitor's files.
        tell: shows how far an action is, from 0 to 1, and what it does.
    """

    service: Service
    parts: Parts
    folder: Path
    tell: Callable[[float, str], None]


class ReplacedError(Exception):
    """Another volume was chosen while this one was computed with."""


def guarded(action: Callable[..., Updates], visit: Visit, *values: Any) -> Updates:
    """Run an action; an error is shown on the page, of a defect only that it happened.

    Args:
        action: a function of this module.
        visit: its first argument.
        values: its other ones, as the page has them.
    """
    try:
        return action(visit, *values)
    except MinivessError as error:
        shown = error
    except ReplacedError:
        return {visit.parts.segment: gr.skip()}
    except InterruptedError:
        return {visit.parts.status: page_text.ENDING}
    except MemoryError:
        shown = MinivessError(
            "MV-SERVICE-008",
            what="the memory of this computer does not suffice for the volume",
            fix="cut the volume into parts that overlap",
        )
    except Exception:
        _log.exception("the page met something it was not written for")
        shown = MinivessError(
            "MV-INTERNAL-001",
            what="MiniVess met something it was not written for",
            fix="please report this with the messages of `minivess page`",
        )
    return {visit.parts.status: page_text.error_box(shown)}


def visitor_folder(service: Service, session: str | None) -> Path:
    """Folder of one visitor's files; it need not exist."""
    return service.folder / hashlib.sha256(str(session).encode()).hexdigest()[:32]


def example(visit: Visit) -> Updates:
    """Choose the example, whose spacing is its own, whatever was typed for another file."""
    parts = visit.parts
    cleared = dict.fromkeys((parts.x_um, parts.y_um, parts.z_um))
    return {**cleared, parts.file: str(viewing.write_example(visit.folder))}


def _given(x_um: float | None, y_um: float | None, z_um: float | None) -> Spacing | None:
    if x_um and y_um and z_um:
        return float(x_um), float(y_um), float(z_um)
    return None


def _nothing_chosen(parts: Parts) -> Updates:
    return {
        parts.viewed: None,
        parts.segment: gr.update(interactive=False),
        parts.start: gr.update(visible=True),
        parts.pictures: gr.update(visible=False),
        parts.results: gr.update(visible=False),
        parts.model: gr.update(visible=True),
        parts.overlay: gr.update(visible=False),
        parts.surface_tab: gr.update(visible=False),
        parts.surface: None,
    }


def choose(
    visit: Visit, file: str | None, x_um: float | None, y_um: float | None, z_um: float | None
) -> Updates:
    """Read the chosen volume and show it; ask for the spacing where the file has none."""
    service, parts = visit.service, visit.parts
    choice = repr((file, x_um, y_um, z_um))
    (visit.folder / _CHOICE).write_text(choice, encoding="utf-8")
    hidden = {**_nothing_chosen(parts), parts.spacing: gr.update(visible=False)}
    if file is None:
        cleared = dict.fromkeys((parts.x_um, parts.y_um, parts.z_um))
        return {**hidden, **cleared, parts.status: ""}
    given = _given(x_um, y_um, z_um)
    for earlier in visit.folder.glob("*_*"):
        earlier.unlink(missing_ok=True)
    try:
        volume = read_upload(Path(file), service.limits, given)
    except MinivessError as error:
        asked = error.code == _NO_SPACING
        status = page_text.asking(Path(file).name) if asked else page_text.error_box(error)
        return {**hidden, parts.spacing: gr.update(visible=asked), parts.status: status}
    viewed = viewing.view(Path(file).name, volume, choice)
    middle = viewed.n_slices // 2
    return {
        **hidden,
        parts.spacing: gr.update(visible=given is not None),
        parts.viewed: viewed,
        parts.segment: gr.update(interactive=True),
        parts.status: page_text.volume_line(viewed, service.bundle.spacing_um),
        parts.start: gr.update(visible=False),
        parts.pictures: gr.update(visible=True),
        parts.index: gr.update(
            maximum=max(2, viewed.n_slices), value=middle + 1, visible=viewed.n_slices > 1
        ),
        **_pictures(parts, viewed, middle, "none"),
    }


def _pictures(parts: Parts, viewed: Viewed, index: int, overlay: Overlay) -> Updates:
    return {
        parts.slice_picture: _slice(viewed, index, overlay),
        parts.projection: views.projection_picture(
            viewed.volume.array, viewed.mask, viewed.spacing_um, overlay
        ),
    }


def _slice(viewed: Viewed, index: int, overlay: Overlay) -> views.Picture:
    return views.slice_picture(
        viewed.volume.array, viewed.mask, index, viewed.spacing_um, viewed.window, overlay
    )


def segment(visit: Visit, viewed: Viewed | None, overlay: Overlay) -> Updates:
    """Predict, and show everything."""
    service, parts = visit.service, visit.parts
    if viewed is None:
        return _let_go(visit)
    if not _is_chosen(visit, viewed):
        return {parts.status: page_text.OTHER_CHOSEN}
    start = time.monotonic()

    def tell(part: float) -> None:
        if service.ending.is_set():
            raise InterruptedError("the page is ending")
        if not _is_chosen(visit, viewed):
            raise ReplacedError
        if time.monotonic() - start > service.max_seconds:
            raise MinivessError(
                "MV-SERVICE-005",
                what="the segmentation took too long",
                found=f"more than {service.max_seconds} s",
                fix="cut the volume into parts that overlap, or have max_seconds raised",
            )
        visit.tell(part, "Segmenting")

    tell(0.0)
    found = segment_volume(service.session, service.bundle, viewed.volume, tell)
    visit.tell(1.0, "Measuring")
    threshold = service.bundle.threshold
    done = viewing.at_threshold(viewing.with_probability(viewed, found.probability), threshold)
    shown = _results(visit, done)
    if not _is_chosen(visit, viewed):
        raise ReplacedError
    return {
        **shown,
        **_pictures(parts, done, done.fullest_slice, overlay),
        parts.index: done.fullest_slice + 1,
        parts.threshold: threshold,
        parts.results: gr.update(visible=True),
        parts.model: gr.update(visible=False),
        parts.overlay: gr.update(visible=True),
        parts.surface_tab: gr.update(visible=True),
        parts.status: page_text.done_line(done, time.monotonic() - start),
    }


def _is_chosen(visit: Visit, viewed: Viewed) -> bool:
    """Whether no other volume was chosen since: else nobody waits for this one."""
    file = visit.folder / _CHOICE
    return not file.exists() or file.read_text(encoding="utf-8") == viewed.choice


def _results(visit: Visit, viewed: Viewed) -> Updates:
    """State, statistics, surface and downloads of a mask."""
    parts, bundle = visit.parts, visit.service.bundle
    origin = {"experiment": bundle.experiment, "champion": bundle.kind, "model": bundle.digest}
    offered = viewing.offer(viewed, origin, visit.folder)
    # Made once its tab has been opened, and then with every mask.
    wanted = viewing.surface_file(viewed, visit.folder).exists()
    surface = _surface(visit, viewed) if wanted else {}
    return {
        parts.viewed: viewed,
        parts.statistics: page_text.statistics_table(offered.statistics),
        parts.mask_file: str(offered.mask),
        parts.csv_file: str(offered.statistics_csv),
        **surface,
        **_noted(visit, viewed.threshold),
    }


def _noted(visit: Visit, threshold: float) -> Updates:
    evaluated = visit.service.bundle.threshold
    return {
        visit.parts.note: page_text.threshold_note(threshold, evaluated),
        visit.parts.evaluated: gr.update(visible=threshold != evaluated),
    }


def show_surface(visit: Visit, viewed: Viewed | None) -> Updates:
    """Show the surface in 3D, which has no overlay."""
    if viewed is None:
        return _let_go(visit)
    return {**_surface(visit, viewed), visit.parts.overlay: gr.update(visible=False)}


def _surface(visit: Visit, viewed: Viewed) -> Updates:
    return {visit.parts.surface: str(viewing.write_surface(viewed, visit.folder))}


def show_planes(visit: Visit, viewed: Viewed | None) -> Updates:
    """Offer the overlays again."""
    segmented = viewed is not None and viewed.probability is not None
    return {visit.parts.overlay: gr.update(visible=segmented)}


def _let_go(visit: Visit) -> Updates:
    """That a volume is no longer held: an hour has passed, or others came after."""
    return {visit.parts.status: page_text.LET_GO}


def turn(visit: Visit, viewed: Viewed | None, index: int, overlay: Overlay) -> Updates:
    """Show another slice."""
    if viewed is None:
        return _let_go(visit)
    shown = overlay if viewed.probability is not None else "none"
    return {visit.parts.slice_picture: _slice(viewed, int(index) - 1, shown)}


def draw(visit: Visit, viewed: Viewed | None, index: int, overlay: Overlay) -> Updates:
    """Draw the vessels in another way."""
    if viewed is None:
        return _let_go(visit)
    return _pictures(visit.parts, viewed, int(index) - 1, overlay)


def preview(
    visit: Visit, viewed: Viewed | None, index: int, overlay: Overlay, threshold: float
) -> Updates:
    """Show the pictures of another threshold at once, before all is measured."""
    if viewed is None:
        return _let_go(visit)
    changed = viewing.at_threshold(viewed, threshold)
    pictures = _pictures(visit.parts, changed, int(index) - 1, overlay)
    return {**pictures, **_noted(visit, threshold)}


def change_threshold(
    visit: Visit, viewed: Viewed | None, index: int, overlay: Overlay, threshold: float
) -> Updates:
    """Measure the mask of another threshold; nothing is predicted again."""
    if viewed is None:
        return _let_go(visit)
    changed = viewing.at_threshold(viewed, threshold)
    pictures = _pictures(visit.parts, changed, int(index) - 1, overlay)
    shown = {**pictures, **_results(visit, changed)}
    if not _is_chosen(visit, viewed):
        raise ReplacedError
    return shown
