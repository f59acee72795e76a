"""The page: self-contained, escaped, equal bytes, with a picture wherever there is a volume."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from minivess.config.schema import DataConfig, Experiment, PatchConfig
from minivess.data.manifest import build_manifest
from minivess.data.sources import SourceCase, list_cases
from minivess.data.thumbnail import OUTLINE, outline, picture_size, projection
from minivess.data.validate import validate
from minivess.data.validation_page import write_page

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_volumes = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real volumes are not there: no folder {SHARED}"
)
SHAPE = (40, 20, 6)
VOID = {"meta", "br", "img", "input"}


class Balance(HTMLParser):
    """Tags that are open, and text, of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def decoded(uri: str) -> Image.Image:
    prefix = "data:image/png;base64,"
    assert uri.startswith(prefix)
    return Image.open(io.BytesIO(base64.b64decode(uri[len(prefix) :])))


def save(path: Path, array: np.ndarray) -> None:
    image = nib.Nifti1Image(array, np.diag([1.0, 2.0, 5.0, 1.0]))
    image.header["xyzt_units"] = 3
    nib.save(image, path)


def cases_in(folder: Path) -> list[SourceCase]:
    """good, empty (label), missing (image named like markup), short (label of other shape)."""
    generator = np.random.default_rng(0)
    cases = []
    for name in ("good", "empty", "missing", "short"):
        image, label = folder / f"{name}.nii.gz", folder / f"{name}_y.nii.gz"
        save(image, generator.integers(0, 4000, SHAPE).astype(np.uint16))
        mask = (generator.random(SHAPE) > 0.9).astype(np.uint8)
        save(label, mask * (name != "empty") if name != "short" else mask[:-1])
        cases.append(SourceCase(name, image, label, name))
    cases[2] = SourceCase("missing", folder / "<script>&.nii.gz", cases[2].label, "g<b>")
    return cases


def page_of(folder: Path, path: Path) -> str:
    experiment = Experiment(name="x", patches=PatchConfig(patch_size=(16, 16, 4)))
    manifest = build_manifest(cases_in(folder), experiment.data)
    write_page(manifest, validate(manifest, experiment), experiment, path)
    return path.read_text(encoding="utf-8")


def test_page(tmp_path):
    text = page_of(tmp_path, tmp_path / "validation.html")
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    shown = " ".join(parser.text)
    for part in ("Not accepted: 3 errors", "MV-DATA-001", "MV-DATA-004", "MV-DATA-008"):
        assert part in shown
    assert "<script>&.nii.gz" in shown
    assert "<script" not in text
    assert "<b>" not in text
    assert text.count('class="card error-card"') == 3
    assert text.count('class="card"') == 1
    assert "40 x 40 x 30 µm" in shown
    assert "image cannot be read" in shown


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    text = page_of(tmp_path, tmp_path / "validation.html")
    assert re.findall(r"https?://|<link|@import|url\(", text) == []
    assert all(uri.startswith("data:image/png") for uri in re.findall(r'src="([^"]*)"', text))


def test_equal_bytes(tmp_path):
    first, second = (page_of(tmp_path, tmp_path / name) for name in ("one.html", "two.html"))
    assert first == second


def test_accepted_page_says_so(tmp_path):
    experiment = Experiment(name="x", patches=PatchConfig(patch_size=(16, 16, 4)))
    manifest = build_manifest(cases_in(tmp_path)[:1] * 1, experiment.data)
    problems = validate(manifest, experiment).clear()
    write_page(manifest, problems, experiment, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Accepted" in text
    assert "<table" not in text


def test_projection_is_the_maximum_true_to_scale():
    volume = np.zeros((64, 32, 3), np.uint16)
    volume[10:20, 4:8, 1] = 1000
    image = decoded(projection(volume, (1.0, 2.0, 5.0)))
    assert image.size == (256, 256)
    pixels = np.asarray(image)
    assert pixels[5 * 8, 12 * 4] == 255, "x to the right, y down"
    assert pixels[5 * 8, 30 * 4] == 0
    assert picture_size((500, 100), (1.0, 1.0)) == (256, 51)
    assert picture_size((1000, 1), (1.0, 1.0)) == (256, 1)


@pytest.mark.parametrize("kind", ["constant", "all NaN", "some NaN", "boolean"])
def test_projection_of_odd_volumes(kind):
    volume = np.full((8, 8, 2), 3.0)
    if kind == "all NaN":
        volume[:] = np.nan
    elif kind == "some NaN":
        volume[2, 2] = np.nan
    elif kind == "boolean":
        volume = volume > 0
    assert decoded(projection(volume, (1.0, 1.0, 1.0))).size == (256, 256)


def test_outline_follows_the_edge_and_is_transparent_elsewhere():
    label = np.zeros((64, 64, 3), bool)
    label[16:48, 16:48, 1] = True
    pixels = np.asarray(decoded(outline(label, (1.0, 1.0, 1.0))).convert("RGBA"))
    assert tuple(pixels[128, 64]) == (*OUTLINE, 255)
    assert pixels[128, 128, 3] == 0, "inside"
    assert pixels[8, 8, 3] == 0, "outside"


@needs_volumes
def test_real_page(tmp_path):
    data = DataConfig(
        source="csv", path=str(SHARED / "vesselnn" / "cases.csv"), vessel_labels=(254, 255)
    )
    experiment = Experiment(name="x", data=data, patches=PatchConfig(patch_size=(64, 64, 8)))
    manifest = build_manifest(list_cases(experiment, tmp_path), data)
    write_page(manifest, validate(manifest, experiment), experiment, tmp_path / "page.html")
    uris = re.findall(r'src="([^"]*)"', (tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(uris) == 12
    assert all(decoded(uri).size == (256, 256) for uri in uris)
    assert (tmp_path / "page.html").stat().st_size < 70_000 * 12
