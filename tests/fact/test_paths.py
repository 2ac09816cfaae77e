"""The best path is judged against trying every path."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fact.errors import ConfigError
from fact.paths import best_path

SCORES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 3)),
    elements=st.floats(-5, 5, allow_nan=False, width=32),
)


def value(scores_TC, path, switch_cost):
    changes = sum(first != second for first, second in itertools.pairwise(path))
    return sum(scores_TC[step, label] for step, label in enumerate(path)) - switch_cost * changes


def path_of(scores_TC, *, switch_cost):
    scores = torch.from_numpy(scores_TC)[None]
    valid = torch.ones(scores.shape[:2], dtype=torch.bool)
    return best_path(scores, valid, switch_cost=switch_cost)[0].tolist()


@given(SCORES, st.floats(0, 4, width=32))
def test_no_other_path_is_worth_more(scores_TC, switch_cost):
    found = path_of(scores_TC, switch_cost=switch_cost)
    every = itertools.product(range(scores_TC.shape[1]), repeat=len(scores_TC))
    best = max(value(scores_TC, path, switch_cost) for path in every)
    assert value(scores_TC, found, switch_cost) == pytest.approx(best, abs=1e-9)


@given(SCORES)
def test_without_a_price_every_step_takes_its_best_label(scores_TC):
    found = path_of(scores_TC, switch_cost=0.0)
    # Sums along a path round off differences far below it.
    assert [scores_TC[step, label] for step, label in enumerate(found)] == pytest.approx(
        scores_TC.max(1).tolist(), abs=1e-9
    )


@given(SCORES)
def test_at_any_price_one_label_is_left(scores_TC):
    assert len(set(path_of(scores_TC, switch_cost=1e6))) == 1


@given(SCORES, SCORES, st.floats(0, 4, width=32))
def test_a_video_has_the_same_path_alone_and_in_a_batch(first_TC, second_TC, switch_cost):
    classes = min(first_TC.shape[1], second_TC.shape[1])
    rows = [torch.from_numpy(scores_TC[:, :classes].copy()) for scores_TC in (first_TC, second_TC)]
    scores = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=99.0)
    lengths = torch.tensor([len(row) for row in rows])
    valid = torch.arange(scores.shape[1]) < lengths[:, None]
    together = best_path(scores, valid, switch_cost=switch_cost)
    for row, labels in zip(rows, together, strict=True):
        assert labels[: len(row)].tolist() == path_of(row.numpy(), switch_cost=switch_cost)


def test_a_price_below_zero_is_refused():
    with pytest.raises(ConfigError, match="switch_cost"):
        path_of(np.zeros((2, 2)), switch_cost=-1.0)
