"""Where steps and video frames meet: by time, never by counting.

Labels live on video frames and are predicted on steps. A frame belongs to the step nearest in time; a step's
label is the majority over its frames; a step's prediction goes back to the same frames.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.input_rules import Pool


def nearest_steps(frame_times: NDArray[np.float64], step_times: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) the step each frame belongs to: the nearest in time, the earlier of two equally near.

    Args:
        frame_times: (N,) seconds.
        step_times: (T,) seconds, increasing.

    >>> nearest_steps(np.array([0.0, 1, 2, 3, 4]), np.array([0.0, 4]))
    array([0, 0, 0, 1, 1])
    """
    middles = (step_times[1:] + step_times[:-1]) / 2
    return np.searchsorted(middles, frame_times, side="left").astype(np.int64)


def step_labels(
    labels: NDArray[np.int64],
    *,
    frame_times: NDArray[np.float64],
    step_times: NDArray[np.float64],
    num_classes: int,
) -> NDArray[np.int64]:
    """(T,) majority label over the frames of each step.

    A tie goes to the label of the tied frames nearest to the step's own time, then to the lower id. A step
    without a frame of its own (more steps than frames) takes the label of the frame nearest to it.

    Args:
        labels: (N,) class ids.
        frame_times: (N,) seconds.
        step_times: (T,) seconds.
        num_classes: C.
    """
    num_steps = len(step_times)
    owner = nearest_steps(frame_times, step_times)
    votes = np.zeros((num_steps, num_classes))
    np.add.at(votes, (owner, labels), 1.0)
    # Less than one vote in all, more for a nearer frame: it decides ties and nothing else.
    distance = np.abs(frame_times - step_times[owner])
    closeness = 0.5 / (1.0 + distance)
    nearest = np.zeros_like(votes)
    np.maximum.at(nearest, (owner, labels), closeness)
    majority: NDArray[np.int64] = (votes + nearest).argmax(axis=1)
    own_nothing = np.bincount(owner, minlength=num_steps) == 0
    majority[own_nothing] = labels[nearest_steps(step_times[own_nothing], frame_times)]
    return majority


def thin_out(
    times: NDArray[np.float64], features: NDArray[np.float32], *, every: int, pool: Pool
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Every ``every``-th step, as it is, or as the mean over the steps nearest to it in time.

    Args:
        times: (T,) seconds, increasing.
        features: (T, D).
        every: Steps of which one is kept; the first is.
        pool: ``none`` or ``mean``.

    Returns:
        Seconds and features of the ceil(T / every) steps that are kept.

    >>> thin_out(np.arange(4.0), np.float32([[1], [2], [3], [6]]), every=2, pool="mean")[1].ravel().tolist()
    [1.5, 4.5]
    """
    kept = times[::every]
    if pool == "none" or every == 1:
        return kept, features[::every]
    starts = np.searchsorted(nearest_steps(times, kept), np.arange(len(kept)))
    counts = np.diff(np.append(starts, len(times)))
    sums = np.add.reduceat(features, starts, axis=0, dtype=np.float64)
    return kept, (sums / counts[:, None]).astype(np.float32)


def join_by_time(
    times: Sequence[NDArray[np.float64]], features: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Join the features of several profiles: the first is the time base.

    Each other profile contributes, for each step of the first, its row nearest in time.

    Args:
        times: (T_i,) seconds of each profile's steps.
        features: (T_i, D_i) of each profile.

    Returns:
        (T_0,) seconds and (T_0, sum of D_i).
    """
    base = times[0]
    rows = [feature[nearest_steps(base, time)] for time, feature in zip(times, features, strict=True)]
    return base, np.concatenate(rows, axis=1)
