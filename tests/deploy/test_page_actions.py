"""What the page does, without a browser: errors, limits, files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from small_bundle import make_bundle, vessel_image

from minivess.config.schema import PhantomConfig
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.volume import Volume, read_volume, write_volume
from minivess.deploy import page_actions, viewing
from minivess.deploy.page import Parts
from minivess.deploy.page_actions import Service, Visit, guarded
from minivess.deploy.segment import open_session, segment
from minivess.deploy.upload import Limits
from minivess.errors import MinivessError

SHAPE = (40, 33, 11)


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    bundle = make_bundle(tmp_path / "bundle")
    made = tmp_path / "made"
    made.mkdir()
    service = Service(
        bundle, open_session(bundle), "", "", Limits(1 << 20, 1 << 20), 60, 4, 4, tmp_path, Event()
    )
    parts = Parts(**{one.name: one.name for one in fields(Parts)})
    return Visit(service, parts, made, lambda part, doing: None)


@pytest.fixture
def viewed() -> viewing.Viewed:
    geometry = Geometry(SHAPE, diagonal_affine((1.0, 1.0, 5.0)))
    return viewing.view("a.nii", Volume(vessel_image(SHAPE), geometry))


def raising(error: BaseException) -> Callable[..., Any]:
    def action(visit: Visit) -> Any:
        raise error

    return action


def test_a_users_mistake_is_shown(visit: Visit) -> None:
    error = MinivessError("MV-UPLOAD-003", what="no volume", fix="send one")
    (text,) = guarded(raising(error), visit).values()
    assert "No volume" in text
    assert "send one" in text


def test_of_a_defect_only_that_it_happened_is_shown(
    visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    (text,) = guarded(raising(RuntimeError("/secret/path")), visit).values()
    assert "MV-INTERNAL-001" in text
    assert "secret" not in text
    assert "/secret/path" in caplog.text


def test_too_little_memory_is_no_defect(visit: Visit) -> None:
    (text,) = guarded(raising(MemoryError()), visit).values()
    assert "memory" in text


def test_a_segmentation_that_takes_too_long_ends(visit: Visit, viewed: viewing.Viewed) -> None:
    impatient = replace(visit, service=replace(visit.service, max_seconds=0))
    with pytest.raises(MinivessError, match="took too long"):
        page_actions.segment(impatient, viewed, "outline")


def test_a_segmentation_ends_with_the_page(visit: Visit, viewed: viewing.Viewed) -> None:
    visit.service.ending.set()
    (text,) = guarded(page_actions.segment, visit, viewed, "outline").values()
    assert "has ended" in text


def test_the_bar_rises_to_the_end(visit: Visit, viewed: viewing.Viewed) -> None:
    told: list[float] = []
    page_actions.segment(replace(visit, tell=lambda part, _: told.append(part)), viewed, "none")
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert len(set(told)) > 3


def test_the_mask_is_the_librarys(visit: Visit, viewed: viewing.Viewed) -> None:
    shown = page_actions.segment(visit, viewed, "outline")
    found = segment(visit.service.session, visit.service.bundle, viewed.volume)
    assert np.array_equal(read_volume(Path(shown["mask_file"])).array, found.mask)
    assert shown["index"] == 1 + found.mask.sum(axis=(0, 1)).argmax()


def test_a_surface_is_made_when_it_is_looked_at(visit: Visit, viewed: viewing.Viewed) -> None:
    first = page_actions.segment(visit, viewed, "outline")
    assert "surface" not in first
    shown = page_actions.show_surface(visit, first["viewed"])
    before = Path(shown["surface"]).read_bytes()
    later = page_actions.change_threshold(visit, first["viewed"], 1, "outline", 0.9)
    assert Path(later["surface"]).read_bytes() != before


def test_a_volume_that_is_no_longer_held_is_asked_for_again(visit: Visit) -> None:
    for action, values in (
        (page_actions.segment, (None, "none")),
        (page_actions.turn, (None, 1, "none")),
        (page_actions.draw, (None, 1, "none")),
        (page_actions.preview, (None, 1, "none", 0.5)),
        (page_actions.change_threshold, (None, 1, "none", 0.5)),
        (page_actions.show_surface, (None,)),
    ):
        assert "no longer holds" in guarded(action, visit, *values)["status"]


def test_files_of_an_earlier_volume_are_gone(visit: Visit, viewed: viewing.Viewed) -> None:
    page_actions.segment(visit, viewed, "outline")
    path = visit.folder / "next.nii"
    write_volume(viewed.volume.array, path, viewed.volume.geometry)
    shown = page_actions.choose(visit, str(path), None, None, None)
    assert sorted(file.name for file in visit.folder.iterdir()) == ["choice", "next.nii"]
    assert shown["segment"]["interactive"] is True
    assert page_actions.choose(visit, None, 1, 1, 5)["x_um"] is None


def test_a_segmentation_ends_when_another_volume_is_chosen(
    visit: Visit, viewed: viewing.Viewed
) -> None:
    """Else its result would stand under the other one's name."""
    path = visit.folder / "next.nii"
    write_volume(viewed.volume.array, path, viewed.volume.geometry)
    first = page_actions.choose(visit, str(path), None, None, None)["viewed"]
    told: list[float] = []

    def tell(part: float, doing: str) -> None:
        told.append(part)
        if len(told) == 2:
            page_actions.choose(visit, None, None, None, None)

    shown = guarded(page_actions.segment, replace(visit, tell=tell), first, "none")
    assert len(told) == 2
    assert set(shown) == {"segment"}
    assert not list(visit.folder.glob("*_*"))
    assert "Another volume" in guarded(page_actions.segment, visit, first, "none")["status"]
    again = page_actions.choose(visit, str(path), None, None, None)["viewed"]
    assert "mask_file" in page_actions.segment(visit, again, "none")


