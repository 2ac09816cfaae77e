"""The browser that other tests look at pages with sees what it should: errors, requests, size, colour, keys."""

from selenium.webdriver.common.keys import Keys

PAGE = """<!doctype html><title>t</title>
<style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } }</style>
<input id="i"><p id="p" title="there">text</p>
<script>
document.getElementById("p").addEventListener("pointerover", (event) => event.target.dataset.over = "yes");
</script>"""


def test_a_quiet_page_is_seen_as_one(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    browser.open(page, width=390, height=700, dark=True)
    assert browser.script("return [innerWidth, innerHeight]") == [390, 700]
    assert browser.script("return getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
    browser.one("#i").click()
    browser.keys("a", Keys.ENTER)
    assert browser.script("return document.getElementById('i').value") == "a"
    browser.hover(browser.one("#p"))
    assert browser.wait("return document.getElementById('p').dataset.over") == "yes"
    assert browser.problems() == []
    assert browser.requests() == [page.as_uri()]


def test_errors_and_requests_of_a_page_are_seen_and_forgotten(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text('<img src="missing.png"><script>throw new Error("here it broke")</script>')
    browser.open(page)
    assert any("here it broke" in problem for problem in browser.problems())
    assert (tmp_path / "missing.png").as_uri() in browser.requests()
    (tmp_path / "page.html").write_text(PAGE)
    browser.open(tmp_path / "page.html")
    assert browser.problems() == []
    assert browser.script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
