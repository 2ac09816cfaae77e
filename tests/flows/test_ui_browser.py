"""The dashboard in a real browser: drawn under its own policy, keyed, dark, narrow, and the player beside its video."""

import threading
import time

import pytest
import uvicorn
from selenium.webdriver.common.keys import Keys

from flows.ui_server import listen, make_app
from tests.flows.ui_store import EVALUATION, EVIL_ID, RUN, make_store
from tests.pipeline.test_report import EVIL_CLASS

READY = "return document.documentElement.dataset.ready"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A store that is served, and its address."""
    made = make_store(tmp_path_factory.mktemp("ui"))
    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(make_app(made.open()), log_level="error", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield made, f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_every_page_is_drawn_in_both_sizes_without_an_error(browser, site):
    made, base = site
    pages = ("/", "/runs", f"/runs/{RUN}", f"/videos/{made.key}", f"/evaluations/{EVALUATION}")
    for page in pages:
        for width, dark in ((1280, False), (390, True)):
            browser.open(base + page, width=width, dark=dark)
            browser.wait("return document.readyState === 'complete'")
            assert browser.problems() == [], page
            assert browser.script("return document.documentElement.scrollWidth <= innerWidth"), (page, width)
            assert all(address.startswith(base) for address in browser.requests())
            colour = browser.script("return getComputedStyle(document.body).backgroundColor")
            assert (colour == "rgb(14, 17, 22)") == dark


def test_the_catalogue_is_searched_and_left_by_keys(browser, site):
    _, base = site
    browser.open(base)
    browser.keys("/", "script", Keys.ENTER)
    browser.wait("return location.search.includes('find=script')")
    assert browser.script("return location.search") == "?find=script"
    links = browser.all(".catalogue tbody a[title]")
    assert [link.text for link in links] == [EVIL_ID]
    links[0].send_keys(Keys.ENTER)
    assert browser.wait(READY) == "true"
    assert browser.one("h1").text == EVIL_ID
    assert browser.problems() == []


def test_curves_of_a_run_are_drawn(browser, site):
    browser.open(f"{site[1]}/runs/{RUN}")
    assert browser.wait(READY) == "true"
    assert [caption.text for caption in browser.all("#panels figcaption")] == [
        "Loss",
        "Scores (percent)",
        "Learning rate",
    ]
    assert len(browser.all("#panels path.curve")) == 3
    # A rate that never moves is read off its axis, which is neither 0 to 1 nor a single line.
    ticks = browser.all("#panels figure:nth-child(3) text[text-anchor=end]")
    assert [tick.text for tick in ticks] == ["0", "0.0025", "0.005", "0.0075", "0.01"]


def test_choosing_a_segment_moves_the_video_there(browser, site):
    made, base = site
    browser.open(f"{base}/videos/{made.key}")
    assert browser.wait(READY) == "true"
    assert [part.get_attribute("aria-label").split(",")[0] for part in browser.all(".segment")] == [
        "background",
        EVIL_CLASS,
        "background",
    ]
    browser.one(".zoom button").click()
    browser.wait("return document.querySelector('video').readyState >= 1")
    browser.all(".segment")[1].click()
    browser.wait("return Math.abs(document.querySelector('video').currentTime - 1) < 0.01")
    browser.keys(Keys.ARROW_RIGHT)
    browser.wait("return Math.abs(document.querySelector('video').currentTime - 3) < 0.01")
    assert browser.problems() == []


def test_a_report_has_no_origin_to_ask_from(browser, site):
    browser.open(f"{site[1]}/evaluations/{EVALUATION}")
    assert browser.wait(READY) == "true"
    assert browser.script("return self.origin") == "null"
