"""A headless Chromium for tests of pages, and what it asked the network for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # WebGL without a GPU.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)


@contextmanager
def browser(folder: Path, size: tuple[int, int] = (1400, 900)) -> Iterator[Browser]:
    """A browser with an empty profile; its downloads go to `folder/downloads`."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder / "downloads")}
    )
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        width, height = size
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        yield Browser(driver, folder / "downloads")
    finally:
        driver.quit()


class Browser:
    """What a person does in a browser."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads
        self.requests: list[str] = []

    def find(self, selector: str) -> WebElement:
        """The element of a CSS selector, as soon as it is there."""
        self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector), selector)
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 40) -> None:
        """Wait until a condition holds."""
        WebDriverWait(self.driver, seconds, 0.1).until(lambda _: condition(), what)

    def text(self, selector: str) -> str:
        """The text of an element; none while it is redrawn."""
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return (
            self.driver.execute_script("return arguments[0].innerText", found[0]) if found else ""
        )

    def asked_for(self) -> list[str]:
        """Every address that was requested so far, in order."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return self.requests

    def downloaded(self, name: str) -> bytes:
        """The content of a file that is being downloaded."""
        path = self.downloads / name
        self.wait(path.is_file, f"the download {name}")
        return path.read_bytes()
