"""When there is something new to learn, and when a challenger takes over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import LabelledPrediction
from pipeline.retraining import feature_drift, find_news, judge
from pipeline.settings import DatasetSettings
from pipeline.settings_operations import RetrainSettings

NAMES = ("background", "pour", "stir")


def settings(**values):
    dataset = DatasetSettings(videos="v", labels="l", mapping="m", splits="s")
    return RetrainSettings(dataset=dataset, **values)


def videos(*predicted, truth=(1,) * 10 + (2,) * 10):
    return [
        LabelledPrediction(
            video_id=f"v{index}",
            truth=np.array(truth, dtype=np.int64),
            predicted=np.array(row, dtype=np.int64),
        )
        for index, row in enumerate(predicted)
    ]


GOOD = (1,) * 10 + (2,) * 10
HALF = (1,) * 20
WRONG = (0,) * 20


def verdict(champion, challenger, **values):
    return judge(champion, challenger, class_names=NAMES, background=(0,), settings=settings(**values))


def test_videos_are_new_or_changed_by_their_content():
    news = find_news({"a": ["1", "2"], "b": ["3", "4"]}, {"a": ["1", "2"], "b": ["3", "5"], "c": ["6", "7"]})
    assert (news.new, news.changed, news.gone) == ((), ("b",), ("c",))
    assert not find_news({"a": ["1"]}, {"a": ["1"], "c": ["6"]})


def test_a_better_challenger_is_promoted():
    found = verdict(videos(HALF, HALF, HALF), videos(GOOD, GOOD, GOOD))
    assert found.promote
    assert found.gain == pytest.approx(100.0 - 200.0 * 1 / 3)  # one of two segments found: F1 2/3
    assert found.lower_bound == pytest.approx(found.gain)


def test_a_challenger_that_is_the_same_is_promoted_at_margin_zero_but_not_above():
    assert verdict(videos(GOOD, HALF), videos(GOOD, HALF)).promote
    refused = verdict(videos(GOOD, HALF), videos(GOOD, HALF), margin=0.5)
    assert not refused.promote
    assert "margin is +0.5" in refused.reasons[0]


def test_a_gain_that_hangs_on_one_video_is_in_doubt():
    champion, challenger = videos(HALF, GOOD, GOOD, GOOD), videos(GOOD, GOOD, GOOD, HALF)
    found = verdict(champion, challenger)
    assert found.gain == pytest.approx(0.0)
    assert found.lower_bound < 0
    assert not found.promote


def test_no_class_may_pay_for_the_mean():
    truth = (1,) * 18 + (2,) * 2 + (1,) * 18 + (2,) * 2
    lost = (1,) * 18 + (0,) * 2 + (1,) * 18 + (0,) * 2
    wrong_first = (0,) * 18 + (2,) * 2 + (0,) * 18 + (2,) * 2
    found = verdict(
        videos(wrong_first, truth=truth), videos(lost, truth=truth), margin=-100, max_class_drop=50
    )
    assert (found.promote, found.worst_class, found.worst_drop) == (False, "stir", pytest.approx(100.0))
    assert "stir" in found.reasons[0]


def test_other_videos_cannot_be_compared():
    with pytest.raises(ValueError, match="same videos"):
        verdict(videos(GOOD), videos(GOOD, GOOD))


@given(st.floats(-3, 3), st.integers(0, 100))
def test_drift_is_the_shift_in_deviations_of_the_training_set(shift, seed):
    rng = np.random.default_rng(seed)
    trained = rng.normal(5.0, 2.0, (400, 3)).astype(np.float32)
    mean, std = trained.mean(axis=0, dtype=np.float64), trained.std(axis=0, dtype=np.float64)
    moved = (trained + shift * std).astype(np.float32)
    assert feature_drift(moved, mean_D=mean, std_D=std) == pytest.approx(abs(shift), abs=1e-4)


def test_channels_that_never_vary_say_nothing_of_drift():
    assert feature_drift(np.ones((2, 1), np.float32), mean_D=np.zeros(1), std_D=np.zeros(1)) == 0.0
