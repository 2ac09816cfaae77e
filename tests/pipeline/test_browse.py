"""Browsing a store: search, order and pages of many videos; stages joined; only unchanged files can be played."""

import os
import time
from dataclasses import replace

import pytest

from pipeline.browse_cache import Remembered
from pipeline.browse_catalogue import (
    PAGE_ROWS,
    Catalogue,
    CatalogueQuery,
    join_stages,
    playable_file,
)
from pipeline.errors import SettingsError
from storage.catalogue import CatalogueRow, update_catalogue
from storage.errors import MissingArtefactError
from storage.segments import Segment, write_segments
from storage.status import StatusRow, write_status
from storage.store import Store


def row(index: int, **changes) -> CatalogueRow:
    known = CatalogueRow(
        id=f"Clip {index}",
        path=f"/videos/{index % 7}/Clip {index}.mp4",
        status="failed" if index % 10 == 3 else "ok",
        video_hash=f"{index:064x}",
        codec="h264" if index % 2 else "hevc",
        width=640 + index % 5,
        height=480,
        fps=25.0,
        num_frames=(index * 7919) % 10007,
        duration_seconds=None if index % 4 == 0 else index / 3,
    )
    return replace(known, **changes)


def state(video: CatalogueRow, stage: str, status: str, *, what: str = "", reason: str | None = None):
    return StatusRow(video=video.id, path=video.path, stage=stage, what=what, status=status, reason=reason)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Ten thousand videos and what became of each in two stages."""
    store = Store(tmp_path_factory.mktemp("many") / "store")
    rows = [row(index) for index in range(10_000)]
    update_catalogue(store.catalogue_path, rows)
    states = ("done", "missing", "stale")
    status = [state(each, "features", states[index % 3], what="clip") for index, each in enumerate(rows)]
    write_status(store.status_path, status + [state(each, "prediction", "missing") for each in rows])
    return rows, Catalogue(Store(store.root, read_only=True))


@pytest.mark.parametrize(("sort", "descending"), [("codec", True), ("frames", False), ("length", True)])
def test_pages_hold_every_video_once_in_order(many, sort, descending):
    rows, catalogue = many
    asked = CatalogueQuery(sort=sort, descending=descending)
    first = catalogue.page(asked)
    assert (first.found, first.total, first.pages) == (10_000, 10_000, 10_000 // PAGE_ROWS)
    shown = [
        v for page in range(1, first.pages + 1) for v in catalogue.page(replace(asked, page=page)).videos
    ]
    assert sorted(video.path for video in shown) == sorted(each.path for each in rows)
    name = {"frames": "num_frames", "length": "duration_seconds"}.get(sort, sort)
    values = [getattr(video.row, name) for video in shown]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=descending)
    assert values == known + [None] * (len(values) - len(known))


def test_names_are_ordered_as_people_count(many):
    _, catalogue = many
    first = [video.name for video in catalogue.page(CatalogueQuery()).videos]
    assert first == [f"Clip {index}" for index in range(PAGE_ROWS)]
    last = catalogue.page(CatalogueQuery(descending=True)).videos[0]
    assert last.name == "Clip 9999"


def test_filters_agree_with_a_plain_loop(many):
    rows, catalogue = many

    def found(**asked):
        return catalogue.page(CatalogueQuery(**asked)).found

    assert found(text="CLIP 12") == sum("clip 12" in each.path.lower() for each in rows)
    assert found(text="/3/") == sum("/3/" in each.path for each in rows)
    assert found(status="failed") == 1000
    assert found(stage="features:stale") == 3333
    assert found(stage="features:stale", status="failed", text="9") == sum(
        index % 3 == 2 and index % 10 == 3 and "9" in str(index) for index in range(10_000)
    )
    assert found(stage="labels:done") == 0
    assert found(text="[(") == 0


def test_a_page_past_the_last_is_the_last(many):
    _, catalogue = many
    page = catalogue.page(CatalogueQuery(page=10**8))
    assert (page.page, len(page.videos)) == (page.pages, PAGE_ROWS)
    nothing = catalogue.page(CatalogueQuery(text="none of them"))
    assert (nothing.page, nothing.pages, nothing.videos) == (1, 1, ())


@pytest.mark.parametrize(
    "asked", [{"sort": "path"}, {"page": 0}, {"stage": "features"}, {"stage": "odd:done"}]
)
def test_what_makes_no_sense_is_refused(asked):
    with pytest.raises(SettingsError):
        CatalogueQuery(**asked)


def test_every_video_has_a_key_of_its_own(many):
    rows, catalogue = many
    videos = catalogue.videos()
    assert len(videos) == len(rows)
    assert catalogue.video(next(iter(videos))) is next(iter(videos.values()))
    with pytest.raises(MissingArtefactError):
        catalogue.video("../../store.json")


def test_a_stage_is_as_bad_as_its_worst_part():
    video = row(1)
    parts = [
        state(video, "features", "done", what="clip"),
        state(video, "features", "missing", what="i3d-rgb", reason="never extracted"),
        state(video, "features", "failed", what="mine", reason="no memory"),
        state(video, "evaluation", "done"),
        StatusRow(video="", path="", stage="texts", what="", status="missing"),
    ]
    (joined,) = join_stages([video], parts)
    assert joined.stages["features"].state == "failed"
    assert joined.stages["features"].reasons == ("i3d-rgb: never extracted", "mine: no memory")
    assert joined.stages["evaluation"].state == "done"
    assert set(joined.stages) == {"features", "evaluation"}


def test_videos_of_the_status_table_alone_are_shown_too():
    unprobed = StatusRow(video="new", path="/videos/new.mp4", stage="probe", what="", status="missing")
    imported = [
        StatusRow(video=name, path="", stage="labels", what="", status="done") for name in ("rec 1", "rec 2")
    ]
    found = join_stages([row(1)], [unprobed, *imported])
    assert [video.name for video in found] == ["Clip 1", "new", "rec 1", "rec 2"]
    assert [video.status for video in found] == ["ok", *["not probed"] * 3]
    assert len({video.key for video in found}) == 4


@pytest.fixture
def filed(tmp_path):
    """A store that knows one file."""
    store = Store(tmp_path / "store")
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not really a video")
    known = row(1, path=str(path), video_hash=store.digests.digest(path))
    update_catalogue(store.catalogue_path, [known])
    return Store(store.root, read_only=True), known, path


def playable(filed):
    store, known, _ = filed
    (video,) = join_stages([known], [])
    return playable_file(video, store=store)


def test_a_known_file_can_be_played_and_is_not_read_for_it(filed, monkeypatch):
    monkeypatch.setattr("storage.keys.file_digest", lambda _: pytest.fail("the content was read"))
    assert playable(filed) == filed[2].resolve()


@pytest.mark.parametrize("change", ["content", "touched", "gone", "link", "folder", "fifo"])
def test_a_file_that_is_not_what_was_probed_cannot_be_played(filed, change, tmp_path):
    path = filed[2]
    secret = tmp_path / "secret.txt"
    secret.write_bytes(path.read_bytes())
    if change == "content":
        path.write_bytes(b"not really a Video")
    elif change == "touched":
        os.utime(path, ns=(0, 0))
    else:
        path.unlink()
    if change == "link":
        path.symlink_to(secret)
    if change == "folder":
        path.mkdir()
    if change == "fifo":
        os.mkfifo(path)
    with pytest.raises(MissingArtefactError):
        playable(filed)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "s3://bucket/clip.mp4"},
        {"path": "relative.mp4"},
        {"path": ""},
        {"video_hash": None},
        {"video_hash": "0" * 64},
    ],
)
def test_a_row_that_names_no_file_of_ours_cannot_be_played(filed, changes):
    store, known, path = filed
    with pytest.raises(MissingArtefactError):
        playable((store, replace(known, **changes), path))


def test_predictions_are_found_by_content_as_they_come(tmp_path):
    store = Store(tmp_path / "store")
    catalogue = Catalogue(Store(store.root, read_only=True))
    (video,) = join_stages([row(1)], [])
    assert catalogue.segmented(video) == ()
    segment = Segment(
        video="v", start_frame=0, end_frame=5, start_seconds=0, end_seconds=1, label="a", score=0.5
    )
    for key, content in (("aa" * 32, row(1).video_hash), ("bb" * 32, row(2).video_hash)):
        facts = {"run": "cc" * 32, "video": content, "notices": []}
        write_segments(store.prediction_path(key), [segment], metadata=facts)
    store.prediction_path("dd" * 32).write_bytes(b"PAR1 and no more")
    found = catalogue.segmented(video)
    assert [(each.key, each.run) for each in found] == [("aa" * 32, "cc" * 32)]
    facts = {"run": "ee" * 32, "video": row(1).video_hash, "notices": []}
    write_segments(store.prediction_path("ff" * 32), [segment], metadata=facts)
    os.utime(store.prediction_path("aa" * 32), (1, 1))
    assert [each.key for each in catalogue.segmented(video)] == ["ff" * 32, "aa" * 32]


def test_a_value_is_read_again_only_when_its_file_changed(tmp_path):
    path, reads = tmp_path / "file", []
    value = Remembered(path, lambda: reads.append(1) or len(reads))
    assert [value.get(), value.get()] == [1, 1]
    path.write_text("there")
    assert [value.get(), value.get()] == [2, 2]
    os.utime(path, ns=(time.time_ns(), 5))
    assert value.get() == 3
