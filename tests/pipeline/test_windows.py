"""Window arithmetic, against brute force in plain Python and against the counts of public extractors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.probe import probe_video
from pipeline.sampling import sample_frames
from pipeline.windows import last_frame_times, window_frames, window_starts, window_times

counts = st.integers(1, 200)
strides = st.integers(1, 50)
reaches = st.integers(0, 40)


@given(num_frames=counts, stride=strides, reach=reaches)
def test_centres_are_the_multiples_of_the_stride_inside_the_video(num_frames, stride, reach):
    starts = window_starts(num_frames, window_frames=2 * reach + 1, stride_frames=stride)
    assert (starts + reach).tolist() == [frame for frame in range(num_frames) if frame % stride == 0]


@given(num_frames=counts, stride=strides, reach=reaches)
def test_windows_agree_with_a_padded_list(num_frames, stride, reach):
    size = 2 * reach + 1
    starts = window_starts(num_frames, window_frames=size, stride_frames=stride)
    for edge, before, after in (("clone", 0, num_frames - 1), ("zero", -1, -1)):
        padded = [before] * reach + list(range(num_frames)) + [after] * reach
        got = window_frames(starts, num_frames=num_frames, window_frames=size, edge=edge)
        assert got.tolist() == [padded[c : c + size] for c in range(0, num_frames, stride)]


@given(num_frames=counts, stride=strides, size=st.integers(1, 80), extra=st.integers(0, 1))
def test_dropped_windows_are_those_of_a_sliding_list(num_frames, stride, size, extra):
    starts = window_starts(
        num_frames, window_frames=size, stride_frames=stride, edge="drop", extra_frames=extra
    )
    expected = [
        list(range(first, first + size))
        for first in range(0, num_frames, stride)
        if first + size + extra <= num_frames
    ]
    got = window_frames(starts, num_frames=num_frames, window_frames=size, edge="drop")
    assert got.tolist() == expected


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=100), strides, reaches)
def test_step_times_are_true_frame_times_at_any_rate(gaps, stride, reach):
    frame_times = np.cumsum([0.0, *gaps[1:]])
    starts = window_starts(len(frame_times), window_frames=2 * reach + 1, stride_frames=stride)
    times = window_times(starts, window_frames=2 * reach + 1, frame_times=frame_times)
    np.testing.assert_allclose(times, frame_times[::stride], rtol=1e-15)


@given(num_frames=st.integers(2, 200), size=st.integers(1, 80), stride=strides)
def test_the_centre_of_a_window_is_the_mean_of_its_ends_at_a_constant_rate(num_frames, size, stride):
    frame_times = np.arange(num_frames) / 25
    starts = window_starts(num_frames, window_frames=size, stride_frames=stride, edge="drop")
    times = window_times(starts, window_frames=size, frame_times=frame_times)
    ends = frame_times[starts] + frame_times[starts + size - 1]
    np.testing.assert_allclose(times, ends / 2, atol=1e-12)


@pytest.mark.parametrize(("num_frames", "stride", "size"), [(0, 1, 3), (-1, 1, 3), (5, 0, 3), (5, 1, 0)])
@pytest.mark.parametrize("edge", ["clone", "zero", "drop"])
def test_impossible_windows_are_refused(num_frames, stride, size, edge):
    with pytest.raises(ValueError, match="at least 1"):
        window_starts(num_frames, window_frames=size, stride_frames=stride, edge=edge)


@pytest.mark.parametrize("edge", ["clone", "zero"])
def test_centred_windows_without_a_centre_are_refused(edge):
    with pytest.raises(ValueError, match="odd"):
        window_starts(5, window_frames=4, stride_frames=1, edge=edge)


@pytest.mark.parametrize(
    ("golden", "window", "stride", "fps", "rows"),
    [
        ("raft_None_None_None", 64, 64, None, 5),
        ("raft_24_24_25", 24, 24, 25, 18),
        ("raft_24_12_15", 24, 12, 15, 21),
    ],
)
def test_counts_and_time_stamps_are_those_of_a_public_extractor(  # noqa: PLR0917
    shared, golden, window, stride, fps, rows
):
    facts = probe_video(shared / "videos" / "clips" / "activitynet_v_GGSY1Qvo990.mp4")
    folder = shared / "golden" / "video_features"
    published = np.load(folder / f"v_GGSY1Qvo990_None_{golden}_timestamps_ms.npy")
    times = facts.frame_times
    if fps is not None:
        times = np.arange(len(sample_frames(times, target_fps=fps, duration=facts.duration))) / fps
    starts = window_starts(
        len(times), window_frames=window, stride_frames=stride, edge="drop", extra_frames=1
    )
    assert len(starts) == rows
    stamps = last_frame_times(starts, window_frames=window, frame_times=times)
    # The container's own time stamps are whole ticks; the extractor multiplied by the average rate.
    np.testing.assert_allclose(stamps * 1000, published, atol=0.1)
    centres = window_times(starts, window_frames=window, frame_times=times)
    np.testing.assert_allclose(stamps - centres, (window + 1) / 2 / (fps or facts.fps), atol=1e-4)