def test_a_threshold_is_not_measured_for_a_volume_that_was_replaced(
    visit: Visit, viewed: viewing.Viewed
) -> None:
    path = visit.folder / "next.nii"
    write_volume(viewed.volume.array, path, viewed.volume.geometry)
    first = page_actions.choose(visit, str(path), None, None, None)["viewed"]
    done = page_actions.segment(visit, first, "none")["viewed"]
    assert "viewed" in guarded(page_actions.change_threshold, visit, done, 1, "none", 0.7)
    page_actions.choose(visit, None, None, None, None)
    assert set(guarded(page_actions.change_threshold, visit, done, 1, "none", 0.8)) == {"segment"}


def test_the_same_choice_twice_is_one(visit: Visit, viewed: viewing.Viewed) -> None:
    """The page asks once for the file and once for each number that changed with it."""
    path = visit.folder / "next.nii"
    write_volume(viewed.volume.array, path, viewed.volume.geometry)
    first = page_actions.choose(visit, str(path), None, None, None)["viewed"]
    page_actions.choose(visit, str(path), None, None, None)
    assert "mask_file" in page_actions.segment(visit, first, "none")


def test_the_example_is_read_with_its_own_spacing(visit: Visit) -> None:
    shown = page_actions.example(visit)
    assert [shown[name] for name in ("x_um", "y_um", "z_um")] == [None] * 3
    read = page_actions.choose(visit, shown["file"], None, None, None)
    assert read["viewed"].spacing_um == PhantomConfig().phantom_spacing_um


def test_a_visitors_name_for_the_session_is_no_path(visit: Visit) -> None:
    folder = page_actions.visitor_folder(visit.service, "../../etc")
    assert folder.parent == visit.service.folder


def test_the_page_needs_no_torch() -> None:
    code = (
        "import sys, minivess.deploy.page, minivess.deploy.page_server, minivess.deploy.segment;"
        "print(*({'torch', 'monai', 'torchio', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
