"""Seen, unseen and harmonic scores against the published evaluator's numbers and a slow count over all videos."""

import numpy as np
import pytest
from hypothesis import given

from pipeline.errors import LabelError
from pipeline.metrics import IOU_PERCENTS
from pipeline.metrics_splits import mean_over_splits
from pipeline.metrics_zero_shot import evaluate_generalized
from tests.pipeline.test_metrics import (
    GOLDEN,
    NAMES,
    golden_names,
    golden_videos,
    id_of,
    labelled_videos,
    plain,
    slow_f1,
    video,
)


@pytest.mark.parametrize("case", [case for case in GOLDEN["random"] if case["holdout"]], ids=id_of)
def test_both_sides_are_the_published_evaluators(case):
    scores = evaluate_generalized(
        golden_videos(case),
        unseen=case["holdout"],
        class_names=golden_names(case),
        background=case["background"],
        convention="fact",
    )
    expected = case["expected"]
    for name, side in (("seen", scores.seen), ("unseen", scores.unseen)):
        assert side.frame_accuracy == pytest.approx(expected[f"Acc-{name}"], abs=1e-6)
        assert side.foreground_accuracy == pytest.approx(expected[f"AccFG-{name}"], abs=1e-6)
    for percent in IOU_PERCENTS:
        assert scores.seen.f1[percent] == pytest.approx(expected[f"F1@0.{percent}-seen"], abs=1e-6)
    seen, unseen = expected["Acc-seen"], expected["Acc-unseen"]
    assert scores.harmonic.frame_accuracy == pytest.approx(2 * seen * unseen / (seen + unseen), abs=1e-6)


@given(labelled_videos())
def test_f1_of_both_sides_counts_every_video(videos):
    scores = evaluate_generalized(videos, unseen=[3], class_names=NAMES)
    for side, dropped in ((scores.unseen, {0, 1, 2}), (scores.seen, {0, 3})):
        for percent in IOU_PERCENTS:
            expected = slow_f1(plain(videos), dropped, percent, 0.0)
            found = side.f1[percent]
            assert (100.0 if found is None else found) == pytest.approx(expected)


def test_false_alarms_of_an_unseen_class_lower_the_harmonic_mean():
    quiet = [video([3, 3], [3, 3], "a"), video([1, 1], [1, 1], "b")]
    loud = [quiet[0], video([1, 1], [1, 3], "b")]
    first, second = (evaluate_generalized(v, unseen=[3], class_names=NAMES) for v in (quiet, loud))
    assert (first.harmonic.f1[50], first.unseen.f1[50]) == (100.0, 100.0)
    assert second.unseen.f1[50] == pytest.approx(100 * 2 / 3)
    assert second.harmonic.f1[50] == pytest.approx(2 * 100 * (200 / 3) / (100 + 200 / 3))


def test_nothing_found_on_one_side_is_zero_and_nothing_there_is_none():
    lost = evaluate_generalized([video([1, 3], [1, 1])], unseen=[3], class_names=NAMES)
    assert (lost.unseen.frame_accuracy, lost.harmonic.frame_accuracy, lost.harmonic.f1[50]) == (0.0, 0.0, 0.0)
    absent = evaluate_generalized([video([1, 1], [1, 1])], unseen=[3], class_names=NAMES)
    assert absent.seen.f1[50] == 100.0
    assert (absent.unseen.f1[50], absent.harmonic.f1[50], absent.unseen.frame_accuracy) == (None, None, None)


def test_intervals_hold_the_scores_and_vanish_for_one_video():
    rng = np.random.default_rng(0)
    videos = []
    for index in range(20):
        truth = np.repeat(rng.integers(1, 4, size=6), 4)
        predicted = np.where(rng.random(24) < 0.2, rng.integers(1, 4, size=24), truth)
        videos.append(video(truth.tolist(), predicted.tolist(), f"v{index}"))
    scores = evaluate_generalized(videos, unseen=[3], class_names=NAMES)
    for side in (scores.seen, scores.unseen, scores.harmonic):
        for name, value in side.figures.items():
            interval = side.intervals[name]
            assert interval is not None
            assert value is not None
            assert interval.low <= value <= interval.high
    lone = evaluate_generalized(videos[:1], unseen=[3], class_names=NAMES)
    assert set(lone.harmonic.intervals.values()) == {None}


@pytest.mark.parametrize("unseen", [[], range(len(NAMES))])
def test_seen_and_unseen_must_both_exist(unseen):
    with pytest.raises(LabelError, match=r"of 4 classes are unseen"):
        evaluate_generalized([video([1], [1])], unseen=unseen, class_names=NAMES)


def test_splits_are_averaged_with_the_deviation_of_a_sample():
    rows = [{"edit": 80.0, "f1@50": 70.0}, {"edit": 90.0, "f1@50": None}, {"edit": 94.0}]
    spread = mean_over_splits(rows)
    assert spread["edit"].mean == pytest.approx(np.mean([80, 90, 94]))
    assert spread["edit"].deviation == pytest.approx(np.std([80, 90, 94], ddof=1))
    assert (spread["f1@50"].mean, spread["f1@50"].deviation, spread["f1@50"].count) == (70.0, None, 1)
    assert [str(spread[name]) for name in ("edit", "f1@50")] == ["88.0 ± 7.2", "70.0"]
    with pytest.raises(LabelError, match="no split"):
        mean_over_splits([])
