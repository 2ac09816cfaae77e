"""Which video frames a feature step sees, and when it happens: pure arithmetic."""

import numpy as np
from numpy.typing import NDArray


def window_centres(num_frames: int, *, stride_frames: int) -> NDArray[np.int64]:
    """(T,) centre frame of every step: each ``stride_frames``-th frame, from the first on.

    >>> window_centres(10, stride_frames=4).tolist()  # c...c...c.
    [0, 4, 8]
    >>> window_centres(1, stride_frames=4).tolist()
    [0]
    """
    if num_frames < 1 or stride_frames < 1:
        raise ValueError(
            f"Windows over {num_frames} frames with stride {stride_frames}: both must be at least 1."
        )
    return np.arange(0, num_frames, stride_frames, dtype=np.int64)


def window_frames(centres: NDArray[np.int64], *, num_frames: int, window_frames: int) -> NDArray[np.int64]:
    """(T, W) video frames of each window; beyond the video the first or last frame is repeated.

    >>> window_frames(window_centres(6, stride_frames=5), num_frames=6, window_frames=5).tolist()
    [[0, 0, 0, 1, 2], [3, 4, 5, 5, 5]]
    """
    if window_frames < 1 or window_frames % 2 == 0:
        raise ValueError(f"A centred window of {window_frames} frames: give an odd number.")
    reach = window_frames // 2
    offsets = np.arange(-reach, reach + 1, dtype=np.int64)
    frames: NDArray[np.int64] = np.clip(centres[:, None] + offsets, 0, num_frames - 1)
    return frames


def window_times(centres: NDArray[np.int64], *, frame_times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) seconds of each step: the true time stamp of its centre frame.

    Variable-rate video keeps time, because nothing is computed from an average rate.

    >>> window_times(np.array([0, 2]), frame_times=np.array([0.0, 0.04, 0.5])).tolist()
    [0.0, 0.5]
    """
    times: NDArray[np.float64] = frame_times[centres]
    return times
