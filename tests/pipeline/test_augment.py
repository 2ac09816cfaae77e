"""Random changes of training videos: what they may change, what never, and that a seed decides them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment import augmented
from pipeline.batch import Sample, collate

CLASSES = 5


def videos(lengths):
    """A batch whose first channel is the number of the step and whose labels are a function of it."""
    samples = []
    for index, length in enumerate(lengths):
        steps_T = torch.arange(length)
        features_TD = torch.stack([steps_T.float(), torch.full((length,), float(index + 1))], dim=1)
        labels_T = steps_T // 3 % CLASSES
        samples.append(Sample(video_id=str(index), features_TD=features_TD, labels_T=labels_T))
    return collate(samples)


lengths_of_videos = st.lists(st.integers(1, 60), min_size=1, max_size=5)


@given(lengths_of_videos, st.floats(0.01, 1), st.integers(0, 2**16))
def test_a_stretched_video_shows_its_own_steps_in_order_with_their_labels(lengths, most, seed):
    torch.manual_seed(seed)
    batch = videos(lengths)
    made = augmented(batch, channel_jitter=0, time_stretch=most)
    assert made.video_ids == batch.video_ids
    assert made.features_BTD.shape[1] == made.labels_BT.shape[1] == max(made.lengths)
    for row, (old, new) in enumerate(zip(lengths, made.lengths, strict=True)):
        assert max(1, math.floor(old / (1 + most))) <= new <= math.ceil(old * (1 + most))
        assert made.valid_BT[row].tolist() == [True] * new + [False] * (max(made.lengths) - new)
        wanted = [math.floor((step + 0.5) * old / new) for step in range(new)]
        assert made.features_BTD[row, :new, 0].tolist() == wanted
        assert made.features_BTD[row, :new, 1].tolist() == [row + 1.0] * new
        assert made.labels_BT[row, :new].tolist() == [step // 3 % CLASSES for step in wanted]
        assert not made.features_BTD[row, new:].any()
        assert not made.labels_BT[row, new:].any()


@given(lengths_of_videos, st.floats(0.01, 0.9), st.integers(0, 2**16))
def test_jitter_is_one_factor_and_one_shift_for_each_channel_of_a_video(lengths, deviation, seed):
    torch.manual_seed(seed)
    batch = videos(lengths)
    made = augmented(batch, channel_jitter=deviation, time_stretch=0)
    assert made.lengths == batch.lengths
    assert torch.equal(made.labels_BT, batch.labels_BT)
    assert torch.equal(made.valid_BT, batch.valid_BT)
    assert not made.features_BTD[~made.valid_BT].any()
    for row, length in enumerate(lengths):
        if length > 2:
            old, new = (one.features_BTD[row, :length, 0].double().numpy() for one in (batch, made))
            factor, shift = np.polyfit(old, new, 1)
            np.testing.assert_allclose(new, factor * old + shift, atol=1e-4)


def test_factors_and_shifts_have_the_deviation_that_was_asked_for():
    torch.manual_seed(0)
    still = Sample(
        video_id="a", features_TD=torch.zeros(2, 20_000), labels_T=torch.zeros(2, dtype=torch.int64)
    )
    batch = collate([still])
    shift_D = augmented(batch, channel_jitter=0.3, time_stretch=0).features_BTD[0, 0]
    assert float(shift_D.mean()) == pytest.approx(0, abs=0.01)
    assert float(shift_D.std()) == pytest.approx(0.3, rel=0.03)
    batch.features_BTD[0, 1] = 1
    first_D, second_D = augmented(batch, channel_jitter=0.3, time_stretch=0).features_BTD[0]
    assert float((second_D - first_D).mean()) == pytest.approx(1, abs=0.01)
    assert float((second_D - first_D).std()) == pytest.approx(0.3, rel=0.03)


def test_stretching_is_as_often_slower_as_faster():
    torch.manual_seed(0)
    batch = videos([1000] * 400)
    factors = np.array(augmented(batch, channel_jitter=0, time_stretch=0.5).lengths) / 1000
    assert np.log(factors).mean() == pytest.approx(0, abs=0.03)
    # Uniform between the logarithms of 1 / 1.5 and 1.5.
    assert np.log(factors).std() == pytest.approx(math.log(1.5) / math.sqrt(3), rel=0.05)


def test_nothing_to_change_changes_nothing_and_draws_nothing():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    batch = videos([7, 3])
    assert augmented(batch, channel_jitter=0, time_stretch=0) is batch
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_decides_and_the_batch_is_left_alone():
    batch = videos([30, 12])
    kept = batch.features_BTD.clone()
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(augmented(batch, channel_jitter=0.2, time_stretch=0.4))
    other = augmented(batch, channel_jitter=0.2, time_stretch=0.4)
    assert torch.equal(found[0].features_BTD, found[1].features_BTD)
    assert found[0].lengths == found[1].lengths
    assert other.lengths != found[0].lengths
    assert torch.equal(batch.features_BTD, kept)
