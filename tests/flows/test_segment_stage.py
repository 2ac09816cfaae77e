"""The stage that segments new videos: how long each took, and the files that people get."""

import json

import pytest

from flows import hooks, stages
from flows.runner import DirectRunner
from pipeline.errors import SettingsError
from pipeline.outcome import VideoOutcome
from pipeline.segment import SegmentedVideo
from pipeline.settings import SegmentSettings
from storage.segments import Segment, write_segments
from storage.store import Store

PREDICTION = "ab" * 32


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Three videos of which the second fails, segmented by nobody; and settings that name them."""
    store = Store(tmp_path / "store")
    segment = Segment(
        video="v", start_frame=0, end_frame=5, start_seconds=0.0, end_seconds=0.5, label="stir", score=0.5
    )
    write_segments(store.prediction_path(PREDICTION), [segment], metadata={"run": "cd" * 32, "notices": []})
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(200))

    def segmented(paths, *, settings, run):  # noqa: ARG001
        seconds = {"a": 2.0, "b": 9.0, "c": 4.0}
        return [
            SegmentedVideo(
                outcome=VideoOutcome(
                    video=path.stem,
                    status="failed" if path.stem == "b" else "done",
                    reason="cut short" if path.stem == "b" else "",
                    seconds=seconds[path.stem],
                ),
                path=str(path),
                prediction="" if path.stem == "b" else PREDICTION,
            )
            for path in paths
        ]

    monkeypatch.setattr(stages, "segment_anywhere", segmented)
    monkeypatch.setattr(stages, "choose_run", lambda _: "cd" * 32)
    return SegmentSettings(videos=(folder,), store=tmp_path / "store"), tmp_path


def test_the_report_says_how_long_videos_took(world):
    settings, _ = world
    facts = stages.segment(settings, DirectRunner()).facts
    assert facts["latency"] == {"median_seconds": 3.0, "slowest_seconds": 4.0, "slowest_video": "c"}
    assert "files" not in facts


def test_results_are_written_where_they_are_asked_for(world):
    settings, folder = world
    report = stages.segment(settings.model_copy(update={"out": folder / "out"}), DirectRunner())
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {
        f"{name}.mp4.segments.{form}" for name in "ac" for form in ("json", "csv", "vtt", "html")
    }
    assert set(report.facts["files"]) == {str(folder / "out" / name) for name in names}
    assert json.loads((folder / "out" / "a.mp4.segments.json").read_text())["segments"][0]["class"] == "stir"


def test_two_videos_of_one_name_are_refused_before_anything_is_done(world):
    settings, folder = world
    (folder / "more").mkdir()
    (folder / "more" / "a.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    both = {"videos": (*settings.videos, folder / "more"), "out": folder / "out"}
    with pytest.raises(SettingsError, match=r"2 of the videos are called a\.mp4.*--out"):
        stages.segment(settings.model_copy(update=both), DirectRunner())


def test_the_artifacts_show_the_seconds_of_each_video_and_of_all(world, monkeypatch):
    settings, _ = world
    tables, texts = {}, {}
    monkeypatch.setattr(hooks.FlowRunContext, "get", object)
    monkeypatch.setattr(
        hooks,
        "create_table_artifact",
        lambda rows, *, key, description: tables.update({key: (rows, description)}),
    )
    monkeypatch.setattr(hooks, "create_markdown_artifact", lambda text, key: texts.update({key: text}))
    hooks.publish(stages.segment(settings, DirectRunner()))
    rows, _ = tables["segment-videos"]
    assert [(row["video"], row["seconds"], row["reason"]) for row in rows] == [
        ("b", 9.0, "cut short"),
        ("a", 2.0, ""),
        ("c", 4.0, ""),
    ]
    assert "| latency slowest\\_video | c |" in texts["segment-results"]
    assert "| latency median\\_seconds | 3.00 |" in texts["segment-results"]
