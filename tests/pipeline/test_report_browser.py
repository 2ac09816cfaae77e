"""The page of a run in a real browser: drawn, zoomed, hovered, keyed, dark, narrow, and beside its video."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from pipeline.report import write_report
from tests.pipeline.test_report import EVIL_CLASS, EVIL_VIDEO, NAMES, make_report


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_report(folder, make_report())
    return folder / "report.html"


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    """A page whose first video, the best one, lies beside it."""
    folder = tmp_path_factory.mktemp("played")
    (folder / "videos").mkdir()
    draw_video(folder / "videos" / "a clip #1.mp4")
    report = make_report()
    files = {"good": "a clip #1.mp4"}
    timelines = [replace(each, file=files.get(each.video_id, "gone.mp4")) for each in report.timelines]
    write_report(folder, replace(report, timelines=timelines, videos_beside="videos"))
    return folder / "report.html"


def draw_video(path: Path) -> None:
    """Four seconds of H.264, 10 frames a second, as the timelines of the report have."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"g": "1"}
        for index in range(40):
            picture = np.full((48, 64, 3), 6 * index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def row_of(name: str, kind: str) -> str:
    return f'article[data-name="{name}"] .row[aria-label^="{kind}"]'


def quiet(browser, page: Path) -> None:
    """Nothing went wrong and nothing but the page itself was asked for."""
    assert browser.problems() == []
    assert browser.requests() == [page.as_uri()]


def test_the_page_is_drawn_without_errors_or_requests(browser, page):
    browser.open(page)
    assert browser.wait("return document.documentElement.dataset.ready") == "true"
    assert browser.script("return document.documentElement.dataset.segments") == str(3 + 3 + 2 + 4 + 1 + 1)
    assert len(browser.all(".segment")) == 14
    assert browser.script("return document.getElementById('matrix').dataset.cells") == "16"
    assert len(browser.all("#panels svg")) == 3
    assert browser.all("video") == []
    quiet(browser, page)


def test_names_stay_text(browser, page):
    browser.open(page)
    assert browser.script("return document.querySelectorAll('img, main script').length") == 0
    assert browser.script("return JSON.parse(document.getElementById('data').textContent).classes") == list(
        NAMES
    )
    assert EVIL_CLASS in [button.text for button in browser.all(".legend button")]
    assert EVIL_VIDEO in [title.text for title in browser.all("article h3")]
    browser.hover(browser.one(f'.segment[aria-label^="{EVIL_CLASS}"]'))
    assert EVIL_CLASS in browser.one("#tip").text
    quiet(browser, page)


def test_hovering_tells_both_rows_and_leaves_with_escape(browser, page):
    browser.open(page)
    browser.hover(browser.one(row_of("good", "Predicted")))
    tip = browser.one("#tip")
    assert tip.is_displayed()
    lines = tip.text
    for wanted in ("Truth", "Predicted", "reach & grasp", "0:01.20 to 0:03.00", "% sure"):
        assert wanted in lines
    browser.keys(Keys.ESCAPE)
    assert not tip.is_displayed()
    quiet(browser, page)


def test_keys_walk_the_segments_change_the_row_and_zoom(browser, page):
    browser.open(page)
    browser.script("document.querySelector(arguments[0]).focus()", row_of("good", "Truth"))
    readout = browser.one('article[data-name="good"] .readout')

    def chosen() -> str:
        return browser.script(
            "const row = document.activeElement;"
            "return document.getElementById(row.getAttribute('aria-activedescendant')).getAttribute('aria-label')"
        )

    assert chosen() == "background, 0:00.00 to 0:01.00"
    browser.keys(Keys.ARROW_RIGHT)
    assert chosen() == "reach & grasp, 0:01.00 to 0:03.00"
    assert "Truth 2 of 3" in readout.text
    assert "90 % of it agrees" in readout.text
    browser.keys(Keys.ARROW_DOWN)
    assert chosen() == "reach & grasp, 0:01.20 to 0:03.00"
    browser.keys(Keys.END)
    assert chosen().startswith(EVIL_CLASS)
    browser.keys(Keys.HOME)
    assert chosen() == "background, 0:00.00 to 0:01.20"
    width = "return document.querySelector('article[data-name=\"good\"] .canvas').clientWidth"
    narrow = browser.script(width)
    browser.keys("+")
    assert browser.script(width) == pytest.approx(1.6 * narrow, abs=2)
    browser.keys("0")
    assert browser.script(width) == narrow
    quiet(browser, page)


def test_buttons_zoom_and_a_zoomed_timeline_keeps_the_chosen_segment_in_view(browser, page):
    browser.open(page, width=800)
    article = 'article[data-name="good"] '
    fit = browser.script("return document.querySelector(arguments[0]).clientWidth", f"{article}.canvas")
    for _ in range(2):
        browser.one(f'{article}button[aria-label="Zoom in"]').click()
    wide = browser.script("return document.querySelector(arguments[0]).clientWidth", f"{article}.canvas")
    assert wide == pytest.approx(1.6**2 * fit, abs=3)
    browser.script("document.querySelector(arguments[0]).focus()", row_of("good", "Predicted"))
    browser.keys(Keys.END)
    box = browser.script(
        "const view = document.querySelector(arguments[0]).getBoundingClientRect();"
        "const one = document.querySelector('[aria-selected=\"true\"]').getBoundingClientRect();"
        "return [view.left, one.left, one.right, view.right]",
        f"{article}.scroller",
    )
    assert box[0] - 1 <= box[1] < box[3]
    quiet(browser, page)


def test_videos_are_ordered_and_found(browser, page):
    browser.open(page)
    names = "return [...document.querySelectorAll('article:not([hidden])')].map((each) => each.dataset.name)"
    assert browser.script(names) == ["bad", EVIL_VIDEO, "good"]
    browser.script(
        "const order = document.getElementById('order'); order.value = 'name';"
        "order.dispatchEvent(new Event('change'))"
    )
    assert browser.script(names)[-2:] == ["bad", "good"]
    browser.one("#find").send_keys("goo")
    assert browser.script(names) == ["good"]
    quiet(browser, page)


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_in_both_themes(browser, page, dark):
    browser.open(page, dark=dark)
    light = browser.script(CONTRAST)
    assert min(light.values()) >= 4.5, light
    background = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(14, 17, 22)" if dark else "rgb(245, 246, 248)")
    for _ in range(1 if dark else 2):
        browser.one("#theme").click()
    assert browser.script("return getComputedStyle(document.body).backgroundColor") != background
    browser.script("localStorage.clear()")
    quiet(browser, page)


CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const channels = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = (color) => channels(color).slice(0, 3)
  .map((value) => value / 255)
  .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
  .reduce((sum, value, index) => sum + [0.2126, 0.7152, 0.0722][index] * value, 0);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if (channels(color)[3] === 255) return color;
  }
  return "white";
};
const found = {};
const selectors = ["h1", ".title p", ".help", ".card .value", ".card .interval", ".numbers td", ".notice", ".facts th",
  ".numbers .interval", ".readout", "#theme", "nav a", ".chips dt", ".segment.named span"];
