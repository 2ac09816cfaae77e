"""The assignment against brute force, the costs against the definition."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fact.errors import MatchError
from fact.matching import (
    assign_in_order,
    assign_one_to_many,
    assign_one_to_one,
    match_tokens,
    token_costs,
)
from fact.target import SegmentTarget


def costs_of(num_tokens, num_segments, seed):
    return np.random.default_rng(seed).normal(size=(num_tokens, num_segments))


sizes = st.integers(1, 5)
seeds = st.integers(0, 2**16)


def cheapest(cost):
    """Total of the best one-to-one assignment, by trying all."""
    if cost.shape[0] < cost.shape[1]:
        cost = cost.T
    rows, columns = cost.shape
    return min(cost[list(order), range(columns)].sum() for order in permutations(range(rows), columns))


@given(sizes, sizes, seeds)
@settings(deadline=None)
def test_one_to_one_is_as_cheap_as_trying_every_assignment(num_tokens, num_segments, seed):
    cost = costs_of(num_tokens, num_segments, seed)
    tokens, segments = assign_one_to_one(cost)
    assert len(set(tokens)) == len(set(segments)) == min(num_tokens, num_segments)
    assert cost[tokens, segments].sum() == pytest.approx(cheapest(cost))


def one_to_many_by_words(cost, classes):
    """FACT.md section 5, o2m, literally and by brute force."""
    present = sorted(set(classes))
    summed = np.stack([cost[:, [c == k for c in classes]].sum(1) for k in present], axis=1)
    tokens = range(len(cost))
    holders = min(
        permutations(tokens, min(len(present), len(cost))),
        key=lambda chosen: (
            summed[list(chosen), range(len(present))].sum() if len(chosen) == len(present) else np.inf
        ),
    )
    class_of = {token: present[int(summed[token].argmin())] for token in tokens}
    class_of |= dict(zip(holders, present, strict=True))
    pairs = set()
    for segment, label in enumerate(classes):
        own = [token for token in tokens if class_of[token] == label]
        pairs.add((min(own, key=lambda token: cost[token, segment]), segment))
    return pairs


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(3, 5), seeds)
@settings(deadline=None)
def test_one_to_many_is_what_its_words_say(classes, num_tokens, seed):
    cost = costs_of(num_tokens, len(classes), seed)
    tokens, segments = assign_one_to_many(cost, classes)
    found = set(zip(tokens.tolist(), segments.tolist(), strict=True))
    assert found == one_to_many_by_words(cost, classes)


def test_classes_without_a_token_keep_their_segments_unmatched():
    cost = np.array([[-1.0, -5.0, -1.0], [-4.0, -1.0, -1.0]])
    tokens, segments = assign_one_to_many(cost, (4, 2, 9))
    assert set(zip(tokens.tolist(), segments.tolist(), strict=True)) == {(1, 0), (0, 1)}


def test_matching_in_order_pairs_equal_positions():
    tokens, segments = assign_in_order(np.zeros((3, 2)))
    assert tokens.tolist() == segments.tolist() == [0, 1]


def test_matching_in_order_with_too_few_tokens_names_both_numbers():
    with pytest.raises(MatchError, match="2 tokens and 3 segments"):
        assign_in_order(np.zeros((2, 3)))


def test_costs_are_probability_and_overlap_as_defined():
    target = SegmentTarget.from_labels(torch.tensor([[0, 0, 2, 2, 2, 1]]), num_classes=3)
    log_probs = torch.randn(1, 2, 4).log_softmax(-1)
    attention = torch.randn(1, 6, 2).softmax(-1)
    found = token_costs(log_probs, attention, target, class_weight=0.2, overlap_weight=0.7)
    for segment, (start, stop, label) in enumerate([(0, 2, 0), (2, 5, 2), (5, 6, 1)]):
        o = torch.zeros(6, 1)
        o[start:stop] = 1
        iou = (attention[0] * o).sum(0) / (attention[0] + o).clamp(max=1).sum(0)
        torch.testing.assert_close(found[0, :, segment], -0.2 * log_probs[0, :, label].exp() - 0.7 * iou)


def match_of(cost, labels, rule="o2o", num_classes=5):
    target = SegmentTarget.from_labels(torch.tensor([labels]), num_classes=num_classes)
    tokens = [cost.shape[0]]
    return match_tokens(
        torch.as_tensor(cost)[None], target, rule=rule, num_tokens=tokens, null_class=num_classes
    )


def test_match_knows_class_and_number_of_segments_of_each_token():
    cost = np.array([[0.0, -9.0, 0.0], [-9.0, 0.0, -8.0], [0.0, 0.0, 0.0]])
    match = match_of(cost, [3, 1, 3], rule="o2m")
    assert match.pairs() == {(1, 0), (0, 1), (1, 2)}
    assert match.segments_of_token.tolist() == [[1, 2, 0]]
    # The idle token went to its cheapest class but is the cheapest of no segment: null.
    assert match.class_of_token.tolist() == [[1, 3, 5]]


def test_more_segments_than_tokens_leaves_segments_unmatched():
    match = match_of(np.array([[-1.0, -2.0, -3.0]]), [0, 1, 2])
    assert match.token_of_segment.tolist() == [[-1, -1, 0]]
    assert match.segments_of_token.tolist() == [[1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_costs_that_are_not_finite_are_an_error_that_names_the_video(bad):
    with pytest.raises(MatchError, match="video 0"):
        match_of(np.array([[bad, 0.0]]), [0, 1])
