"""Extraction of many videos: what is stored is skipped, and one bad video harms no other."""

import shutil
import threading
from contextvars import ContextVar
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline import extract_batch as module
from pipeline import extractors, progress
from pipeline.anywhere import extract_anywhere
from pipeline.catalogue import open_video
from pipeline.device import videos_at_once
from pipeline.errors import WeightsError
from pipeline.extract import extract_video
from pipeline.extract_batch import extract_batch, plan_batch, videos_per_task
from pipeline.extractors import ExtractorSet
from pipeline.settings import ExtractionSettings
from storage import atomic
from storage.catalogue import read_catalogue
from storage.errors import DiskFullError
from storage.features import read_features
from storage.places import open_url, put_bytes
from storage.store import Store
from tests.pipeline.test_extract import fake_extractors

SETTINGS = ExtractionSettings(features=("clip:stride=16",), weights="random", device="cpu")

pytestmark = pytest.mark.usefixtures("single_thread", "clip_is_built")


@pytest.fixture
def videos(tmp_path, h264):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(h264, folder / "a.mp4")
    content = h264.read_bytes()
    (folder / "b.mp4").write_bytes(content + (8).to_bytes(4, "big") + b"free")
    (folder / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    (folder / "text.mp4").write_text("no video")
    return folder


def extract(folder, store, *names):
    return extract_batch([folder / name for name in names], extraction=SETTINGS, store=store)


def test_bad_videos_are_named_and_the_others_are_stored(videos, tmp_path):
    outcomes = extract(videos, tmp_path / "store", "cut.mp4", "a.mp4", "text.mp4", "gone.mp4", "b.mp4")
    assert [one.status for one in outcomes] == ["failed", "done", "failed", "failed", "done"]
    for one, name in zip(outcomes, ["cut.mp4", "a.mp4", "text.mp4", "gone.mp4", "b.mp4"], strict=True):
        assert one.video == name.removesuffix(".mp4")
        assert one.reason.startswith(str(videos / name)) is (one.status == "failed")
    files = sorted((tmp_path / "store" / "features" / "clip").glob("*.parquet"))
    assert len(files) == 2
    for file in files:
        found = read_features(file)
        np.testing.assert_allclose(found.time, [0, 16 / 25, 32 / 25])
        assert found.feature.shape == (3, 512)
        assert found.metadata.random_weights
    assert not list(tmp_path.rglob("*.part"))


def test_a_second_time_nothing_is_decoded(videos, tmp_path, monkeypatch):
    extract(videos, tmp_path / "store", "a.mp4")

    def refuse(*_args, **_kwargs):
        raise AssertionError("nothing is to be decoded")

    monkeypatch.setattr("pipeline.extract.read_guarded", refuse)
    (outcome,) = extract(videos, tmp_path / "store", "a.mp4")
    assert (outcome.status, outcome.reason) == ("skipped", "its features are stored")


def test_a_damaged_feature_file_is_made_anew_and_not_called_skipped(videos, tmp_path):
    extract(videos, tmp_path / "store", "a.mp4")
    (file,) = (tmp_path / "store" / "features" / "clip").glob("*.parquet")
    expected = read_features(file).feature
    file.write_bytes(file.read_bytes()[:200])
    (outcome,) = extract(videos, tmp_path / "store", "a.mp4")
    assert outcome.status == "done"
    np.testing.assert_array_equal(read_features(file).feature, expected)


def test_progress_counts_frames_to_the_last(videos, tmp_path):
    heard = []
    with progress.listening(heard.append):
        extract(videos, tmp_path / "store", "a.mp4")
    assert {one.work for one in heard} == {"extract a.mp4"}
    assert (heard[-1].done, heard[-1].total, heard[-1].unit) == (40, 40, "frames")


def test_a_full_disk_says_nothing_about_its_video_and_ends_the_work_naming_the_file(
    videos, tmp_path, monkeypatch
):
    sync = atomic._sync

    def full(path):
        if "features" in path.parts:
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(atomic, "_sync", full)
    with pytest.raises(
        DiskFullError, match=r"no room to write .*/features/clip/.*\(No space left on device\)"
    ):
        extract(videos, tmp_path / "store", "a.mp4", "b.mp4")
    assert not list((tmp_path / "store" / "features").rglob("*.parquet"))
    monkeypatch.undo()
    outcomes = extract(videos, tmp_path / "store", "a.mp4", "b.mp4")
    assert [one.status for one in outcomes] == ["done", "done"]


def test_a_share_that_is_gone_for_a_moment_fails_its_video_with_a_sentence(videos, tmp_path, monkeypatch):
    def gone(*_args, **_kwargs):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pipeline.extract.write_features", gone)
    outcomes = extract(videos, tmp_path / "store", "a.mp4", "b.mp4")
    assert [one.status for one in outcomes] == ["failed", "failed"]
    assert outcomes[0].reason.endswith("Input/output error. Check the disk, then run the same command again.")


def test_weights_that_cannot_be_had_are_an_error_at_once(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("FACTSEG_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.delenv("FACTSEG_I3D_RGB", raising=False)
    with pytest.raises(WeightsError, match=r"No weights of i3d-rgb\. Put"):
        extract_batch(
            [tmp_path / "a.mp4"],
            extraction=ExtractionSettings(features=("i3d-rgb",), device="cpu"),
            store=tmp_path / "store",
        )


@pytest.fixture
def unfit(tmp_path):
    """Settings that name a checkpoint of another network."""
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "resnet.pt")
    return ExtractionSettings(features=("i3d-rgb:stride=16",), i3d_rgb=tmp_path / "resnet.pt", device="cpu")


UNFIT = r"resnet\.pt: does not fit Inception-I3D.*Give the checkpoint of this network and stream\.$"


@pytest.mark.parametrize("workers", [1, 2])
def test_weights_of_another_network_end_the_batch_at_once(videos, tmp_path, monkeypatch, unfit, workers):
    monkeypatch.undo()
    loads = []
    load = extractors.load_i3d
    monkeypatch.setattr(extractors, "load_i3d", lambda *a, **k: loads.append(a) or load(*a, **k))
    paths = [videos / name for name in ("text.mp4", *["a.mp4", "b.mp4"] * 6)]
    with pytest.raises(WeightsError, match=UNFIT):
        extract_batch(
            paths, extraction=unfit.model_copy(update={"workers": workers}), store=tmp_path / "store"
        )
    # A second worker may take up another video before it hears of the end.
    assert len(loads) <= (1 if workers == 1 else 6)
    store = Store(tmp_path / "store")
    assert not list(store.root.rglob("features/**/*.parquet"))
    # It says nothing of the videos: those that were looked at are good.
    rows = {row.id: row.status for row in read_catalogue(store.catalogue_path)}
    assert rows.pop("text") == "failed"
    assert set(rows.values()) == {"ok"}


def test_weights_of_another_network_are_no_fault_of_a_video_by_url(videos, tmp_path, monkeypatch, unfit):
    monkeypatch.undo()
    monkeypatch.setenv("FACTSEG_CACHE", str(tmp_path / "cache"))
    place = open_url("memory://test-weights", remedy="")
    put_bytes(place / "a.mp4", (videos / "a.mp4").read_bytes(), once=False)
    try:
        with pytest.raises(WeightsError, match=UNFIT):
            extract_anywhere([f"{place}/a.mp4"], extraction=unfit, store=tmp_path / "store", cache_gib=1)
    finally:
        place.fs.rm(place.path, recursive=True)


def test_several_workers_give_the_same_files_in_the_order_asked(videos, tmp_path):
    names = ("a.mp4", "cut.mp4", "b.mp4")
    one = extract(videos, tmp_path / "one", *names)
    several = extract_batch(
        [videos / name for name in names],
        extraction=SETTINGS.model_copy(update={"workers": 2}),
        store=tmp_path / "several",
    )
    assert several == one
    made = [sorted((tmp_path / name / "features" / "clip").glob("*.parquet")) for name in ("one", "several")]
    assert [file.name for file in made[0]] == [file.name for file in made[1]]
    assert [file.read_bytes() for file in made[0]] == [file.read_bytes() for file in made[1]]


@pytest.mark.parametrize(
    ("given", "videos"),
    [
        ({}, 8),
        ({"workers": 4}, 16),
        ({"workers": 4, "batch_videos": 3}, 3),
        ({"workers": 4, "runner": "ray"}, 8),
        # Each of two devices keeps four videos in work.
        ({"device": "cuda:0,cuda:1"}, 32),
    ],
)
def test_a_task_has_several_videos_for_each_that_is_worked_on_at_once(monkeypatch, given, videos):
    devices = {
        "cpu": (torch.device("cpu"),),
        "cuda:0,cuda:1": (torch.device("cuda:0"), torch.device("cuda:1")),
    }
    monkeypatch.setattr(module, "choose_devices", devices.__getitem__)
    monkeypatch.setattr(module, "videos_at_once", lambda device: 4 if device.type == "cuda" else 1)
    assert videos_per_task(SETTINGS.model_copy(update=given)) == videos


@pytest.mark.parametrize(
    ("cores", "gib", "videos"), [(16, 141, 4), (16, 24, 3), (16, 8, 1), (16, 6, 1), (8, 80, 2), (2, 80, 1)]
)
def test_a_gpu_works_on_as_many_videos_as_cores_and_its_memory_allow(monkeypatch, cores, gib, videos):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    properties = SimpleNamespace(total_memory=gib << 30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: properties)
    assert videos_at_once(torch.device("cuda:0")) == videos
    assert videos_at_once(torch.device("cpu")) == 1


def test_videos_are_spread_over_devices_in_turn(videos, tmp_path, monkeypatch):
    """Two devices with two workers each: the first two videos go to different ones."""
    sets = tuple(SimpleNamespace(device=torch.device("meta", index)) for index in range(2))
    monkeypatch.setattr(module, "shared_extractors", lambda *_: sets)
    seen = []
    monkeypatch.setattr(
        module, "_spread", lambda _, teams, **_rest: seen.extend(team.device.index for team in teams)
    )
    paths = [videos / "a.mp4", videos / "b.mp4"]
    extract_batch(paths, extraction=SETTINGS.model_copy(update={"workers": 2}), store=tmp_path / "store")
    assert seen == [0, 1, 0, 1]


def test_several_workers_work_within_the_callers_context(videos, tmp_path, monkeypatch):
    run = ContextVar("run", default="none")
    seen = []

    def note_run(*args, **options):
        seen.append((threading.current_thread() is threading.main_thread(), run.get()))
        return extract_video(*args, **options)

    monkeypatch.setattr(module, "extract_video", note_run)
    run.set("of the caller")
    outcomes = extract_batch(
        [videos / "a.mp4", videos / "b.mp4"],
        extraction=SETTINGS.model_copy(update={"workers": 2}),
        store=tmp_path / "store",
    )
    assert [one.status for one in outcomes] == ["done", "done"]
    assert seen == [(False, "of the caller")] * 2


def test_videos_are_spread_over_the_devices(videos, tmp_path, monkeypatch):
    """Each device has networks of its own, and works while the other does."""
    teams = [fake_extractors("clip:stride=16") for _ in range(2)]
    sets = tuple(ExtractorSet(extractors=tuple(team)) for _, team in teams)
    monkeypatch.setattr(module, "shared_extractors", lambda _extraction, _store: sets)
    both = threading.Barrier(2, timeout=60)

    def extract_beside_the_other(*args, **options):
        both.wait()
        return extract_video(*args, **options)

    monkeypatch.setattr(module, "extract_video", extract_beside_the_other)
    outcomes = extract(videos, tmp_path / "store", "a.mp4", "b.mp4")
    assert [one.status for one in outcomes] == ["done", "done"]
    assert [networks.built for networks, _ in teams] == [["clip/ViT-B-32"]] * 2


def test_stopping_several_workers_leaves_nothing_half_written(videos, tmp_path, monkeypatch):
    def interrupt(path, **options):
        if path.stem == "b":
            raise KeyboardInterrupt
        return open_video(path, **options)

    monkeypatch.setattr(module, "open_video", interrupt)
    settings = SETTINGS.model_copy(update={"workers": 2})
    paths = [videos / name for name in ("a.mp4", "b.mp4", "a.mp4")]
    with pytest.raises(KeyboardInterrupt):
        extract_batch(paths, extraction=settings, store=tmp_path / "store")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("extract")]
    assert not list(tmp_path.rglob("*.part"))
    for file in (tmp_path / "store").rglob("features/clip/*.parquet"):
        read_features(file)


def test_a_plan_names_what_is_missing_and_makes_nothing(videos, tmp_path):
    paths = [videos / name for name in ("a.mp4", "text.mp4")]
    planned, failed = plan_batch(paths, extraction=SETTINGS, store=tmp_path / "store")
    assert planned.status == "skipped"
    assert planned.reason == "would make clip:stride=16 from 40 frames"
    assert failed.status == "failed"
    assert not list((tmp_path / "store").rglob("features/*/*.parquet"))
    extract(videos, tmp_path / "store", "a.mp4")
    (planned,) = plan_batch(paths[:1], extraction=SETTINGS, store=tmp_path / "store")
    assert planned.reason == "its features are stored"


def test_two_videos_of_one_name_are_told_apart_by_their_paths(videos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(videos / "b.mp4", other / "a.mp4")
    outcomes = extract_batch(
        [videos / "a.mp4", other / "a.mp4"], extraction=SETTINGS, store=tmp_path / "store"
    )
    assert [(one.video, one.status) for one in outcomes] == [("a", "done"), ("a", "done")]
    assert [one.path for one in outcomes] == [str(videos / "a.mp4"), str(other / "a.mp4")]
    assert len(list((tmp_path / "store" / "features" / "clip").glob("*.parquet"))) == 2


def test_progress_tells_the_pace(videos, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.extract._MAX_BATCH_FRAMES", 8)
    heard = []
    with progress.listening(heard.append):
        extract(videos, tmp_path / "store", "a.mp4")
    assert heard[0].note == ""
    assert all(one.note.endswith(" frames/s") for one in heard[1:-1])


def test_a_video_too_short_for_a_window_is_an_error_with_a_remedy(videos, tmp_path, monkeypatch):
    monkeypatch.undo()
    settings = ExtractionSettings(features=("i3d-rgb:window=64:edge=drop",), weights="random", device="cpu")
    (outcome,) = extract_batch([videos / "a.mp4"], extraction=settings, store=tmp_path / "store")
    assert outcome.status == "failed"
    assert "its 40 frames are too few for a window of 64 frames under edge=drop" in outcome.reason
