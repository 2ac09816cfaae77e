"""From steps back to frames and segments: every frame once, times from the video."""

import itertools

import numpy as np
import pytest
import torch

from pipeline.catalogue import open_video
from pipeline.dataset import find_stored
from pipeline.inputs import inputs_of_model
from pipeline.labels import ClassList
from pipeline.model import load_model
from pipeline.predict import FramePrediction, predict_frames, prediction_key, segments_of
from storage.store import Store
from tests.pipeline.tiny import CLASSES

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture
def model(tiny_store, tiny_run):
    return load_model(Store(tiny_store).run_folder(tiny_run), device=torch.device("cpu"))


@pytest.fixture
def stored(tiny, tiny_store, model):
    inputs = inputs_of_model(model.description.inputs)
    return find_stored(tiny.root / "videos" / "x.mp4", inputs=inputs, store=Store(tiny_store))


def test_every_frame_gets_the_label_of_its_nearest_step(tiny, tiny_store, model, stored):
    found = predict_frames(stored, model=model, store=Store(tiny_store))
    assert found.labels.shape == found.confidence.shape == (60,)
    # Steps are 4 frames apart; frame 2 is as near to step 0 as to step 1 and goes to the earlier.
    for start in range(3, 56, 4):
        assert len(set(found.labels[start : start + 4].tolist())) == 1
    assert (found.labels == tiny.labels_of("x")).mean() > 0.85


def test_segments_cover_the_video_without_gap_and_end_with_it(tiny_store, model, stored):
    prediction = predict_frames(stored, model=model, store=Store(tiny_store))
    segments = segments_of(prediction, video=stored.video, classes=model.description.classes)
    assert segments[0].start_frame == 0
    assert segments[-1].end_frame == 60
    assert segments[-1].end_seconds == pytest.approx(6.0)
    back = np.concatenate(
        [[CLASSES.index(one.label)] * (one.end_frame - one.start_frame) for one in segments]
    )
    np.testing.assert_array_equal(back, prediction.labels)
    for one, after in itertools.pairwise(segments):
        assert one.end_frame == after.start_frame
        assert one.end_seconds == after.start_seconds == pytest.approx(after.start_frame / 10)
        assert one.label != after.label
        assert one.score == pytest.approx(prediction.confidence[one.start_frame : one.end_frame].mean())


def test_segment_times_are_those_of_the_frames_where_the_rate_varies(tmp_path, make_video, make_frames):
    stamps = [0, 40, 80, 500, 900, 940]
    path = make_video(tmp_path / "v.mkv", make_frames(6), stamps=stamps)
    video = open_video(path, store=Store(tmp_path / "store"))
    prediction = FramePrediction(
        labels=np.array([0, 0, 1, 1, 1, 0]), confidence=np.full(6, 0.5, dtype=np.float32)
    )
    segments = segments_of(prediction, video=video, classes=ClassList(("a", "b")))
    assert [one.start_seconds for one in segments] == pytest.approx([0.0, 0.08, 0.94])
    assert [one.end_seconds for one in segments] == pytest.approx([0.08, 0.94, video.facts.duration])


def test_the_key_of_a_prediction_tells_runs_apart(stored):
    assert prediction_key(stored, run="a" * 64) != prediction_key(stored, run="b" * 64)
    assert prediction_key(stored, run="a" * 64) == prediction_key(stored, run="a" * 64)
