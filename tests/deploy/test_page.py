"""The page, clicked through in a real browser, on a server of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from browser import Browser, browser, needs_chromium
from selenium.webdriver.common.keys import Keys
from small_bundle import make_bundle

from minivess import paths
from minivess.data.volume import write_volume
from minivess.deploy import viewing
from minivess.deploy.bundle import read_bundle
from minivess.deploy.segment import open_session, segment
from minivess.deploy.upload import Limits, read_upload
from minivess.deploy.views import shown_value, vessel_statistics

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Served:
    """A running page."""

    address: str
    folder: Path
    bundle: Path
    temporary: Path
    process: subprocess.Popen[bytes]

    def left(self) -> list[Path]:
        """Files of the page that exist now."""
        return sorted(path for path in self.temporary.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    temporary = folder / "temporary"
    temporary.mkdir()
    bundle = make_bundle(folder / paths.bundle(paths.experiment_folder("small"), "balanced"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "page.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "minivess", "page", "-e", "small", "--port", str(port)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(temporary)},
            start_new_session=True,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(address, process)
        yield Served(address, folder, bundle.folder, temporary, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the page ended"
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the page does not answer")


def press(page: Browser, selector: str) -> None:
    page.find(selector).click()


def expected(served: Served, threshold: float, folder: Path) -> tuple[bytes, list[str]]:
    """Bytes of the mask and statistics as people read them, from the library."""
    bundle = read_bundle(served.bundle)
    volume = read_upload(viewing.write_example(folder), Limits(1 << 30, 1 << 30))
    probability = segment(open_session(bundle), bundle, volume).probability
    mask = probability > threshold
    path = folder / "expected.nii.gz"
    write_volume(mask, path, volume.geometry)
    statistics = vessel_statistics(mask, volume.geometry.spacing_um)
    return path.read_bytes(), [shown_value(one) for one in statistics]


def shown_statistics(page: Browser) -> list[str]:
    cells = page.driver.execute_script(
        "return [...document.querySelectorAll('#mv-statistics td')].map(c => c.innerText)"
    )
    return [str(cell).strip() for cell in cells]


@needs_chromium
def test_a_person_segments_the_example(served: Served, tmp_path: Path) -> None:
    first_mask, first = expected(served, 0.5, tmp_path)
    second_mask, second = expected(served, 0.51, tmp_path)
    assert first != second
    with browser(tmp_path) as page:
        page.driver.get(served.address)
        press(page, "#mv-example")
        page.wait(page.find("#mv-segment").is_enabled, "a volume")
        assert "128 × 128 × 24 voxels of 1 × 1 × 5 µm" in page.text("#mv-status")
        press(page, "#mv-segment")
        page.wait(lambda: shown_statistics(page) == first, "the statistics")
        assert "Segmented" in page.text("#mv-status")

        before = page.find("#mv-slice img").get_attribute("src")
        page.find("#mv-index input[type=range]").send_keys(Keys.ARROW_RIGHT)
        page.wait(
            lambda: page.find("#mv-slice img").get_attribute("src") != before, "another slice"
        )
        press(page, "#mv-mask")
        assert page.downloaded("example_vessels.nii.gz") == first_mask

        assert "0.5 is what the model was evaluated with" in page.text("#mv-note")
        page.find("#mv-threshold input[type=range]").send_keys(Keys.ARROW_RIGHT)
        page.wait(lambda: shown_statistics(page) == second, "the statistics at 0.51")
        assert "0.51 instead of 0.5" in page.text("#mv-note")
        (page.downloads / "example_vessels.nii.gz").unlink()
        press(page, "#mv-mask")
        assert page.downloaded("example_vessels.nii.gz") == second_mask
        press(page, "#mv-csv")
        text = page.downloaded("example_statistics.csv").decode()
        assert ",example.nii.gz,0.51,length_um," in text

        tabs = page.driver.find_elements("css selector", "button[role=tab]")
        next(tab for tab in tabs if tab.is_displayed() and "3D" in tab.text).click()
        page.find("#mv-surface canvas")
        press(page, "#mv-evaluated")
        page.wait(lambda: shown_statistics(page) == first, "the statistics at 0.5 again")
        nothing_from_elsewhere(page, served)
    for _ in range(200):  # the tab is closed
        left = [path for path in served.left() if "cache" not in path.parts]
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def nothing_from_elsewhere(page: Browser, served: Served) -> None:
    asked = page.asked_for()
    own = (served.address, "data:", f"blob:{served.address}", "chrome:")
    assert any(url.startswith(served.address) for url in asked)
    assert [url for url in asked if not url.startswith(own)] == []
    refused = [entry["message"] for entry in page.driver.get_log("browser")]
    assert [text for text in refused if "Content Security Policy" in text] == []


@needs_chromium
def test_bad_files_are_explained_and_a_missing_spacing_is_asked_for(
    served: Served, tmp_path: Path
) -> None:
    broken = tmp_path / "<b>broken.nii.gz"
    broken.write_bytes(b"\x1f\x8bno gzip")
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.arange(8 * 32 * 48, dtype=np.uint16).reshape(8, 32, 48))
    with browser(tmp_path, (420, 900)) as page:
        page.driver.get(served.address)
        page.find("#mv-file input[type=file]").send_keys(str(broken))
        page.wait(lambda: "MV-UPLOAD-004" in page.text(".mv-error"), "the error")
        text = page.text(".mv-error")
        assert "damaged" in text
        assert "What to do" in text
        assert str(served.temporary) not in page.driver.page_source.split("mv-error")[1][:2000]
        assert not page.find("#mv-segment").is_enabled()

        press(page, "#mv-file button[aria-label=Clear]")
        page.find("#mv-file input[type=file]").send_keys(str(stack))
        page.wait(lambda: "spacing" in page.text("#mv-status"), "the question")
        for axis, um in zip("xyz", "115", strict=True):
            page.find(f"#mv-{axis} input").send_keys(um + Keys.TAB)
        page.wait(page.find("#mv-segment").is_enabled, "a volume")
        page.wait(lambda: "48 × 32 × 8 voxels of 1 × 1 × 5 µm" in page.text("#mv-status"), "text")
        width = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= 420


def test_only_this_computer_reaches_the_page(served: Served) -> None:
    port = int(served.address.rsplit(":", 1)[1].strip("/"))
    request = urllib.request.Request(served.address, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)
    with urllib.request.urlopen(served.address) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    own = served.bundle / "bundle.json"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{served.address}gradio_api/file={own}")
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    bound = {line.split()[1] for line in listening if line.split()[3] == "0A"}
    assert f"0100007F:{port:04X}" in bound
    assert f"00000000:{port:04X}" not in bound


@needs_chromium
def test_it_ends_at_once_under_an_open_tab_and_leaves_no_file(
    served: Served, tmp_path: Path
) -> None:
    with browser(tmp_path) as page:
        page.driver.get(served.address)
        press(page, "#mv-example")
        page.wait(page.find("#mv-segment").is_enabled, "a volume")
        assert served.left()
        os.killpg(served.process.pid, signal.SIGINT)
        assert served.process.wait(20) == 0
    assert served.left() == []
    log = (served.folder / "page.log").read_text(encoding="utf-8")
    assert served.address.rstrip("/") in log
    assert "Traceback" not in log
