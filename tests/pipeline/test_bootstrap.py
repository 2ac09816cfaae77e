"""Intervals are held against SciPy's bootstrap and against drawing videos one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.bootstrap import Interval, bootstrap_intervals, bootstrap_weights, percentile_interval
from pipeline.metrics import FIGURES, LabelledPrediction, evaluate
from tests.pipeline.test_metrics import NAMES, video


def noisy_videos(count: int, *, seed: int = 0) -> list[LabelledPrediction]:
    rng = np.random.default_rng(seed)
    videos = []
    for index in range(count):
        truth = np.repeat(rng.integers(len(NAMES), size=8), rng.integers(2, 9, size=8))
        wrong = rng.random(len(truth)) < rng.uniform(0, 0.6)
        predicted = np.where(wrong, rng.integers(len(NAMES), size=len(truth)), truth)
        videos.append(video(truth.tolist(), predicted.tolist(), f"v{index}"))
    return videos


def test_the_interval_of_accuracy_is_scipys():
    videos = noisy_videos(25)
    right = np.array([(v.truth == v.predicted).sum() for v in videos])
    frames = np.array([len(v.truth) for v in videos])
    expected = stats.bootstrap(
        (right, frames),
        lambda r, f, axis: 100 * r.sum(axis=axis) / f.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    found = bootstrap_intervals(
        evaluate(videos, class_names=NAMES).counts.figures, num_videos=25, resamples=20_000
    )
    interval = found["frame accuracy"]
    assert interval is not None
    # Two draws of 20,000: their quantiles differ by chance, less than a tenth of the width here.
    assert interval.low == pytest.approx(expected.low, abs=0.3)
    assert interval.high == pytest.approx(expected.high, abs=0.3)


@given(st.integers(2, 6), st.integers(0, 10**6), st.sampled_from(["mstcn", "fact"]))
def test_a_draw_scores_like_the_drawn_videos_scored_anew(count, seed, convention):
    videos = noisy_videos(count, seed=seed)
    table = evaluate(videos, class_names=NAMES, background=[0], convention=convention).counts
    weights = bootstrap_weights(count, resamples=3, seed=seed)
    figures = table.figures(weights)
    for row, drawn in enumerate(weights.astype(int)):
        again = [
            LabelledPrediction(video_id=f"{v.video_id}.{copy}", truth=v.truth, predicted=v.predicted)
            for v, times in zip(videos, drawn, strict=True)
            for copy in range(times)
        ]
        scores = evaluate(again, class_names=NAMES, background=[0], convention=convention)
        for name, value in scores.figures.items():
            assert figures[name][row] == pytest.approx(value)


def test_draws_are_seeded_and_as_many_as_videos():
    first = bootstrap_weights(7, resamples=50, seed=3)
    assert (first.sum(axis=1) == 7).all()
    assert np.array_equal(first, np.random.default_rng(3).multinomial(7, [1 / 7] * 7, size=50))
    assert not np.array_equal(first, bootstrap_weights(7, resamples=50, seed=4))


def test_every_score_lies_in_its_interval_and_a_lone_video_has_none():
    scores = evaluate(noisy_videos(30), class_names=NAMES)
    assert set(scores.intervals) == set(FIGURES)
    for name, value in scores.figures.items():
        interval = scores.intervals[name]
        assert interval is not None
        assert interval.low <= value <= interval.high
    assert set(evaluate(noisy_videos(1), class_names=NAMES).intervals.values()) == {None}


def test_equal_videos_leave_no_doubt():
    videos = [video([1, 1, 2, 2], [1, 1, 1, 2], f"v{index}") for index in range(6)]
    assert evaluate(videos, class_names=NAMES).intervals["frame accuracy"] == Interval(low=75.0, high=75.0)


def test_draws_without_the_figure_are_left_out_and_none_is_no_interval():
    assert percentile_interval(np.array([np.nan, 3.0, 3.0])) == Interval(low=3.0, high=3.0)
    assert percentile_interval(np.array([np.nan, np.nan])) is None


def test_intervals_shrink_with_more_videos():
    def width(count: int) -> float:
        interval = evaluate(noisy_videos(count), class_names=NAMES).intervals["frame accuracy"]
        assert interval is not None
        return interval.high - interval.low

    assert width(160) < 0.6 * width(10)
