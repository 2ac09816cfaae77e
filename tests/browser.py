"""A headless Chromium for tests of pages, by Selenium and Debian's chromedriver; skips where it is missing.

The fixture ``browser`` lives as long as the test process. A test opens a page and asks what it shows::

    def test_page(browser, tmp_path):
        browser.open(tmp_path / "report.html", width=390, dark=True)
        assert browser.script("return document.title") == "..."
        assert browser.problems() == []
        assert browser.requests() == [(tmp_path / "report.html").as_uri()]
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--autoplay-policy=no-user-gesture-required",
)
PATIENCE_SECONDS = 120
"""How long a page may take to become what a test waits for, on a machine that does much else."""


class Browser:
    """Chromium with one page in it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file or an address in a window of this size; what earlier pages logged is forgotten."""
        self.driver.get("about:blank")
        self._metrics(width, height)
        self.dark(dark)
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri() if isinstance(page, Path) else page)

    def dark(self, dark: bool) -> None:  # noqa: FBT001
        """Let the system prefer a dark page, or a light one."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def touch(self, on: bool) -> None:  # noqa: FBT001
        """Let the page believe in fingers."""
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": on})

    def script(self, source: str, *arguments: Any) -> Any:
        """The value a script returns in the page."""
        return self.driver.execute_script(source, *arguments)

    def wait(self, source: str, *arguments: Any) -> Any:
        """The value of a script once it is truthy."""
        patience = WebDriverWait(self.driver, PATIENCE_SECONDS, poll_frequency=0.05)
        return patience.until(lambda _: self.script(source, *arguments))

    def one(self, selector: str) -> WebElement:
        """The first element a CSS selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Every element a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def keys(self, *keys: str) -> None:
        """Type into whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def hover(self, element: WebElement) -> None:
        """Move the pointer onto the middle of an element."""
        ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def problems(self) -> list[str]:
        """Errors and warnings in the console since the page was opened, refusals of its policy among them."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened, except those that hold their own content."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        addresses = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in addresses if not address.startswith(("data:", "blob:", "about:"))]

    def picture(self, path: Path, *, whole_page: bool = False) -> None:
        """Write a PNG of the window, or of the page from top to bottom."""
        if whole_page:
            width, height = self.script("return [innerWidth, document.documentElement.scrollHeight]")
            self._metrics(width, height)
        self.driver.save_screenshot(str(path))

    def _metrics(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip(
            "needs chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)"
        )
    options = ChromeOptions()
    options.binary_location = str(programs[0])
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(executable_path=str(programs[1])))
    driver.set_page_load_timeout(PATIENCE_SECONDS)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
