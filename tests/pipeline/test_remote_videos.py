"""Videos named by URLs: from an S3 protocol server, from a web server on this machine, and from fsspec's memory."""

import hashlib
import http.server
import os
import threading

import pytest

from pipeline.catalogue import content_of, open_address, open_video, probe_all, videos_by_id
from pipeline.errors import VideoError
from pipeline.remote_videos import as_address, list_remote, local_video, name_of, origin
from pipeline.settings import SegmentSettings
from pipeline.settings_reading import build_settings
from storage.catalogue import read_catalogue
from storage.keys import file_digest
from storage.places import open_url, place_of, put_bytes
from storage.store import Store

KIB = 1 / 2**20
"""A KiB in GiB."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "videos"


@pytest.fixture
def remote():
    place = open_url("memory://test-videos", remedy="")
    yield place
    if place.exists():
        place.fs.rm(place.path, recursive=True)


@pytest.fixture
def web(tmp_path):
    """A web server on a folder: its address, the folder, and the paths it was asked for."""
    folder = tmp_path / "web"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(folder), **options)

        def log_message(self, *_):
            asked.append(f"{self.command} {self.path}")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()
        thread.join()


def put(remote, name, content):
    put_bytes(remote / name, content, once=False)
    return f"{remote}/{name}"


def fetched(cache):
    return sorted(path.name for path in cache.glob("*/[!.]*") if path.name != "source.json")


def test_a_local_path_is_given_back_as_it_is(tmp_path, cache):
    with local_video(tmp_path / "a.mp4", cache_gib=1) as path:
        assert path == tmp_path / "a.mp4"
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
def test_a_video_is_fetched_once_and_known_by_content_and_origin(remote, h264, tmp_path):
    url = put(remote, "square.mp4", h264.read_bytes())
    store = Store(tmp_path / "store")
    for _ in range(2):
        with local_video(url, cache_gib=1) as path:
            changed = path.stat().st_mtime_ns
            video = open_video(path, store=store)
            assert origin(path) == url
    assert (video.id, video.video_hash) == ("square", file_digest(h264))
    assert changed == path.stat().st_mtime_ns
    (row,) = read_catalogue(store.catalogue_path)
    assert (row.id, row.path, row.status) == ("square", url, "ok")


@pytest.mark.usefixtures("cache")
def test_a_changed_remote_file_is_fetched_anew(remote):
    url = put(remote, "a.mp4", b"old")
    with local_video(url, cache_gib=1) as path:
        assert path.read_bytes() == b"old"
    put(remote, "a.mp4", b"newer")
    with local_video(url, cache_gib=1) as path:
        assert path.read_bytes() == b"newer"


def test_the_cache_stays_within_its_bound_and_keeps_what_was_used_last(remote, cache):
    urls = {name: put(remote, f"{name}.mp4", bytes(1024)) for name in "abc"}
    for name in "abac":
        with local_video(urls[name], cache_gib=2.5 * KIB):
            assert sum(path.stat().st_size for path in cache.glob("*/*.mp4")) <= 2.5 * 1024
    assert fetched(cache) == ["a.mp4", "c.mp4"]


def test_a_video_in_use_makes_no_room(remote, cache):
    first, second = (put(remote, name, bytes(1024)) for name in ("a.mp4", "b.mp4"))
    with local_video(first, cache_gib=1.5 * KIB) as path:
        with (
            pytest.raises(VideoError, match=r"in use.*--video-cache-gib"),
            local_video(second, cache_gib=1.5 * KIB),
        ):
            pytest.fail("fetched")
        assert path.is_file()
    with local_video(second, cache_gib=1.5 * KIB):
        assert fetched(cache) == ["b.mp4"]


def test_a_video_larger_than_the_cache_is_refused(remote, cache):
    url = put(remote, "a.mp4", bytes(2048))
    with pytest.raises(VideoError, match="--video-cache-gib"), local_video(url, cache_gib=KIB):
        pytest.fail("fetched")
    assert fetched(cache) == []


def test_a_fetch_that_breaks_leaves_nothing(remote, cache, monkeypatch):
    url = put(remote, "a.mp4", bytes(1024))

    def broken(*_, **__):
        raise ConnectionResetError("reset")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.remote_videos._make_room", broken)
        with pytest.raises(ConnectionResetError), local_video(url, cache_gib=1):
            pytest.fail("fetched")
    assert fetched(cache) == []
    with local_video(url, cache_gib=1) as path:
        assert path.stat().st_size == 1024


def test_a_web_server_gives_videos_and_secrets_of_its_address_are_not_kept(web, cache):
    address, folder, asked = web
    (folder / "my clip.mp4").write_bytes(b"moving")
    for _ in range(2):
        with local_video(f"{address}/my%20clip.mp4?signature=secret", cache_gib=1) as path:
            assert (path.name, path.read_bytes()) == ("my clip.mp4", b"moving")
            assert origin(path) == f"{address}/my%20clip.mp4"
    assert not [path for path in cache.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert sum(line.startswith("GET") for line in asked) <= 2


@pytest.mark.usefixtures("cache")
def test_a_missing_file_and_a_server_that_is_gone_are_told(web):
    address, _, _ = web
    with pytest.raises(VideoError, match="no such file"), local_video(f"{address}/no.mp4", cache_gib=1):
        pytest.fail("fetched")
    gone = "http://127.0.0.1:9/a.mp4?signature=secret"
    with pytest.raises(VideoError, match="cannot be fetched") as caught, local_video(gone, cache_gib=1):
        pytest.fail("fetched")
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("cache")
def test_s3_gives_a_folder_of_videos(bucket, h264):
    folder = place_of(f"{bucket}/videos")
    for name, content in (("b.mp4", h264.read_bytes()), ("a.mkv", b"x"), ("notes.txt", b"x")):
        put_bytes(folder / name, content, once=False)
    listed = list_remote(f"{bucket}/videos/")
    assert [name_of(url) for url in listed] == ["a.mkv", "b.mp4"]
    with local_video(listed[1], cache_gib=1) as path:
        assert file_digest(path) == file_digest(h264)
    put_bytes(place_of(f"{bucket}/empty") / "notes.txt", b"x", once=False)
    with pytest.raises(VideoError, match="holds no video"):
        list_remote(f"{bucket}/empty/")


def test_the_content_of_a_fetched_video_is_known_after_it_made_room(remote, cache, h264, tmp_path):
    url = put(remote, "square.mp4", h264.read_bytes())
    store = Store(tmp_path / "store")
    fetched_first = open_address(url, store=store, cache_gib=1)
    (lying,) = cache.glob("*/square.mp4")
    lying.unlink()
    known = open_address(url, store=store, cache_gib=1)
    assert (known.video_hash, known.facts.num_frames) == (
        fetched_first.video_hash,
        fetched_first.facts.num_frames,
    )
    assert content_of(url, store=store, cache_gib=1) == file_digest(h264)
    assert not lying.exists()
    # Another store does not know this content, so it looks itself.
    open_address(url, store=Store(tmp_path / "other"), cache_gib=1)
    assert lying.exists()
    # Other content behind the same URL is fetched, and remembered in its own place.
    put(remote, "square.mp4", b"changed")
    assert content_of(url, store=store, cache_gib=1) == hashlib.sha256(b"changed").hexdigest()


@pytest.mark.usefixtures("cache")
def test_videos_behind_a_url_are_probed_good_and_bad(remote, h264, tmp_path):
    put(remote, "b.mp4", h264.read_bytes())
    put(remote, "a.mp4", b"no video")
    store = Store(tmp_path / "store")
    rows = probe_all([f"{remote}/", f"{remote}/gone.mp4"], store=store)
    assert [(row.id, row.status) for row in rows] == [("a", "failed"), ("b", "ok"), ("gone", "failed")]
    assert [row.path for row in rows] == [f"{remote}/{name}.mp4" for name in ("a", "b", "gone")]
    assert "no such file" in rows[2].error
    assert [row.path for row in read_catalogue(store.catalogue_path)] == [row.path for row in rows[:2]]


def test_videos_of_a_data_set_behind_a_url_have_ids(remote):
    for name in ("a.mp4", "b.mkv"):
        put(remote, name, b"x")
    assert videos_by_id(f"{remote}/") == {"a": f"{remote}/a.mp4", "b": f"{remote}/b.mkv"}
    put(remote, "a.mkv", b"x")
    with pytest.raises(VideoError, match=r"a\.mp4: has the video id of a\.mkv"):
        videos_by_id(f"{remote}/")


@pytest.mark.parametrize("url", ["ftp://a/b.mp4", "zip://a.mp4::http://b/c.zip", "s3://b/a.mp4::memory://x"])
def test_other_urls_are_refused_before_anything_is_fetched(url):
    with pytest.raises(VideoError, match="videos are not fetched"):
        as_address(url)


def test_settings_take_paths_and_urls():
    settings = build_settings(
        SegmentSettings, {"videos": ["s3://b/a.mp4", "x/y.mp4", "file:///z.mp4"]}, source="s"
    )
    assert [os.fspath(video) for video in settings.videos] == ["s3://b/a.mp4", "x/y.mp4", "/z.mp4"]
