"""The dashboard's server: what it shows, what it refuses, and that nothing else of the machine can be had from it."""

import os
import re
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.ui_guard import COOKIE, is_loopback
from flows.ui_server import listen, make_app, media_type
from pipeline.errors import SettingsError
from storage.catalogue import CatalogueRow, update_catalogue
from storage.store import Store
from tests.flows.conftest import ROOT
from tests.flows.ui_store import EVALUATION, EVIL_ID, EVIL_SET, PREDICTION, RUN, make_store, write_run
from tests.pipeline.test_report import EVIL_CLASS

LOCAL = "http://127.0.0.1:8050"
TOKEN = "correct-horse-battery"  # noqa: S105


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store that no test changes."""
    return make_store(tmp_path_factory.mktemp("ui"))


@pytest.fixture(scope="module")
def site(kept):
    return TestClient(make_app(kept.open()), base_url=LOCAL)


def guarded(kept, **options):
    app = make_app(kept.open(), token=TOKEN, **options)
    return TestClient(app, base_url=options.get("base_url", LOCAL), follow_redirects=False)


class Reader(HTMLParser):
    """The text and the elements of a page, told by a parser that is not ours."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.tags, self.scripts, self.attributes = [], set(), [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self.scripts.append(dict(attrs))

    def handle_data(self, data):
        self.texts.append(data.strip())


def pages(kept):
    return ["/", "/runs", f"/runs/{RUN}", f"/videos/{kept.key}", "/nowhere", "/?sort=<b>"]


def test_the_catalogue_shows_every_video_with_its_stages(site, kept):
    texts = Reader(site.get("/").text).texts
    assert {EVIL_ID, "broken", "recording 7", "h264", "64\u00d748", "0:04.00", "stale", "1 time"} <= set(
        texts
    )
    assert f"/videos/{kept.key}" in site.get("/").text


def test_videos_of_one_name_are_told_apart_by_their_folders(tmp_path):
    made = make_store(tmp_path)
    rows = [CatalogueRow(id="a", path=f"/{folder}/a.mp4", status="ok") for folder in ("old", "new")]
    update_catalogue(
        Store(made.root).catalogue_path, [*rows, CatalogueRow(id="b", path="/old/b.mp4", status="ok")]
    )
    page = TestClient(make_app(made.open()), base_url=LOCAL).get("/").text
    assert re.findall(r'<small class="folder">([^<]*)<', page) == ["/new", "/old"]


def test_filters_and_order_come_from_the_address(site):
    def names(address):
        return re.findall(r'<th scope="row"><a [^>]*>([^<]*)<', site.get(address).text)

    assert names("/?status=failed") == ["broken"]
    assert names("/?stage=features:done") == ["recording 7"]
    assert names("/?find=BROK") == ["broken"]
    assert names("/")[::-1] == names("/?order=down")
    assert "No video is like that" in site.get("/?find=%3Cscript%3Enothing").text


@pytest.mark.parametrize(
    "question", ["sort=path", "page=0", "page=x", "page=²", "stage=features:odd", "stage=x"]
)
def test_a_senseless_question_is_refused(site, question):
    assert site.get(f"/?{question}").status_code == 400


def test_runs_show_scores_intervals_and_their_report(site):
    page = site.get("/runs").text
    assert f"/runs/{RUN}" in page
    assert f"/evaluations/{EVALUATION}" in page
    assert re.search(r'<td>\d+\.\d<small class="interval">\d+\.\d to \d+\.\d</small>', page)


def test_when_a_run_was_trained_is_what_it_noted_and_not_the_time_of_a_copy(tmp_path):
    made = make_store(tmp_path)
    earlier, unknown = "01" * 32, "02" * 32
    for run, moment in ((earlier, "2025-12-31T23:59:59.000+00:00"), (unknown, "")):
        write_run(Store(made.root), key=run, evaluation=run, trained_at=moment)
    # Files as a copy may leave them: the run that was trained last is the oldest.
    for moment, run in enumerate((RUN, earlier, unknown)):
        os.utime(made.root / "runs" / run / "manifest.json", (moment, moment))
    site = TestClient(make_app(made.open()), base_url=LOCAL)
    texts = Reader(site.get("/runs").text).texts
    times = ["2026-02-03 04:05 UTC", "2025-12-31 23:59 UTC", "not recorded"]
    assert [text for text in texts if text.endswith(("UTC", "recorded"))] == times
    assert "trained 2026-02-03 04:05 UTC" in site.get(f"/runs/{RUN}").text


def test_a_run_shows_curves_settings_and_both_conventions(site):
    page = site.get(f"/runs/{RUN}").text
    texts = Reader(page).texts
    assert {"mstcn", "fact", "a <machine>", EVIL_SET, "harmonic"} <= set(texts)
    assert '"values":[3.0,1.5,1.0]' in page
    assert '<rect class="band"' in page


