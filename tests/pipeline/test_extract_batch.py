"""Extraction of many videos: what is stored is skipped, and one bad video harms no other."""

import shutil

import numpy as np
import pytest

from pipeline import extract_batch as module
from pipeline import progress
from pipeline.errors import WeightsError
from pipeline.extract_batch import extract_batch
from pipeline.settings import ExtractionSettings
from storage.features import read_features

SETTINGS = ExtractionSettings(features=("clip:stride=16",), weights="random", device="cpu")

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(autouse=True)
def built(clip_extractors, monkeypatch):
    monkeypatch.setattr(module, "_extractors", lambda _extraction, _store: clip_extractors)


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

    monkeypatch.setattr("pipeline.extract.read_frames", refuse)
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


def test_a_full_disk_fails_its_video_with_a_sentence(videos, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.extract.write_features", full)
    outcomes = extract(videos, tmp_path / "store", "a.mp4", "b.mp4")
    assert [one.status for one in outcomes] == ["failed", "failed"]
    assert outcomes[0].reason.endswith(
        "No space left on device. Check the disk, then run the same command again."
    )


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
