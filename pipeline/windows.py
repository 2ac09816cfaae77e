"""Which pictures a feature step sees, and when it happens: pure arithmetic on the pictures of a sampled video."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Edge = Literal["clone", "zero", "drop"]
"""What becomes of a window that reaches beyond the video: the first or last picture is repeated, there are zeros
of network input (mid grey, no motion), or there is no such window."""

NOTHING = -1
"""Index of a picture that does not exist."""


def window_starts(
    num_frames: int, *, window_frames: int, stride_frames: int, edge: Edge = "clone", extra_frames: int = 0
) -> NDArray[np.int64]:
    """(T,) first picture of every window; negative where it starts before the video.

    Under ``clone`` and ``zero`` a window is centred on every ``stride_frames``-th picture. Under ``drop`` windows
    follow each other from the first picture on, and one that does not fit, with ``extra_frames`` after it, is left
    out: optical flow looks one picture beyond its window.

    >>> window_starts(10, window_frames=3, stride_frames=4).tolist()  # three around pictures 0, 4 and 8
    [-1, 3, 7]
    >>> window_starts(10, window_frames=4, stride_frames=3, edge="drop").tolist()  # ffff... / ...ffff... / ......ffff
    [0, 3, 6]
    >>> window_starts(10, window_frames=4, stride_frames=3, edge="drop", extra_frames=1).tolist()
    [0, 3]
    >>> window_starts(3, window_frames=4, stride_frames=3, edge="drop").tolist()
    []

    Raises:
        ValueError: A number is out of range, or a centred window has no centre.
    """
    if num_frames < 1 or stride_frames < 1 or window_frames < 1:
        raise ValueError(
            f"Windows of {window_frames} over {num_frames} frames with stride {stride_frames}: "
            "each must be at least 1."
        )
    if edge == "drop":
        stop = num_frames - window_frames - extra_frames + 1
        return np.arange(0, max(stop, 0), stride_frames, dtype=np.int64)
    if window_frames % 2 == 0:
        raise ValueError(f"A centred window of {window_frames} frames: give an odd number.")
    return np.arange(0, num_frames, stride_frames, dtype=np.int64) - window_frames // 2


def window_frames(
    starts: NDArray[np.int64], *, num_frames: int, window_frames: int, edge: Edge = "clone"
) -> NDArray[np.int64]:
    """(T, W) pictures of each window; beyond the video as ``edge`` says.

    >>> starts = window_starts(6, window_frames=5, stride_frames=5)
    >>> window_frames(starts, num_frames=6, window_frames=5).tolist()
    [[0, 0, 0, 1, 2], [3, 4, 5, 5, 5]]
    >>> window_frames(starts, num_frames=6, window_frames=5, edge="zero").tolist()
    [[-1, -1, 0, 1, 2], [3, 4, 5, -1, -1]]
    """
    frames = starts[:, None] + np.arange(window_frames, dtype=np.int64)
    if edge == "zero":
        return np.where((frames >= 0) & (frames < num_frames), frames, NOTHING)
    clipped: NDArray[np.int64] = np.clip(frames, 0, num_frames - 1)
    return clipped


def window_times(
    starts: NDArray[np.int64], *, window_frames: int, frame_times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(T,) seconds of each step: the time stamp of its window's centre.

    The centre of an even number of pictures lies half-way between the two in the middle. Variable-rate video
    keeps time, because nothing is computed from an average rate.

    >>> times = np.array([0.0, 0.04, 0.5, 0.6])
    >>> window_times(np.array([-1, 1]), window_frames=3, frame_times=times).tolist()
    [0.0, 0.5]
    >>> window_times(np.array([0]), window_frames=4, frame_times=times).tolist()
    [0.27]
    """
    lower = frame_times[starts + (window_frames - 1) // 2]
    upper = frame_times[starts + window_frames // 2]
    times: NDArray[np.float64] = (lower + upper) / 2
    return times


def last_frame_times(
    starts: NDArray[np.int64], *, window_frames: int, frame_times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(T,) seconds at which the picture after each window is shown: how public extractors stamp a window.

    Ours are centres (``window_times``); this is the conversion for whoever lays features of both side by side.

    >>> last_frame_times(np.array([0, 2]), window_frames=2, frame_times=np.arange(5) / 25).tolist()
    [0.08, 0.16]
    """
    times: NDArray[np.float64] = frame_times[starts + window_frames]
    return times