def test_a_segmented_video_has_a_timeline_and_a_player(site, kept):
    page = site.get(f"/videos/{kept.key}").text
    texts = Reader(page).texts
    assert {EVIL_CLASS, "0:01.00", "0:03.00", "75.0", "Random <i>weights</i>."} <= set(texts)
    assert "/assets/player.js" in page
    assert site.get(f"/videos/{kept.key}?prediction={PREDICTION}").text == page
    assert site.get(f"/videos/{kept.key}?prediction={RUN}").status_code == 404


def test_names_stay_text_and_nothing_is_inline(site, kept):
    for address in pages(kept):
        read = Reader(site.get(address).text)
        assert not read.tags & {"img", "u", "style"}, address
        assert "onerror" not in read.attributes
        assert "style" not in read.attributes
        for script in read.scripts:
            assert script.get("type") == "application/json" or script["src"].startswith("/assets/")


def test_every_answer_has_the_headers_of_safety(site, kept):
    file = f"/videos/{kept.key}/file/{kept.video.name}"
    for address in [
        *pages(kept),
        "/assets/page.js",
        "/classes.css?count=2",
        f"/evaluations/{EVALUATION}",
        file,
    ]:
        headers = site.get(address.replace("#", "%23")).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
    for address in pages(kept):
        assert "unsafe" not in site.get(address).headers["content-security-policy"]


def test_a_report_is_served_as_it_was_written_and_has_no_origin(site, kept):
    answer = site.get(f"/evaluations/{EVALUATION}")
    assert answer.content == (kept.root / "evaluations" / EVALUATION / "report.html").read_bytes()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy


def test_a_report_that_was_changed_is_not_served(tmp_path):
    made = make_store(tmp_path)
    with (made.root / "evaluations" / EVALUATION / "report.html").open("a") as report:
        report.write("<script>alert(1)</script>")
    answer = TestClient(make_app(made.open()), base_url=LOCAL).get(f"/evaluations/{EVALUATION}")
    assert answer.status_code == 500
    assert "alert(1)" not in answer.text


