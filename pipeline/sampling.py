"""Which frames stand for a video at another rate: pure arithmetic on time stamps."""

import math

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6  # slots; far above the rounding of a time stamp, far below a visible shift


def sample_frames(
    frame_times: NDArray[np.float64], *, target_fps: float, duration: float | None = None
) -> NDArray[np.int64]:
    """(M,) frame of each sample of a video resampled to ``target_fps``; sample k stands at ``k / target_fps`` s.

    A sample is the last frame whose time stamp, rounded to the nearest sample, is not later: the rule of FFmpeg's
    ``fps`` filter, so that counts equal those of extractors that re-encode with it. A variable rate keeps its
    time. Indices never decrease; one is repeated where the target rate is the higher one.

    Args:
        frame_times: (N,) seconds of each frame's start, increasing from the first frame's 0.
        target_fps: Samples per second.
        duration: Seconds to the last frame's end; without it the last frame lasts as long as the median one.

    >>> sample_frames(np.arange(10) / 50, target_fps=25).tolist()
    [0, 2, 4, 6, 8]
    >>> sample_frames(np.array([0.0, 0.2, 1.0]), target_fps=4, duration=1.25).tolist()
    [0, 1, 1, 1, 2]

    Raises:
        ValueError: There are no frames, or the rate is no positive number.
    """
    if not len(frame_times):
        raise ValueError("No frames to sample from: a video has at least one.")
    if not (math.isfinite(target_fps) and target_fps > 0):
        raise ValueError(f"A rate of {target_fps} samples per second: give a positive number.")
    if duration is None:
        duration = float(frame_times[-1] + (np.median(np.diff(frame_times)) if len(frame_times) > 1 else 0.0))
    count = max(1, math.floor(duration * target_fps + 0.5 + _ROUNDING))
    slots = np.floor(frame_times * target_fps + 0.5 + _ROUNDING)
    indices: NDArray[np.int64] = np.searchsorted(slots, np.arange(count), side="right") - 1
    return indices
