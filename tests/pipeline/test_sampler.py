"""Batches: every video once, of like length, and a function of the seed and the epoch alone."""

import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sampler import epoch_batches, epoch_steps, seed_of, steps_per_epoch

LENGTHS = random.Random(0).choices(range(10, 1000), k=200)


@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    accumulate=st.integers(1, 4),
    epoch=st.integers(1, 9),
)
def test_an_epoch_has_every_video_once_in_full_batches_but_one(count, batch_size, accumulate, epoch):
    steps = epoch_steps(LENGTHS[:count], batch_size=batch_size, accumulate=accumulate, seed=3, epoch=epoch)
    batches = [batch for step in steps for batch in step]
    assert sorted(video for batch in batches for video in batch) == list(range(count))
    assert sum(len(batch) != batch_size for batch in batches) <= 1
    assert all(len(step) == accumulate for step in steps[:-1])
    assert len(steps) == steps_per_epoch(count, batch_size=batch_size, accumulate=accumulate)


def padded_steps(batches):
    return sum(len(batch) * max(LENGTHS[video] for video in batch) for batch in batches)


def test_videos_of_like_length_share_a_batch():
    bucketed = epoch_batches(LENGTHS, batch_size=8, seed=0, epoch=1)
    order = [video for batch in epoch_batches(LENGTHS, batch_size=1, seed=0, epoch=1) for video in batch]
    at_random = [order[start : start + 8] for start in range(0, len(order), 8)]
    waste = padded_steps(bucketed) / sum(LENGTHS) - 1
    assert waste < 0.25 * (padded_steps(at_random) / sum(LENGTHS) - 1)


def test_the_seed_and_the_epoch_alone_decide_the_order():
    torch.manual_seed(1)
    first = [epoch_batches(LENGTHS, batch_size=3, seed=5, epoch=epoch) for epoch in (1, 2)]
    torch.manual_seed(2)
    assert [epoch_batches(LENGTHS, batch_size=3, seed=5, epoch=epoch) for epoch in (1, 2)] == first
    assert first[0] != first[1]
    assert epoch_batches(LENGTHS, batch_size=3, seed=6, epoch=1) != first[0]


def test_batches_do_not_come_in_the_order_of_their_length():
    longest = [
        max(LENGTHS[video] for video in batch)
        for batch in epoch_batches(LENGTHS, batch_size=8, seed=0, epoch=1)
    ]
    assert longest != sorted(longest)


def test_seeds_of_other_parts_differ_and_fit_torch():
    seeds = {
        seed_of(*parts)
        for parts in [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (10, 1), (1, 1)]
    }
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
