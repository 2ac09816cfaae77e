"""A watched folder: each video once, when it is complete, whatever else happens."""

import errno
import gc
import json
import os

import pytest

from flows import watch as watching
from flows.reports import StageReport
from flows.watch import Watcher, watch
from pipeline.errors import DatasetError, ServerError, WeightsError
from pipeline.outcome import VideoOutcome
from pipeline.settings import SegmentSettings
from pipeline.settings_operations import WatchSettings
from storage import atomic
from storage.errors import CorruptArtefactError
from storage.segments import Segment, write_segments
from storage.store import Store

PREDICTION = "ab" * 32
# What a video file may begin with: no text, so that the listing takes it for something to judge.
CONTENT = b"\x00\x00\x00\x18ftypmp42" + bytes(200)


class HandClock:
    """Time that moves when the test says so."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


class Segmenter:
    """Stands for the segment stage: notes what it was asked, and stores one segment."""

    def __init__(self, store):
        self.asked = []
        self.fails_with = None
        write_segments(
            store.prediction_path(PREDICTION),
            [
                Segment(
                    video="v",
                    start_frame=0,
                    end_frame=5,
                    start_seconds=0.0,
                    end_seconds=0.5,
                    label="<b>stir</b>",
                    score=0.5,
                )
            ],
            metadata={"run": "cd" * 32, "notices": ["random weights"]},
        )

    def __call__(self, settings):
        self.asked.append([path.name for path in settings.videos])
        if self.fails_with is not None:
            return StageReport(
                stage="segment", outcomes=(self.fails_with,) * len(settings.videos), facts={"videos": []}
            )
        return StageReport(
            stage="segment",
            outcomes=tuple(VideoOutcome(video=path.stem, status="done") for path in settings.videos),
            facts={"videos": [{"path": str(path), "prediction": PREDICTION} for path in settings.videos]},
        )


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder, a clock, a segmenter and the settings that bring them together."""
    monkeypatch.setattr(watching, "choose_run", lambda _: "cd" * 32)
    folder = tmp_path / "in"
    folder.mkdir()
    settings = WatchSettings(
        folder=folder,
        out=tmp_path / "out",
        settle_seconds=10,
        poll_seconds=5,
        segment=SegmentSettings(store=tmp_path / "store", videos=(folder,)),
    )
    return folder, settings, HandClock(), Segmenter(Store(tmp_path / "store"))


def test_a_file_is_segmented_once_it_stopped_growing_and_only_once(world):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    watcher = Watcher(settings, call=segmenter, clock=clock)
    assert watcher.look_once() == []
    clock.sleep(9)
    with (folder / "a.mp4").open("ab") as file:
        file.write(b"more")
    assert watcher.look_once() == []
    clock.sleep(9.5)
    assert watcher.look_once() == []
    clock.sleep(1)
    assert [outcome.video for outcome in watcher.look_once()] == ["a"]
    clock.sleep(100)
    assert watcher.look_once() == []
    assert segmenter.asked == [["a.mp4"]]


def test_results_say_what_was_found_and_the_folder_is_left_as_it_was(world):
    folder, settings, clock, segmenter = world
    (folder / "a b.mp4").write_bytes(CONTENT)
    watch(settings, call=segmenter, clock=clock, looks=4)
    assert [path.name for path in folder.iterdir()] == ["a b.mp4"]
    found = json.loads((settings.out / "a b.mp4.segments.json").read_text())
    assert (found["segments"][0]["class"], found["notices"]) == ("<b>stir</b>", ["random weights"])
    assert (settings.out / "a b.mp4.segments.csv").read_text().splitlines()[1].startswith("a b,0,5,")
    page = (settings.out / "a b.mp4.segments.html").read_text()
    assert "<b>stir</b>" not in page
    assert "WEBVTT" in (settings.out / "a b.mp4.segments.vtt").read_text()


def test_results_beside_the_videos_are_not_taken_for_videos(world):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    watch(settings.model_copy(update={"out": None}), call=segmenter, clock=clock, looks=12)
    assert len(list(folder.iterdir())) == 5
    assert segmenter.asked == [["a.mp4"]]


def test_a_restart_segments_nothing_again_but_a_replaced_file_is_a_new_one(world):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    watch(settings, call=segmenter, clock=clock, looks=4)
    watch(settings, call=segmenter, clock=clock, looks=4)
    assert segmenter.asked == [["a.mp4"]]
    (folder / "a.mp4").write_bytes(CONTENT + b"new")
    watch(settings, call=segmenter, clock=clock, looks=4)
    assert segmenter.asked == [["a.mp4"], ["a.mp4"]]


def test_two_watchers_of_one_folder_share_the_work(world):
    folder, settings, clock, segmenter = world
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(CONTENT + name.encode())
    second = Watcher(settings, call=segmenter, clock=clock)

    def call_while_the_other_looks(batch):
        # The first holds its claims while the second looks.
        assert second.look_once() == []
        return segmenter(batch)

    first = Watcher(settings, call=call_while_the_other_looks, clock=clock)
    first.look_once()
    second.look_once()
    clock.sleep(20)
    assert len(first.look_once()) == 2
    assert second.look_once() == []
    assert segmenter.asked == [["a.mp4", "b.mp4"]]


