"""Which files of a folder are looked at, and what they are called."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue import find_videos, probe_all
from pipeline.errors import NotAVideoError, VideoError
from pipeline.listing import distinct_names, list_videos
from pipeline.probe import probe_video
from storage.store import Store


@pytest.fixture
def tree(tmp_path, h264):
    """Two kitchens with a video of one name each, and a note."""
    folder = tmp_path / "videos"
    for kitchen in ("P01", "P02"):
        (folder / kitchen).mkdir(parents=True)
        (folder / kitchen / "cam.mp4").write_bytes(h264.read_bytes())
    (folder / "top.mp4").write_bytes(h264.read_bytes())
    (folder / "P01" / "notes.tsv").write_text("a\tb\n")
    return folder


def test_deeper_folders_are_taken_only_when_asked_for(tree):
    assert [path.name for path in list_videos(tree).videos] == ["top.mp4"]
    found = list_videos(tree, recursive=True)
    assert [path.relative_to(tree).as_posix() for path in found.videos] == [
        "P01/cam.mp4",
        "P02/cam.mp4",
        "top.mp4",
    ]
    assert [path.name for path in found.not_videos] == ["notes.tsv"]


def test_videos_of_one_name_in_two_folders_have_ids_of_their_own(tree):
    found = find_videos(tree, recursive=True)
    assert list(found.by_id) == ["P01/cam", "P02/cam", "top"]
    assert found.failed == {}


def test_a_link_to_a_folder_above_is_not_followed(tree):
    (tree / "P01" / "loop").symlink_to(tree)
    assert len(list_videos(tree, recursive=True).videos) == 3


def test_a_link_to_nothing_gets_a_row(tree, tmp_path):
    (tree / "gone.mp4").symlink_to(tree / "nowhere.mp4")
    rows = {row.id: row for row in probe_all([tree], store=Store(tmp_path / "store"))}
    assert rows["gone"].status == "failed"
    assert "no such file" in rows["gone"].error


def test_names_are_as_short_as_tells_the_files_apart():
    paths = [Path(name) for name in ("a/x/cam.mp4", "b/x/cam.mp4", "b/y/cam.mp4", "b/hand.mp4", "b/hand.avi")]
    assert distinct_names(paths) == ["a/x/cam", "b/x/cam", "y/cam", "hand.mp4", "hand.avi"]


names = st.sampled_from(["a", "b", "cam", "cam.mp4", "cam.avi", "x.y"])


@given(st.lists(st.lists(names, min_size=1, max_size=4).map(lambda parts: Path(*parts)), unique=True))
def test_names_differ_wherever_files_do(paths):
    found = distinct_names(paths)
    assert len(set(found)) == len(paths)


def test_one_file_given_twice_has_one_name():
    assert distinct_names([Path("a/cam.mp4"), Path("a/cam.mp4")]) == ["cam", "cam"]


def test_a_socket_and_a_pipe_are_no_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.mp4")
        for name in ("pipe.mp4", "socket.mp4"):
            with pytest.raises(NotAVideoError, match=f"{name}: is no regular file"):
                probe_video(tmp_path / name)
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["two\nlines.mp4", "tab\t.mp4", "bell\a.mp4", "\x1b[31mred.mp4"])
def test_a_name_that_is_not_one_line_is_shown_as_one(tmp_path, name):
    path = tmp_path / name
    path.write_text("words")
    with pytest.raises(VideoError) as caught:
        probe_video(path)
    assert str(caught.value).isprintable()


PLAIN_USER = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid() == 0:
    # Without the two powers that let root read whatever it likes, in this process and those it starts.
    for power in (1, 2):
        assert libc.prctl(24, power, 0, 0, 0) == 0
    header, powers = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, powers) == 0
    powers[0] &= ~0b110
    powers[1] &= ~0b110
    assert libc.capset(header, powers) == 0
"""
"""Makes a program one to which permissions apply, also where tests run as root."""

CLOSED = "film.mp4: the file cannot be read (Permission denied). Check its permissions."
PROBE = """
from pipeline.errors import VideoError
from pipeline.probe import probe_video
try:
    probe_video(Path("film.mp4"))
except VideoError as error:
    print(error)
"""
EXTRACT = """
from flows import stages
from flows.runner import DirectRunner
from pipeline.settings import ExtractSettings
from storage.catalogue import read_catalogue
chosen = {"features": ("clip:stride=16",), "weights": "random", "device": "cpu"}
settings = ExtractSettings(store=Path("store"), videos=(Path("film.mp4"), Path("empty.mp4")), extraction=chosen)
for one in [*stages.extract(settings, DirectRunner()).outcomes]:
    print("outcome", one.status, one.reason)
for row in read_catalogue(Path("store/catalogue.parquet")):
    print("row", row.status, row.error)
"""


@pytest.fixture
def as_plain_user(tmp_path, h264):
    """Runs a program beside a video that it may not read, and gives the lines it prints."""
    path = tmp_path / "film.mp4"
    path.write_bytes(h264.read_bytes())
    path.chmod(0)

    def run(code):
        told = subprocess.run(
            [sys.executable, "-c", f"{PLAIN_USER}\nfrom pathlib import Path\n{code}"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        return told.stdout.splitlines()

    return run


@pytest.mark.skipif(sys.platform != "linux", reason="the powers of root are Linux's")
def test_a_file_that_may_not_be_read_says_so(as_plain_user):
    assert as_plain_user(PROBE) == ["film.mp4: cannot be read (Permission denied). Check its permissions."]


@pytest.mark.skipif(sys.platform != "linux", reason="the powers of root are Linux's")
def test_a_file_that_may_not_be_read_fails_its_extraction_by_that_reason_alone(as_plain_user, tmp_path):
    (tmp_path / "empty.mp4").touch()
    film, empty, *rows = as_plain_user(EXTRACT)
    assert film == f"outcome failed {CLOSED}"
    assert empty.startswith("outcome failed empty.mp4: empty file")
    assert sorted(rows) == sorted(line.replace("outcome", "row", 1) for line in (film, empty))
