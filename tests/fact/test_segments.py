"""Runs of labels against Python's groupby and sums over explicit loops."""

from itertools import groupby

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fact.segments import copy_to_steps, mean_by_segment, segment_runs, soft_overlap, sum_by_segment

videos = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=4)


def padded(rows):
    """Rows as one tensor whose padding holds a class of its own, and the mask."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [7] * (longest - len(row)) for row in rows])
    valid = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    return ids, valid


def runs_of(row):
    return [len(list(run)) for _, run in groupby(row)]


@given(videos)
@settings(deadline=None)
def test_runs_are_those_of_groupby(rows):
    runs = segment_runs(*padded(rows))
    assert runs.counts == tuple(len(runs_of(row)) for row in rows)
    for row, lengths, index in zip(rows, runs.length.tolist(), runs.index.tolist(), strict=True):
        wanted = runs_of(row)
        assert lengths == wanted + [0] * (len(lengths) - len(wanted))
        assert index[: len(row)] == [i for i, length in enumerate(wanted) for _ in range(length)]


@given(videos)
@settings(deadline=None)
def test_middle_step_is_halfway_between_first_and_last(rows):
    runs = segment_runs(*padded(rows))
    for row, middle in zip(rows, runs.middle.tolist(), strict=True):
        first, wanted = 0, []
        for length in runs_of(row):
            wanted.append((first + first + length - 1) // 2)
            first += length
        assert middle == wanted + [0] * (len(middle) - len(wanted))


@given(videos)
@settings(deadline=None)
def test_pooling_and_copying_agree_with_loops(rows):
    ids, valid = padded(rows)
    runs = segment_runs(ids, valid)
    x = torch.randn(*ids.shape, 3, dtype=torch.float64)
    means, sums = mean_by_segment(x, runs, valid), sum_by_segment(x, runs, valid)
    back = copy_to_steps(means, runs)
    for video, row in enumerate(rows):
        first = 0
        for segment, length in enumerate(runs_of(row)):
            steps = x[video, first : first + length]
            torch.testing.assert_close(sums[video, segment], steps.sum(0))
            torch.testing.assert_close(means[video, segment], steps.mean(0))
            torch.testing.assert_close(back[video, first : first + length], steps.mean(0).expand(length, -1))
            first += length


@given(videos)
@settings(deadline=None)
def test_overlap_is_intersection_over_union_step_by_step(rows):
    ids, valid = padded(rows)
    runs = segment_runs(ids, valid)
    attention = torch.rand(*ids.shape, 4, dtype=torch.float64).softmax(-1)
    overlap = soft_overlap(attention, runs, valid)
    for video, row in enumerate(rows):
        for segment in range(runs.counts[video]):
            inside = (runs.index[video] == segment)[: len(row), None].double()
            a = attention[video, : len(row)]
            wanted = (a * inside).sum(0) / (a + inside).clamp(max=1).sum(0)
            torch.testing.assert_close(overlap[video, :, segment], wanted)


@given(videos, st.integers(1, 12))
@settings(deadline=None)
def test_given_room_is_used_and_too_little_is_told(rows, room):
    exact, roomy = segment_runs(*padded(rows)), segment_runs(*padded(rows), room=room)
    assert roomy.counts is None
    assert tuple(roomy.found.tolist()) == exact.counts
    assert roomy.length.shape == (len(rows), room)
    assert torch.equal(roomy.index, exact.index.clamp(max=room - 1))
    assert roomy.length.sum(1).tolist() == [len(row) for row in rows]
    if max(exact.counts) <= room:
        assert torch.equal(roomy.length[:, : max(exact.counts)], exact.length)
        assert torch.equal(roomy.valid, roomy.length > 0)


def test_one_step_is_one_segment():
    runs = segment_runs(torch.tensor([[5]]))
    assert runs.counts == (1,)
    assert runs.middle.tolist() == [[0]]


def test_gradient_reaches_every_valid_step_and_no_padded_one():
    ids, valid = padded([[1, 1, 2], [0]])
    x = torch.randn(2, 3, 2, requires_grad=True)
    runs = segment_runs(ids, valid)
    copy_to_steps(mean_by_segment(x, runs, valid), runs).square().sum().backward()
    assert torch.equal(x.grad.abs().sum(-1) > 0, valid)
