"""Debian's chromium, as tests drive it: a window whose size and colours they set, with what it logged and asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.wrangler_compat.node_tools import MODULES

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = MODULES / "axe-core" / "axe.min.js"
WHY_NO_BROWSER = None if CHROMIUM and DRIVER else "there is no chromium with its chromedriver here"
needs_browser = pytest.mark.skipif(WHY_NO_BROWSER is not None, reason=str(WHY_NO_BROWSER))
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not here: make node-packages fetches it")
DESKTOP, PHONE = 1280, 375
Scheme = Literal["light", "dark"]
_PATIENCE = 60  # seconds, for what never comes
_AT_REST = "Promise.allSettled(document.getAnimations().map((one) => one.finished)).then(() => arguments[0]())"
"""Colours on their way to others are no contrast that anybody reads."""
_RUN_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
    (found) => done(found.violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join(" | ")}`)),
    (fault) => done([String(fault)]));
"""


class Browser:
    """One window at a roost's address."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url
        self._logged: list[str] = []
        self._asked: list[str] = []

    def open(self, path: str, *, width: int = DESKTOP, scheme: Scheme = "light") -> None:
        """Go to a page in a window of this width, in these colours."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < DESKTOP}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        colours = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", colours)
        self.driver.get(self.url + path)

    def find(self, css: str) -> WebElement:
        """The first element."""
        return self.driver.find_element("css selector", css)

    def all(self, css: str) -> list[WebElement]:
        """Every element."""
        return self.driver.find_elements("css selector", css)

    def texts(self, css: str) -> list[str]:
        """The text of every element."""
        return [str(text) for text in self.run(f"return [...document.querySelectorAll({css!r})].map(e => e.innerText)")]

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, until: Callable[[], Any]) -> Any:
        """The first true value."""
        return WebDriverWait(self.driver, _PATIENCE, 0.02).until(lambda _: until())

    def press(self, *keys: str) -> None:
        """Type into whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, css: str) -> WebElement:
        """Press Tab until the element has the focus; it must be reachable so."""
        for _ in range(200):
            self.press(Keys.TAB)
            focused = self.driver.switch_to.active_element
            if self.run("return arguments[0].matches(arguments[1])", focused, css):
                return focused
        raise AssertionError(f"{css} can't be reached by the keyboard")

    def axe(self) -> list[str]:
        """What axe-core finds wrong with the page."""
        self.run(AXE.read_text(encoding="utf-8"))
        self.driver.execute_async_script(_AT_REST)
        found: list[str] = self.driver.execute_async_script(_RUN_AXE)
        return found

    def logged(self) -> list[str]:
        """The console's errors and warnings since the start."""
        self._logged += [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]
        return self._logged

    def foreign(self) -> list[str]:
        """The addresses of other hosts that were asked since the start."""
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._asked.append(message["params"]["request"]["url"])
        assert any(address.startswith(self.url) for address in self._asked)
        ours = urlsplit(self.url).netloc
        return [address for address in self._asked if urlsplit(address).netloc not in (ours, "")]


@contextmanager
def browser(url: str) -> Iterator[Browser]:
    """A window without a profile, which fails its test for an error in its console or a request to another host."""
    options = Options()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--disable-component-update", "--no-first-run"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # chromium's own refuses root, as which containers run
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_script_timeout(_PATIENCE)
    try:
        window = Browser(driver, url)
        yield window
        assert window.logged() == []
        assert window.foreign() == []
    finally:
        driver.quit()