for (const selector of selectors) {
  const node = document.querySelector(selector);
  if (!node) continue;
  const [a, b] = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((x, y) => y - x);
  found[selector] = (a + 0.05) / (b + 0.05);
}
return found;
"""


def test_a_phone_shows_everything_without_scrolling_sideways(browser, page):
    browser.open(page, width=390, height=844)
    assert browser.script("return document.documentElement.scrollWidth") <= 390
    sizes = browser.script(
        "return [...document.querySelectorAll('button, select, input')].filter((each) => each.offsetParent)"
        ".map((each) => each.getBoundingClientRect().height)"
    )
    # WCAG 2.2, 2.5.8: a target is at least 24 pixels high.
    assert min(sizes) >= 24
    assert (
        min(browser.script("return [...document.querySelectorAll('div.row')].map((row) => row.clientWidth)"))
        > 200
    )
    quiet(browser, page)


def test_everything_that_can_be_used_has_a_name(browser, page):
    browser.open(page)
    nameless = browser.script(
        "return [...document.querySelectorAll("
        "'button, select, input, [tabindex], [role=listbox], [role=option], svg[role]')]"
        ".filter((each) => !(each.getAttribute('aria-label') || each.getAttribute('aria-labelledby')"
        " || each.textContent.trim() || each.labels?.length))"
        ".map((each) => each.outerHTML.slice(0, 120))"
    )
    assert nameless == []
    assert browser.script("return document.documentElement.lang") == "en"
    assert len(browser.all("h1")) == 1


# --- the player ---------------------------------------------------------------------------------------------


def open_player(browser, page: Path) -> None:
    browser.open(page)
    browser.one('article[data-name="good"] .zoom button[aria-expanded]').click()
    browser.wait("return document.querySelector('video').readyState >= 2")


SECONDS = "return document.querySelector('video').currentTime"
PLAYHEAD = "const head = document.querySelector('.playhead');return parseFloat(head.style.left) / 100"


def test_choosing_a_segment_moves_the_video_and_the_playhead(browser, played):
    open_player(browser, played)
    assert browser.script("return document.querySelector('video').videoWidth") == 64
    browser.all(f"{row_of('good', 'Predicted')} .segment")[1].click()
    browser.wait(f"{SECONDS} > 1.1 && !document.querySelector('video').seeking")
    assert browser.script(SECONDS) == pytest.approx(1.2, abs=0.01)
    assert browser.wait(f"{PLAYHEAD} > 0.25") is True
    assert browser.script(PLAYHEAD) == pytest.approx(1.2 / 4, abs=0.01)
    browser.keys(Keys.ARROW_RIGHT)
    browser.wait(f"{SECONDS} > 2.9")
    assert browser.script(SECONDS) == pytest.approx(3.0, abs=0.01)
    assert browser.problems() == []


def test_moving_the_video_moves_the_playhead(browser, played):
    open_player(browser, played)
    browser.script("document.querySelector('video').currentTime = 2")
    assert browser.wait(f"{PLAYHEAD} > 0.4") is True
    assert browser.script(PLAYHEAD) == pytest.approx(0.5, abs=0.01)
    browser.script("document.querySelector(arguments[0]).focus()", row_of("good", "Truth"))
    browser.keys(" ")
    browser.wait(f"{SECONDS} > 2.2")
    assert browser.script(PLAYHEAD) > 0.5
    browser.keys(" ")
    assert browser.wait("return document.querySelector('video').paused") is True
    browser.one('article[data-name="good"] .zoom button[aria-expanded]').click()
    assert browser.all("video, .playhead") == []


def test_a_video_is_asked_for_only_when_its_player_opens(browser, played):
    browser.open(played)
    browser.wait("return document.documentElement.dataset.ready")
    quiet(browser, played)
    browser.one('article[data-name="bad"] .zoom button[aria-expanded]').click()
    readout = "return document.querySelector('article[data-name=\"bad\"] .readout').textContent"
    assert browser.wait(f"{readout}.startsWith('The video cannot be played from videos/gone.mp4')") is True
    assert browser.requests() == [(played.parent / "videos" / "gone.mp4").as_uri()]


def test_the_page_says_no_path_but_the_given_one(played):
    text = played.read_text(encoding="utf-8")
    assert str(played.parent) not in text
    assert '"beside":"videos"' in text
