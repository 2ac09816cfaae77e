"""Resampling by time stamps: against FFmpeg's own filter, public counts, and properties."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.probe import probe_video
from pipeline.sampling import sample_frames


def sampled_by_ffmpeg(ticks, *, last, fps):
    """Indices that FFmpeg's ``fps`` filter passes on; frames carry their index as brightness."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="gray16le", time_base=Fraction(1, 1000))
    resample = graph.add("fps", f"fps={fps}")
    sink = graph.add("buffersink")
    source.link_to(resample)
    resample.link_to(sink)
    graph.configure()
    found = []
    for index, (tick, length) in enumerate(zip(ticks, [*np.diff(ticks), last], strict=True)):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), index, np.uint16), format="gray16le")
        frame.pts, frame.time_base, frame.duration = int(tick), Fraction(1, 1000), int(length)
        graph.push(frame)
    graph.push(None)
    while True:
        try:
            found.append(int(graph.pull().to_ndarray()[0, 0]))
        except (av.BlockingIOError, av.EOFError):
            return found


lengths = st.lists(st.integers(1, 300), min_size=1, max_size=40)


@given(lengths=lengths, fps=st.sampled_from(["1", "5", "12", "15", "24", "25", "30", "50", "30000/1001"]))
def test_frames_are_those_that_ffmpeg_takes(lengths, fps):
    ticks = np.concatenate([[0], np.cumsum(lengths[:-1])])
    ours = sample_frames(ticks / 1000, target_fps=float(Fraction(fps)), duration=sum(lengths) / 1000)
    theirs = sampled_by_ffmpeg(ticks, last=lengths[-1], fps=fps)
    # A video shorter than half a sample has none in FFmpeg; here it keeps one picture.
    assert ours.tolist() == theirs or (theirs == [] and len(ours) == 1)


@given(lengths=lengths, fps=st.floats(0.1, 200))
def test_no_sample_is_more_than_half_a_step_from_a_frame_on_display(lengths, fps):
    starts = np.concatenate([[0], np.cumsum(lengths[:-1])]) / 1000
    ends = np.cumsum(lengths) / 1000
    indices = sample_frames(starts, target_fps=fps, duration=ends[-1])
    times = np.arange(len(indices)) / fps
    assert (np.diff(indices) >= 0).all()
    assert (starts[indices] <= times + 0.5 / fps + 1e-5 / fps).all()
    assert (ends[indices] >= times - 0.5 / fps - 1e-5 / fps).all()


@pytest.mark.parametrize("fps", [29.97, 25, 59.94, 15.5])
def test_the_own_rate_of_a_video_takes_every_frame_once(fps):
    assert sample_frames(np.arange(500) / fps, target_fps=fps).tolist() == list(range(500))


def test_counts_are_those_of_a_public_extractor(shared):
    facts = probe_video(shared / "videos" / "clips" / "activitynet_v_GGSY1Qvo990.mp4")
    golden = shared / "golden" / "video_features"
    stamps = np.load(golden / "v_GGSY1Qvo990_ViT-B_32_1_5_timestamps_ms.npy")
    five = sample_frames(facts.frame_times, target_fps=5, duration=facts.duration)
    np.testing.assert_allclose(np.arange(len(five)) / 5 * 1000, stamps, atol=1e-6)
    for fps, window, step, rows in [(25, 24, 24, 18), (15, 24, 12, 21)]:
        count = len(sample_frames(facts.frame_times, target_fps=fps, duration=facts.duration))
        assert (count - (window + 1)) // step + 1 == rows


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(fps):
    with pytest.raises(ValueError, match="give a positive number"):
        sample_frames(np.zeros(1), target_fps=fps)


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        sample_frames(np.zeros(0), target_fps=5)
