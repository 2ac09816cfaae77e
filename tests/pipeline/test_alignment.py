"""Steps and frames meet by time: every rule against a loop that reads like its sentence."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alignment import join_by_time, nearest_steps, step_labels

# Quarters of a second are exact in floating point, so ties are real ties.
times = st.lists(st.integers(0, 200), min_size=1, max_size=40, unique=True).map(
    lambda ticks: np.array(sorted(ticks)) / 4
)


def nearest_by_hand(frame_times, step_times):
    """The step with the least distance; of equally near ones min() takes the first."""
    return [
        min(range(len(step_times)), key=lambda step: abs(step_times[step] - moment)) for moment in frame_times
    ]


def label_by_hand(labels, frame_times, step_times, step):
    owner = nearest_by_hand(frame_times, step_times)
    own = [frame for frame in range(len(labels)) if owner[frame] == step]
    if not own:
        return {labels[nearest_by_hand([step_times[step]], frame_times)[0]]}
    counts = Counter(labels[frame] for frame in own)
    tied = {label for label, count in counts.items() if count == max(counts.values())}
    near = [frame for frame in own if labels[frame] in tied]
    least = min(abs(frame_times[frame] - step_times[step]) for frame in near)
    return {labels[frame] for frame in near if abs(frame_times[frame] - step_times[step]) == least}


@given(frame_times=times, step_times=times)
def test_a_frame_belongs_to_the_step_nearest_in_time_the_earlier_of_two(frame_times, step_times):
    assert nearest_steps(frame_times, step_times).tolist() == nearest_by_hand(frame_times, step_times)


@given(data=st.data(), frame_times=times, step_times=times)
def test_a_step_takes_the_majority_of_its_frames(data, frame_times, step_times):
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(frame_times), max_size=len(frame_times)))
    found = step_labels(np.array(labels), frame_times=frame_times, step_times=step_times, num_classes=3)
    for step, label in enumerate(found.tolist()):
        assert label in label_by_hand(labels, frame_times, step_times, step)


@given(frame_times=times, step_times=times, label=st.integers(0, 4))
def test_constant_labels_make_constant_step_labels(frame_times, step_times, label):
    labels = np.full(len(frame_times), label)
    found = step_labels(labels, frame_times=frame_times, step_times=step_times, num_classes=5)
    assert found.tolist() == [label] * len(step_times)


@given(frame_times=times, step_times=times)
def test_predictions_go_back_to_every_frame_once_and_in_order(frame_times, step_times):
    owner = nearest_steps(frame_times, step_times)
    assert len(owner) == len(frame_times)
    assert ((owner >= 0) & (owner < len(step_times))).all()
    assert (np.diff(owner) >= 0).all()


def test_a_tie_goes_to_the_label_of_the_frame_nearest_to_the_step():
    frame_times, step_times = np.arange(8.0), np.array([0.0, 4.0])
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 0])  # of step 1: frames 3 to 7, two of class 1 and two of class 2
    found = step_labels(labels, frame_times=frame_times, step_times=step_times, num_classes=3)
    assert found.tolist() == [0, 1]


def test_a_majority_wins_against_nearer_frames():
    labels = np.array([1, 0, 1])
    assert step_labels(
        labels, frame_times=np.arange(3.0), step_times=np.array([1.0]), num_classes=2
    ).tolist() == [1]


def test_every_step_has_a_label_where_there_are_more_steps_than_frames():
    labels, frame_times = np.array([2, 0]), np.array([0.0, 1.0])
    found = step_labels(labels, frame_times=frame_times, step_times=np.arange(11) / 10, num_classes=3)
    assert found.tolist() == [2] * 6 + [0] * 5


def test_with_one_step_per_frame_labels_stay_as_they_are():
    labels = np.random.default_rng(0).integers(0, 4, 50)
    moments = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.2, 50))
    found = step_labels(labels, frame_times=moments, step_times=moments, num_classes=4)
    assert found.tolist() == labels.tolist()


def test_a_variable_frame_rate_is_joined_by_time_and_not_by_counting():
    frame_times = np.array([0.0, 0.1, 0.2, 0.3, 2.0, 4.0])
    assert nearest_steps(frame_times, np.array([0.0, 2.0, 4.0])).tolist() == [0, 0, 0, 0, 1, 2]


@given(times=st.lists(times, min_size=1, max_size=3))
def test_profiles_are_joined_on_the_steps_of_the_first(times):
    features = [np.arange(len(time), dtype=np.float32)[:, None] + [[0, 1000]] for time in times]
    features = [rows.astype(np.float32) for rows in features]
    base, joined = join_by_time(times, features)
    assert base is times[0]
    assert joined.shape == (len(base), 2 * len(times))
    assert joined.dtype == np.float32
    for index, time in enumerate(times):
        assert joined[:, 2 * index].tolist() == nearest_by_hand(base, time)
        assert (joined[:, 2 * index + 1] - joined[:, 2 * index] == 1000).all()


def test_the_features_of_the_first_profile_are_not_touched():
    rows = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    time = np.arange(7) / 25
    _, joined = join_by_time([time, time[::3]], [rows, rows[::3]])
    np.testing.assert_array_equal(joined[:, :3], rows)


def test_profiles_and_features_come_in_pairs():
    with pytest.raises(ValueError, match="zip"):
        join_by_time([np.arange(2.0)], [])