def test_a_broken_video_is_noted_and_never_tried_again(world):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    segmenter.fails_with = VideoOutcome(video="a", status="failed", reason="no video stream")
    outcomes = watch(settings, call=segmenter, clock=clock, looks=12)
    assert [outcome.reason for outcome in outcomes] == ["no video stream"]
    assert not settings.out.exists()


def test_a_full_disk_says_nothing_about_the_video_and_it_is_tried_again_after_a_while(world):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    segmenter.fails_with = VideoOutcome(video="a", status="failed", reason="disk full", may_pass=True)
    watcher = Watcher(settings, call=segmenter, clock=clock)
    watcher.look_once()
    clock.sleep(11)
    assert [outcome.reason for outcome in watcher.look_once()] == ["disk full"]
    segmenter.fails_with = None
    clock.sleep(1)
    assert watcher.look_once() == []
    clock.sleep(11)
    assert [outcome.status for outcome in watcher.look_once()] == ["done"]


def test_results_that_find_no_room_are_written_later(world, monkeypatch):
    folder, settings, clock, segmenter = world
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(CONTENT + name.encode())
    sync = atomic._sync

    def full(path):
        if path.name.startswith(".a.mp4.segments.vtt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    monkeypatch.setattr(atomic, "_sync", full)
    watcher = Watcher(settings, call=segmenter, clock=clock)
    watcher.look_once()
    clock.sleep(11)
    first, second = watcher.look_once()
    assert (first.status, second.status) == ("failed", "done")
    assert "no room to write" in first.reason
    assert "a.mp4.segments.vtt" in first.reason
    monkeypatch.setattr(atomic, "_sync", sync)
    clock.sleep(1)
    assert watcher.look_once() == []
    clock.sleep(11)
    assert [(outcome.video, outcome.status) for outcome in watcher.look_once()] == [("a", "done")]
    assert len(list(settings.out.glob("*.segments.*"))) == 8


@pytest.mark.parametrize(
    "error",
    [
        ServerError("no flow can run there"),
        WeightsError("the weights do not fit"),
        CorruptArtefactError("manifest.json is damaged"),
        RuntimeError("the embedded server did not start"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_breaks_the_whole_stage_for_a_while_costs_the_watcher_nothing(world, error, caplog):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    broken = [error, error]

    def call(batch):
        if broken:
            raise broken.pop()
        return segmenter(batch)

    outcomes = watch(settings, call=call, clock=clock, looks=12)
    assert not broken
    assert [outcome.status for outcome in outcomes] == ["done"]
    assert caplog.text.count(str(error)) >= 2


def test_a_folder_that_is_gone_for_a_while_costs_nothing_but_at_the_start_it_is_named(world, tmp_path):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    away = tmp_path / "not mounted"
    sleep, slept = clock.sleep, []

    def unmounted_for_a_while(seconds):
        sleep(seconds)
        slept.append(seconds)
        if len(slept) == 1:
            folder.rename(away)
        if len(slept) == 3:
            away.rename(folder)

    clock.sleep = unmounted_for_a_while
    outcomes = watch(settings, call=segmenter, clock=clock, looks=12)
    assert [outcome.status for outcome in outcomes] == ["done"]
    folder.rename(away)
    with pytest.raises(DatasetError, match="in"):
        watch(settings, call=segmenter, clock=clock, looks=12)


def test_results_whose_folder_is_gone_for_a_while_are_written_later(world, tmp_path):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    # No folder can be made in a file, as none can in a share that is not there.
    (tmp_path / "share").write_text("")
    settings = settings.model_copy(update={"out": tmp_path / "share" / "out"})
    watcher = Watcher(settings, call=segmenter, clock=clock)
    watcher.look_once()
    clock.sleep(11)
    assert [outcome.status for outcome in watcher.look_once()] == ["failed"]
    (tmp_path / "share").unlink()
    watcher.look_once()
    clock.sleep(11)
    assert [outcome.status for outcome in watcher.look_once()] == ["done"]
    assert len(list(settings.out.iterdir())) == 4


def test_watching_without_end_keeps_nothing_of_the_past(world):
    folder, settings, clock, segmenter = world
    sleep, turns, kept = clock.sleep, iter(range(40)), {}

    def one_more_video(seconds):
        sleep(seconds)
        turn = next(turns)
        (folder / f"{turn}.mp4").write_bytes(CONTENT + bytes(turn))
        if turn in (5, 39):
            gc.collect()
            kept[turn] = sum(type(one) is VideoOutcome for one in gc.get_objects())
        if turn == 39:
            raise KeyboardInterrupt

    clock.sleep = one_more_video
    with pytest.raises(KeyboardInterrupt):
        watch(settings, call=segmenter, clock=clock)
    assert len(segmenter.asked) > 30
    assert kept[39] <= kept[5] + 2


def test_an_interrupted_video_is_taken_up_by_the_next_watcher(world):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(settings, call=interrupted, clock=clock, looks=4)
    watch(settings, call=segmenter, clock=clock, looks=4)
    assert segmenter.asked == [["a.mp4"]]


def test_a_changed_time_of_day_changes_nothing(world, monkeypatch):
    folder, settings, clock, segmenter = world
    (folder / "a.mp4").write_bytes(CONTENT)
    os.utime(folder / "a.mp4", (4e9, 4e9))  # a date in the future, as after a clock was set back
    monkeypatch.setattr("time.time", lambda: 1.0)
    watch(settings, call=segmenter, clock=clock, looks=4)
    assert segmenter.asked == [["a.mp4"]]
