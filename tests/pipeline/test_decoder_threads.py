"""Thread counts are tried out once per kind of video, and change no picture."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline import decoder_threads as threads
from pipeline.probe import probe_video
from pipeline.video import read_frames


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(threads, "_best", {})


def test_the_fastest_of_a_trial_is_taken_and_remembered(h264, monkeypatch):
    tried = []

    def rate(_path, _facts, count):
        tried.append(count)
        return {1: 50.0, 2: 80.0, 4: 70.0}[count]

    monkeypatch.setattr(threads, "_rate", rate)
    monkeypatch.setattr(threads, "_candidates", lambda _cores: [1, 2, 4])
    facts = replace(probe_video(h264), num_frames=threads.MIN_FRAMES)
    assert [threads.decoder_threads(h264, facts) for _ in range(3)] == [2, 2, 2]
    assert tried == [1, 2, 4]
    # What a long video taught serves short ones too.
    assert threads.decoder_threads(h264, replace(facts, num_frames=10)) == 2


def test_a_short_video_is_not_worth_a_trial(h264, monkeypatch):
    monkeypatch.setattr(threads, "_rate", None)
    assert threads.decoder_threads(h264, probe_video(h264)) == threads.AUTOMATIC


def test_damage_during_a_trial_is_left_to_the_reading(tmp_path, h264):
    path = tmp_path / "broken.mp4"
    path.write_bytes(bytes(1000))
    facts = replace(probe_video(h264), num_frames=threads.MIN_FRAMES)
    assert threads.decoder_threads(path, facts) == threads.AUTOMATIC


def test_a_real_trial_changes_no_picture(h264, monkeypatch):
    facts = probe_video(h264, "pyav")
    before = np.concatenate([pictures for _, pictures in read_frames(h264, facts)])
    monkeypatch.setattr(threads, "MIN_FRAMES", 1)
    after = np.concatenate([pictures for _, pictures in read_frames(h264, facts)])
    assert list(threads._best) == [("h264", 96, 64)]
    np.testing.assert_array_equal(after, before)