def test_a_video_is_served_in_ranges(site, kept):
    address = f"/videos/{kept.key}/file/{kept.video.name}".replace("#", "%23")
    content = kept.video.read_bytes()
    whole = site.get(address)
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["content-type"] == "video/mp4"
    part = site.get(address, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert site.get(address, headers={"Range": "bytes=-5"}).content == content[-5:]
    assert site.get(address, headers={"Range": f"bytes={len(content)}-"}).status_code == 416
    assert site.head(address).headers["content-length"] == str(len(content))


@pytest.mark.parametrize("name", ["other.mp4", "%2e%2e%2fstore.json", "..%2f..%2fetc%2fpasswd", ""])
def test_no_other_file_can_be_had_beside_a_video(site, kept, name):
    assert site.get(f"/videos/{kept.key}/file/{name}").status_code == 404


@pytest.mark.parametrize(
    "address",
    [
        "/assets/..%2fui_server.py",
        "/assets/%2e%2e/%2e%2e/store.json",
        "/assets/ui_base.html",
        "/assets/",
        "/runs/..%2f..",
        "/runs/%2e%2e%2fstore",
        "/evaluations/..%2fruns%2f" + RUN,
        "/evaluations/" + "AB" * 32,
        "/evaluations/" + "12" * 32,
        "/videos/" + "12" * 32,
        "/videos/..%2f..%2fetc%2fpasswd",
        "/store.json",
        "//etc/passwd",
        "/%00",
        "/runs/%00",
    ],
)
def test_nothing_but_what_has_a_key_can_be_had(site, address):
    answer = site.get(LOCAL + address)
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_a_video_that_changed_or_leads_elsewhere_is_not_served(tmp_path):
    made = make_store(tmp_path)
    site = TestClient(make_app(made.open()), base_url=LOCAL)
    address = f"/videos/{made.key}/file/{made.video.name}".replace("#", "%23")
    assert site.get(address).status_code == 200
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    content = made.video.read_bytes()
    made.video.unlink()
    assert site.get(address).status_code == 404
    made.video.symlink_to(secret)
    assert site.get(address).status_code == 404
    made.video.unlink()
    made.video.write_bytes(content[:-1] + b"x")
    assert site.get(address).status_code == 404
    page = site.get(f"/videos/{made.key}")
    assert "changed since it was probed" in page.text
    assert "/assets/player.js" not in page.text


def test_a_video_with_the_ending_of_a_page_is_no_page():
    for name in ("a.html", "a.svg", "a.mp4.xhtml", "a"):
        assert media_type(Path(name)) == "application/octet-stream"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"])
def test_nothing_but_reading_is_answered(site, method):
    answer = site.request(method, "/")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8050", True),
        ("localhost:9", True),
        ("[::1]:8050", True),
        ("evil.example", False),
        ("evil.example:8050", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("192.168.0.7", False),
        ("evil.example@127.0.0.1", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_other_names_than_this_machines_are_refused(site, host, allowed):
    assert site.get("/", headers={"Host": host}).status_code == (200 if allowed else 421)


def test_two_names_at_once_are_refused(site):
    answer = site.get("/", headers=[("Host", "127.0.0.1"), ("Host", "evil.example")])
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "", "my-machine"])  # noqa: S104
def test_others_are_let_in_with_a_token_only(kept, host):
    with pytest.raises(SettingsError, match="--token"):
        make_app(kept.open(), host=host)
    with pytest.raises(SettingsError, match="16 are needed"):
        make_app(kept.open(), host=host, token="short")  # noqa: S106
    assert not is_loopback(host)
    site = guarded(kept, host=host)
    assert site.get("/", headers={"Host": "my-machine:8050"}).status_code == 401
    authorization = {"Host": "my-machine:8050", "Authorization": f"Bearer {TOKEN}"}
    assert site.get("/", headers=authorization).status_code == 200


def test_a_token_becomes_a_cookie_that_does_not_say_it(kept):
    site = guarded(kept)
    answer = site.get(f"/runs?token={TOKEN}&x=%26")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?x=%26")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert site.get("/runs").status_code == 200
    site.cookies.clear()
    assert site.get("/runs", headers={"Cookie": f"{COOKIE}={TOKEN}"}).status_code == 401


@pytest.mark.parametrize("address", ["", "assets/page.js", f"evaluations/{EVALUATION}", "nowhere"])
def test_without_the_token_nothing_is_said(kept, address):
    for query in ("", "?token=", f"?token={TOKEN[:-1]}", "?token=%ff", "?token=%C3%A9"):
        answer = guarded(kept).get(f"/{address}{query}")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "x-content-type-options" in answer.headers
    assert guarded(kept).get("/", headers={"Authorization": "Bearer"}).status_code == 401
    assert guarded(kept).get("/", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401


@pytest.mark.parametrize(
    "path", ["//evil.example/", "/%5Cevil.example", "/\\evil.example", "///evil.example"]
)
def test_a_token_cannot_send_its_bearer_elsewhere(kept, path):
    location = guarded(kept).get(f"{LOCAL}{path}?token={TOKEN}").headers["location"]
    assert re.match(r"/[^/\\]", location)


def test_reading_writes_nothing(kept, site):
    def files():
        return {path: path.stat().st_mtime_ns for path in kept.root.rglob("*")}

    before = files()
    for address in pages(kept):
        site.get(address)
    assert files() == before


def test_what_is_added_shows_without_a_restart_and_damage_stops_no_other_page(tmp_path):
    made = make_store(tmp_path)
    site = TestClient(make_app(made.open()), base_url=LOCAL)
    assert site.get("/runs").text.count("<tr>") == 2
    other, bad = "12" * 32, "34" * 32
    write_run(Store(made.root), key=other, evaluation=bad)
    assert site.get("/runs").text.count("<tr>") == 3
    (made.root / "runs" / other / "model.json").write_text("{")
    (made.root / "evaluations" / bad / "report.html").unlink()
    page = site.get("/runs")
    assert page.status_code == 200
    assert "damaged" in page.text
    assert site.get(f"/evaluations/{bad}").status_code == 500
    made.root.joinpath("predictions", f"{PREDICTION}.parquet").write_bytes(b"PAR1")
    assert site.get(f"/videos/{made.key}").status_code == 200


def test_an_empty_store_says_how_to_fill_it(tmp_path):
    Store(tmp_path / "store")
    site = TestClient(make_app(Store(tmp_path / "store", read_only=True)), base_url=LOCAL)
    assert "factseg probe" in site.get("/").text
    assert "factseg train" in site.get("/runs").text


def test_a_port_that_is_taken_is_named():
    with listen("127.0.0.1", 0) as taken, pytest.raises(SettingsError, match="another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_the_command_says_where_it_listens_and_ends_when_told(kept):
    command = [sys.executable, "-c", "from flows.cli import main; main()", "ui", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--store", str(kept.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        address = process.stdout.readline().strip()
        host, port = re.fullmatch(r"http://([\d.]+):(\d+)/", address).groups()
        with socket.create_connection((host, int(port)), timeout=60) as asked:
            asked.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            assert asked.recv(12).endswith(b"200")
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert "Traceback" not in said


def test_the_command_refuses_to_be_reached_by_others(kept):
    from flows.cli import run_command

    assert run_command(["ui", "--store", str(kept.root), "--host", "0.0.0.0"]) == 2  # noqa: S104
    assert run_command(["ui", "--store", str(kept.root / "none")]) == 1
