"""Scores of several splits, or seeds, in one line: mean and standard deviation."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A figure over several evaluations."""

    mean: float
    deviation: float | None
    """Standard deviation of a sample (n - 1); None for a single value."""
    count: int
    """Evaluations that have the figure."""

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.deviation is None else f"{self.mean:.1f} ± {self.deviation:.1f}"


def mean_over_splits(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Spread]:
    """Mean and standard deviation of every figure that some row has, each row counting alike.

    >>> spread = mean_over_splits([{"edit": 90.0}, {"edit": 92.0}])["edit"]
    >>> str(spread), spread.count
    ('91.0 ± 1.4', 2)

    Args:
        rows: Figures by name, such as ``Scores.figures`` of each split.

    Raises:
        LabelError: There is no row.
    """
    if not rows:
        raise LabelError("There is no split to take a mean over. Evaluate at least one.")
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {
        name: Spread(
            mean=statistics.fmean(column),
            deviation=statistics.stdev(column) if len(column) > 1 else None,
            count=len(column),
        )
        for name, column in values.items()
    }
