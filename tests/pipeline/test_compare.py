"""The paired test against swapping by hand and against SciPy; its verdict on runs whose difference is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipeline.compare import compare
from pipeline.errors import LabelError
from pipeline.metrics import LabelledPrediction, evaluate
from pipeline.metrics_counts import CountTable, pool
from tests.pipeline.test_metrics import NAMES, video


def two_runs(count: int, *, wrong: tuple[float, float], seed: int = 0) -> list[list[LabelledPrediction]]:
    """The same truth with a share of wrong frames each."""
    rng = np.random.default_rng(seed)
    truths = [np.repeat(rng.integers(1, 4, size=6), rng.integers(3, 9, size=6)) for _ in range(count)]
    return [
        [
            video(t.tolist(), np.where(rng.random(len(t)) < share, 0, t).tolist(), f"v{index}")
            for index, t in enumerate(truths)
        ]
        for share in wrong
    ]


def counts(videos: list[LabelledPrediction]) -> CountTable:
    return evaluate(videos, class_names=NAMES).counts


def rows_of(comparison):
    return {each.figure: each for each in comparison.differences}


def test_few_videos_are_swapped_in_every_way():
    ours, theirs = two_runs(5, wrong=(0.4, 0.2))
    found = compare(counts(ours), counts(theirs))
    assert (found.exact, found.permutations) == (True, 32)
    for figure in ("edit", "f1@50", "frame accuracy"):
        differences = []
        for swap in itertools.product([False, True], repeat=5):
            sides = [
                [(b if swapped else a) for a, b, swapped in zip(first, second, swap, strict=True)]
                for first, second in ((ours, theirs), (theirs, ours))
            ]
            scores = [evaluate(side, class_names=NAMES).figures[figure] for side in sides]
            differences.append(scores[1] - scores[0])
        expected = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-9)
        row = rows_of(found)[figure]
        assert row.difference == pytest.approx(differences[0])
        assert row.p_value == pytest.approx(expected)


def test_the_p_value_of_the_mean_edit_is_scipys():
    ours, theirs = (counts(run) for run in two_runs(40, wrong=(0.3, 0.27)))
    edits = [table.figures_of(table.counts_VK)["edit"] for table in (ours, theirs)]
    expected = stats.permutation_test(
        edits,
        lambda a, b, axis: np.mean(b, axis=axis) - np.mean(a, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue
    found = compare(ours, theirs)
    assert (found.exact, found.permutations) == (False, 10_000)
    # Two samples of the same swaps.
    assert rows_of(found)["edit"].p_value == pytest.approx(expected, abs=0.02)


def test_a_run_against_itself_is_no_difference():
    ours, _ = two_runs(20, wrong=(0.3, 0.3))
    for each in compare(counts(ours), counts(ours)).differences:
        assert (each.difference, each.p_value) == (0.0, 1.0)
        assert each.interval is not None
        assert (each.interval.low, each.interval.high) == (0.0, 0.0)


def test_a_clear_difference_is_told_from_chance():
    ours, theirs = two_runs(30, wrong=(0.5, 0.05))
    row = rows_of(compare(counts(ours), counts(theirs)))["frame accuracy"]
    assert row.p_value == pytest.approx(1 / 10_001)
    assert row.interval is not None
    assert row.interval.low > 30.0


def test_equally_good_runs_are_seldom_called_different():
    p_values = [
        rows_of(compare(*(counts(run) for run in two_runs(10, wrong=(0.3, 0.3), seed=seed))))[
            "frame accuracy"
        ].p_value
        for seed in range(60)
    ]
    # The share of p below 0.05 is itself about 0.05: more than 9 of 60 happen once in ten thousand times.
    assert sum(p <= 0.05 for p in p_values) <= 9


def test_only_shared_videos_are_compared_and_a_lone_one_proves_nothing():
    ours, theirs = two_runs(3, wrong=(0.5, 0.0))
    found = compare(counts(ours[:2]), counts(theirs[1:]))
    assert (found.videos, found.left_out) == (("v1",), ("v0", "v2"))
    assert {each.p_value for each in found.differences} == {1.0}
    assert {each.interval for each in found.differences} == {None}


def test_the_order_of_videos_does_not_matter():
    ours, theirs = two_runs(8, wrong=(0.4, 0.2))
    first, second = (compare(counts(ours), counts(order)) for order in (theirs, theirs[::-1]))
    for a, b in zip(first.differences, second.differences, strict=True):
        assert (a.difference, a.p_value) == (pytest.approx(b.difference), b.p_value)


def test_what_cannot_be_compared_is_refused():
    ours, theirs = (counts(run) for run in two_runs(2, wrong=(0.1, 0.1)))
    other = evaluate(two_runs(2, wrong=(0.1, 0.1))[0], class_names=NAMES, convention="fact").counts
    with pytest.raises(LabelError, match="by mstcn, the other by fact"):
        compare(ours, other)
    strangers = counts([video([1], [1], "x")])
    with pytest.raises(
        LabelError, match=r"share no video: one scored 'v0' and 1 more, the other 'x' and 0 more"
    ):
        compare(ours, strangers)
    with pytest.raises(LabelError, match="'v0' was scored more than once"):
        pool([ours, theirs])


def test_pooled_splits_score_like_all_videos_at_once():
    ours, _ = two_runs(6, wrong=(0.3, 0.3))
    pooled = pool([counts(ours[:2]), counts(ours[2:])])
    whole = evaluate(ours, class_names=NAMES)
    for name, value in whole.figures.items():
        assert float(pooled.figures()[name]) == pytest.approx(value)
