"""The catalogue: every file has a row, a content is probed once, and a name says which video is meant."""

import os
import shutil
import sys

import pytest

from pipeline import catalogue
from pipeline.catalogue import find_videos, open_video, probe_all
from pipeline.errors import DatasetError, NotAVideoError, VideoError
from storage.catalogue import read_catalogue
from storage.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path, h264):
    """Two videos, a note and a text that claims to be a video."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(h264, folder / "tea.mp4")
    shutil.copy(h264, folder / "café au lait.MP4")
    (folder / "notes.txt").write_text("hello")
    (folder / "bad.mp4").write_text("hello")
    return folder


def test_a_video_is_found_by_its_name_without_ending(folder):
    found = find_videos(folder)
    assert list(found.by_id) == ["bad", "café au lait", "tea"]
    assert [path.name for path in found.not_videos] == ["notes.txt"]
    assert found.failed == {}


def test_of_two_files_with_one_id_the_second_fails_by_name(folder, h264):
    shutil.copy(h264, folder / "tea.avi")
    found = find_videos(folder)
    assert found.by_id["tea"].name == "tea.avi"
    assert list(found.failed) == [folder / "tea.mp4"]
    assert "'tea' is already that of tea.avi. Rename one" in found.failed[folder / "tea.mp4"]


def test_hidden_files_are_no_videos(folder):
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "._tea.mp4").write_bytes(b"\0\5\26\7")
    found = find_videos(folder)
    assert [path.name for path in found.not_videos] == [".DS_Store", "._tea.mp4", "notes.txt"]
    assert len(found.by_id) == 3


def test_a_folder_of_texts_holds_no_video(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match=r"holds no video \(1 other files\). Give a folder of videos"):
        find_videos(tmp_path)


@pytest.mark.parametrize("name", ["gone", "empty", "file"])
def test_a_folder_that_is_none_or_is_empty_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError) as caught:
        find_videos(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_content_is_probed_once_whatever_it_is_called(folder, store, monkeypatch):
    first = open_video(folder / "tea.mp4", store=store)

    def refuse(_path, **_rules):
        raise AssertionError("known already")

    monkeypatch.setattr(catalogue, "probe_guarded", refuse)
    again = open_video(folder / "café au lait.MP4", store=Store(store.root))
    assert (first.id, again.id) == ("tea", "café au lait")
    assert again.video_hash == first.video_hash
    assert again.facts.frame_times.tolist() == first.facts.frame_times.tolist()
    assert (again.facts.num_frames, again.facts.fps, again.facts.decoder) == (
        first.facts.num_frames,
        first.facts.fps,
        first.facts.decoder,
    )


def test_a_changed_file_is_another_video(folder, store):
    before = open_video(folder / "tea.mp4", store=store)
    with (folder / "tea.mp4").open("ab") as file:
        file.write((8).to_bytes(4, "big") + b"free")
    assert open_video(folder / "tea.mp4", store=store).video_hash != before.video_hash


def test_the_catalogue_keeps_facts_of_good_files_and_reasons_of_bad_ones(folder, store):
    open_video(folder / "tea.mp4", store=store)
    with pytest.raises(NotAVideoError):
        open_video(folder / "bad.mp4", store=store)
    bad, good = read_catalogue(store.catalogue_path)
    assert (good.id, good.status, good.num_frames, good.width, good.fps) == ("tea", "ok", 40, 96, 25.0)
    assert (good.video_streams, good.stream_index, good.pixel_aspect, good.variable_rate) == (
        1,
        0,
        1.0,
        False,
    )
    assert (bad.id, bad.status) == ("bad", "failed")
    assert bad.variable_rate is None
    assert bad.error.startswith(str(folder / "bad.mp4"))


def test_a_mended_file_replaces_its_row(folder, store, h264):
    with pytest.raises(VideoError):
        open_video(folder / "bad.mp4", store=store)
    shutil.copy(h264, folder / "bad.mp4")
    open_video(folder / "bad.mp4", store=store)
    (row,) = read_catalogue(store.catalogue_path)
    assert (row.status, row.error) == ("ok", None)


def test_every_file_has_a_row_good_or_bad(folder, store, tmp_path):
    rows = probe_all([folder, tmp_path / "gone.mp4"], store=store)
    assert {row.id: row.status for row in rows} == {
        "bad": "failed",
        "café au lait": "ok",
        "tea": "ok",
        "notes": "not a video",
        "gone": "failed",
    }
    assert all(os.path.isabs(row.path) for row in rows)  # noqa: PTH117  (a row holds text)


def test_a_damaged_timeline_fails_its_video_and_no_other(folder, store):
    open_video(folder / "tea.mp4", store=store)
    (timeline,) = (store.root / "timelines").glob("*.parquet")
    timeline.write_bytes(b"half")
    rows = {row.id: row for row in probe_all([folder], store=store)}
    assert rows["tea"].status == "failed"
    assert str(timeline) in rows["tea"].error
    assert rows["notes"].status == "not a video"


@pytest.mark.skipif(sys.platform != "linux", reason="names elsewhere are always text")
def test_a_name_that_is_no_text_is_reported_as_text(folder, store):
    (folder / "tea.mp4").rename(folder / os.fsdecode(b"caf\xe9.mp4"))
    row = next(row for row in probe_all([folder], store=store) if row.id == "caf\\xe9")
    assert row.status == "failed"
    assert "caf\\xe9.mp4: the path is not UTF-8 text. Rename" in row.error
    assert read_catalogue(store.catalogue_path)
