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


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_may_not_be_read_says_so(tmp_path, h264):
    path = tmp_path / "film.mp4"
    path.write_bytes(h264.read_bytes())
    path.chmod(0)
    tmp_path.chmod(0o755)
    ask = (
        "import os, sys; from pathlib import Path; from pipeline.errors import VideoError;"
        "from pipeline.probe import probe_video; os.chdir(sys.argv[2]); os.setuid(65534)\n"
        "try:\n    probe_video(Path(sys.argv[1]))\nexcept VideoError as error:\n    print(error)"
    )
    # The folders of pytest are closed to others; only the last is entered, and the name is relative to it.
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run(
        [sys.executable, "-c", ask, path.name, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert told.stdout == "film.mp4: cannot be read (Permission denied). Check its permissions.\n"
