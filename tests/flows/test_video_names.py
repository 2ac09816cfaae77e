"""Videos of one name, in several folders or beside each other, keep rows of their own."""

import json
import shutil

import pytest

from flows import stages
from flows.reports import StageReport
from flows.runner import DirectRunner
from pipeline import anywhere
from pipeline.errors import DatasetError
from pipeline.outcome import VideoOutcome
from pipeline.segment import SegmentedVideo
from pipeline.settings import ExtractSettings, RunSettings, SegmentSettings


@pytest.fixture
def kitchens(tmp_path):
    """Two folders with a file of one name, a deeper one, and a note."""
    for place in ("P01", "P02", "P02/deep"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "cam.mp4").write_bytes(b"\0\1\2")
    (tmp_path / "P01" / "notes.tsv").write_text("a\tb\n")
    return [tmp_path / "P01", tmp_path / "P02"]


@pytest.fixture
def outcomes_of(monkeypatch, tmp_path):
    """The rows of an extraction that does nothing."""
    monkeypatch.setattr(stages, "resolve_extraction", lambda *_args, **_options: {})
    monkeypatch.setattr(
        anywhere,
        "extract_batch",
        lambda paths, **_options: [VideoOutcome(video=path.stem, status="done") for path in paths],
    )

    def run(videos, **options):
        settings = ExtractSettings(videos=tuple(videos), store=tmp_path / "store", **options)
        return {(one.video, one.status) for one in stages.extract(settings, DirectRunner()).outcomes}

    return run


def test_equal_names_are_told_apart_by_their_folders(kitchens, outcomes_of):
    assert outcomes_of(kitchens) == {("P01/cam", "done"), ("P02/cam", "done"), ("notes.tsv", "skipped")}


def test_deeper_folders_count_when_asked_for(kitchens, outcomes_of):
    expected = {("P01/cam", "done"), ("P02/cam", "done"), ("deep/cam", "done"), ("notes.tsv", "skipped")}
    assert outcomes_of(kitchens, recursive=True) == expected


def test_a_name_that_is_there_once_stays_short(kitchens, outcomes_of):
    shutil.rmtree(kitchens[0])
    assert outcomes_of(kitchens[1:]) == {("cam", "done")}


@pytest.fixture
def namesakes(tmp_path):
    """Files that share their names: a picture and a film, two films, a camera's small copy and its large one."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("film.jpg", "film.mp4", "hand.avi", "hand.mp4", "GX01.LRV", "GX01.MP4", "cut.mp4"):
        (folder / name).write_bytes(b"\0\1\2" + name.encode())
    (folder / "film.txt").write_text("what is seen")
    return folder


NAMES = {"film.jpg", "film.mp4", "hand.avi", "hand.mp4", "GX01.LRV", "GX01.MP4", "cut"}


def test_no_file_beside_a_video_shuts_it_out_of_an_extraction(namesakes, outcomes_of):
    assert outcomes_of([namesakes]) == {*((name, "done") for name in NAMES), ("film.txt", "skipped")}


def test_no_file_beside_a_video_shuts_it_out_of_segmenting(namesakes, monkeypatch, tmp_path):
    def segmented(paths, **_options):
        return [
            SegmentedVideo(
                outcome=VideoOutcome(video=path.stem, status="done"), path=str(path), prediction="ab" * 32
            )
            for path in paths
        ]

    monkeypatch.setattr(stages, "segment_anywhere", segmented)
    monkeypatch.setattr(stages, "choose_run", lambda _: "cd" * 32)
    report = stages.segment(SegmentSettings(videos=(namesakes,), store=tmp_path / "store"), DirectRunner())
    assert {one.video for one in report.outcomes if one.status == "done"} == NAMES
    assert {video["path"] for video in report.facts["videos"]} == {
        str(path) for path in namesakes.iterdir() if path.suffix != ".txt"
    }


def test_a_data_set_says_which_videos_it_leaves_out_because_of_their_ids(namesakes, tmp_path):
    """Splits and labels name videos by ids, so that here one of each name can be meant."""
    settings = RunSettings(
        store=tmp_path / "store",
        dataset={
            "videos": namesakes,
            "labels": tmp_path / "labels",
            "mapping": tmp_path / "mapping.txt",
            "splits": tmp_path / "splits",
        },
    )
    extracted = tuple(VideoOutcome(video=name, status="done") for name in NAMES)
    report, *_ = stages.prepare(settings, lambda *_: StageReport(stage="extract", outcomes=extracted))
    failed = {one.video: one.reason for one in report.outcomes if one.status == "failed"}
    assert set(failed) == {"film.mp4", "hand.mp4", "GX01.MP4"}
    assert "'hand' is already that of hand.avi. Rename one" in failed["hand.mp4"]


def test_a_folder_of_notes_holds_no_video(tmp_path, outcomes_of):
    (tmp_path / "notes.tsv").write_text("a\tb\n")
    with pytest.raises(DatasetError, match=r"holds no video \(1 other files\)"):
        outcomes_of([tmp_path])


def test_notes_of_one_name_are_told_apart_by_their_paths(kitchens, outcomes_of, tmp_path):
    (kitchens[1] / "notes.tsv").write_text("c\td\n")
    outcomes_of(kitchens)
    rows = json.loads((tmp_path / "store" / "tables" / "extract.json").read_text())["videos"]
    assert [row["path"] for row in rows if row["status"] == "skipped"] == [
        str(kitchen / "notes.tsv") for kitchen in kitchens
    ]
