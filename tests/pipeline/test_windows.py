"""Window arithmetic, against brute force in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.windows import window_centres, window_frames, window_times

counts = st.integers(1, 200)
strides = st.integers(1, 50)
reaches = st.integers(0, 40)


@given(num_frames=counts, stride=strides)
def test_centres_are_the_multiples_of_the_stride_inside_the_video(num_frames, stride):
    expected = [frame for frame in range(num_frames) if frame % stride == 0]
    assert window_centres(num_frames, stride_frames=stride).tolist() == expected


@given(num_frames=counts, stride=strides, reach=reaches)
def test_windows_agree_with_a_padded_list(num_frames, stride, reach):
    frames = list(range(num_frames))
    padded = [0] * reach + frames + [num_frames - 1] * reach
    centres = window_centres(num_frames, stride_frames=stride)
    got = window_frames(centres, num_frames=num_frames, window_frames=2 * reach + 1)
    assert got.tolist() == [padded[c : c + 2 * reach + 1] for c in centres.tolist()]


@given(num_frames=counts, reach=reaches)
def test_stride_one_gives_a_step_per_frame_centred_on_it(num_frames, reach):
    centres = window_centres(num_frames, stride_frames=1)
    windows = window_frames(centres, num_frames=num_frames, window_frames=2 * reach + 1)
    assert windows.shape == (num_frames, 2 * reach + 1)
    assert windows[:, reach].tolist() == list(range(num_frames))


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=100), strides)
def test_step_times_are_true_frame_times_at_any_rate(gaps, stride):
    frame_times = np.cumsum([0.0, *gaps[1:]])
    centres = window_centres(len(frame_times), stride_frames=stride)
    assert window_times(centres, frame_times=frame_times).tolist() == frame_times[::stride].tolist()


@pytest.mark.parametrize(("num_frames", "stride"), [(0, 1), (-1, 1), (5, 0), (5, -2)])
def test_impossible_centres_are_refused(num_frames, stride):
    with pytest.raises(ValueError, match="at least 1"):
        window_centres(num_frames, stride_frames=stride)


@pytest.mark.parametrize("size", [0, -1, 4])
def test_windows_without_a_centre_are_refused(size):
    with pytest.raises(ValueError, match="odd"):
        window_frames(np.array([0]), num_frames=5, window_frames=size)
