"""Two runs on the same videos: how far apart, and whether chance alone would do it.

The test swaps the two predictions of whole videos (a paired permutation test; Noreen, "Computer-Intensive Methods
for Testing Hypotheses", 1989): if the runs are equally good, the swapped difference is as likely as the found one.
Up to 13 videos all swaps are tried, beyond that a seeded sample of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.bootstrap import Interval, bootstrap_weights, percentile_interval
from pipeline.errors import LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.metrics_counts import Convention, CountTable

# Axes: P permutations, V videos, K columns of counts.

PERMUTATIONS: Final = 10_000
_ROUNDING: Final = 1e-9
"""Differences this close count as equal: the order of sums moves the last digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One figure of both runs, in percent."""

    figure: str
    first: float
    second: float
    difference: float
    """Second less first."""
    interval: Interval | None
    """Of the difference over other draws of the videos; None for a single video."""
    p_value: float
    """Share of swaps that give at least so large a difference, either way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two runs compared."""

    convention: Convention
    videos: tuple[str, ...]
    """Those that both scored."""
    left_out: tuple[str, ...]
    """Those that only one of them scored."""
    exact: bool
    """Whether all swaps were tried."""
    permutations: int
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def compare(first: CountTable, second: CountTable, *, seed: int = 0) -> Comparison:
    """Compare two runs over the videos that both scored.

    Args:
        first: Counts of one run; see ``Scores.counts``.
        second: Counts of the other, against the same truth.
        seed: Of the draws; the same seed gives the same answer.

    Raises:
        LabelError: They share no video, or were scored by different conventions.
    """
    if first.convention != second.convention:
        raise LabelError(
            f"One run was scored by {first.convention}, the other by {second.convention}. Compare by one of them."
        )
    shared = [video for video in first.video_ids if video in set(second.video_ids)]
    if not shared:
        raise LabelError(
            f"The two runs share no video: one scored {first.video_ids[0]!r} and {len(first.video_ids) - 1} more, "
            f"the other {second.video_ids[0]!r} and {len(second.video_ids) - 1} more. Give runs of one test set."
        )
    a_VK, b_VK = (_rows(table, shared) for table in (first, second))
    swaps_PV, exact = _swaps(len(shared), seed=seed)
    moved_PK = swaps_PV @ (b_VK - a_VK)
    swapped = _differences(first, a_VK.sum(axis=0) + moved_PK, b_VK.sum(axis=0) - moved_PK)
    weights = bootstrap_weights(len(shared), seed=seed)
    drawn = _differences(first, weights @ a_VK, weights @ b_VK)
    figures = [first.figures_of(rows.sum(axis=0)) for rows in (a_VK, b_VK)]
    return Comparison(
        convention=first.convention,
        videos=tuple(shared),
        left_out=tuple(sorted(set(first.video_ids) ^ set(second.video_ids))),
        exact=exact,
        permutations=len(swaps_PV),
        differences=tuple(
            Difference(
                figure=name,
                first=float(figures[0][name]),
                second=float(figures[1][name]),
                difference=float(figures[1][name] - figures[0][name]),
                interval=percentile_interval(drawn[name]) if len(shared) > 1 else None,
                p_value=_p_value(figures[1][name] - figures[0][name], swapped[name], exact=exact),
            )
            for name in figures[0]
            if not np.isnan(figures[0][name] + figures[1][name])
        ),
    )


def _rows(table: CountTable, videos: list[str]) -> NDArray[np.float64]:
    place = {video: row for row, video in enumerate(table.video_ids)}
    rows: NDArray[np.float64] = table.counts_VK[[place[video] for video in videos]]
    return rows


def _swaps(num_videos: int, *, seed: int) -> tuple[NDArray[np.float64], bool]:
    """(P, V) which videos are swapped, and whether these are all the ways."""
    if 2**num_videos <= PERMUTATIONS:
        every = np.arange(2**num_videos)[:, None] >> np.arange(num_videos)
        return (every & 1).astype(np.float64), True
    rng = np.random.default_rng(seed)
    return rng.integers(2, size=(PERMUTATIONS, num_videos)).astype(np.float64), False


def _differences(
    table: CountTable, first: NDArray[np.float64], second: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    ours, theirs = table.figures_of(first), table.figures_of(second)
    return {name: theirs[name] - ours[name] for name in ours}


def _p_value(found: NDArray[np.float64], swapped: NDArray[np.float64], *, exact: bool) -> float:
    # Where a swap leaves nothing to divide by it cannot speak against chance: it counts as large.
    small = np.abs(swapped) < np.abs(found) - _ROUNDING
    as_large = int(np.count_nonzero(~small))
    # A sample of swaps counts the found difference as one of them, so that p is never 0.
    return as_large / len(swapped) if exact else (as_large + 1) / (len(swapped) + 1)
