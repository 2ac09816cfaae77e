"""How sure a score is: the spread it would have had over other test videos, by drawing them again.

Videos are drawn with replacement, never frames: frames of a video resemble each other. Percentile intervals
(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

# Axes: R resamples, V videos.

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Percent between which a score lies in 95 of 100 draws of the test videos."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.1f} to {self.high:.1f}"


@lru_cache(maxsize=4)
def bootstrap_weights(num_videos: int, *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """(R, V) how often each video was drawn; every row sums to V."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_videos, np.full(num_videos, 1.0 / num_videos), size=resamples)
    weights = drawn.astype(np.float64)
    weights.setflags(write=False)  # Every score of as many videos shares the draws.
    return weights


def bootstrap_intervals(
    figures_of: Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]],
    *,
    num_videos: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """The interval of every figure; None for a single video, or where no draw has the figure.

    Args:
        figures_of: Gives the figures (R,) of draws (R, V), such as ``CountTable.figures``.
        num_videos: V.
        resamples: How often the videos are drawn.
        seed: Of the drawing; the same seed gives the same intervals.
    """
    figures = figures_of(bootstrap_weights(num_videos, resamples=resamples, seed=seed))
    return {name: percentile_interval(values) if num_videos > 1 else None for name, values in figures.items()}


def percentile_interval(values: NDArray[np.float64]) -> Interval | None:
    """The middle 95 percent of some values (R,), NaN left out; None where all are NaN."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return None
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(known, [tail, 100.0 - tail])
    return Interval(low=float(low), high=float(high))
