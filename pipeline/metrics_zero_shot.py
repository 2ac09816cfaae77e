"""Generalised zero-shot scores: seen classes, unseen ones, and the harmonic mean that neither can carry alone.

After Xian, Lampert, Schiele and Akata, "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the Bad and
the Ugly", TPAMI 2019. Every video counts for both sides: an unseen class predicted where there is none is a false
positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.bootstrap import bootstrap_intervals
from pipeline.errors import LabelError
from pipeline.metrics import SubsetScores, plain_figures, subset_counts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from pipeline.metrics_counts import Convention, CountTable, LabelledPrediction


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneralizedScores:
    """Scores of seen and of unseen classes, and between them, under one convention."""

    convention: Convention
    unseen_classes: tuple[int, ...]
    """Ids of the classes that were held out of training; all others are seen."""
    seen: SubsetScores
    unseen: SubsetScores
    harmonic: SubsetScores
    """2 s u / (s + u) of each figure; None where one of them is."""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "convention": self.convention,
            "unseen_classes": list(self.unseen_classes),
            **{name: getattr(self, name).to_dict() for name in ("seen", "unseen", "harmonic")},
        }


def evaluate_generalized(
    videos: Sequence[LabelledPrediction],
    *,
    unseen: Collection[int],
    class_names: Sequence[str],
    background: Collection[int] = (),
    convention: Convention = "mstcn",
) -> GeneralizedScores:
    """Score seen and unseen classes apart and together.

    Args:
        videos: At least one, each under its own id; all count for both sides.
        unseen: Ids of the classes held out of training.
        class_names: Name of class 0, 1, ...
        background: Class ids that are background under ``fact``. Under ``mstcn`` the name decides.
        convention: Which rules to score by.

    Raises:
        LabelError: No class is unseen, or all are; besides the errors of `evaluate`.
    """
    held_out = set(unseen)
    seen = set(range(len(class_names))) - held_out
    if not held_out or not seen:
        raise LabelError(
            f"{len(held_out)} of {len(class_names)} classes are unseen. Seen and unseen scores need some of both."
        )
    tables = [
        subset_counts(
            videos, classes=part, class_names=class_names, background=background, convention=convention
        )
        for part in (seen, held_out)
    ]
    scores = [
        SubsetScores.of(plain_figures(figures_of()), bootstrap_intervals(figures_of, num_videos=len(videos)))
        for figures_of in (tables[0].figures, tables[1].figures, _Harmonic(*tables).figures)
    ]
    return GeneralizedScores(
        convention=convention,
        unseen_classes=tuple(sorted(held_out)),
        seen=scores[0],
        unseen=scores[1],
        harmonic=scores[2],
    )


def harmonic_mean(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 a b / (a + b); 0 where either is 0, NaN where either is.

    >>> harmonic_mean(np.array([50.0, 0.0, 90.0]), np.array([100.0, 0.0, 0.0])).round(1).tolist()
    [66.7, 0.0, 0.0]
    """
    total = first + second
    return 2.0 * first * second / np.where(total == 0.0, 1.0, total)


@dataclass(frozen=True, slots=True, eq=False)
class _Harmonic:
    """Harmonic means over the same draw of videos on both sides."""

    seen: CountTable
    unseen: CountTable

    def figures(self, weights: NDArray[np.float64] | None = None) -> Mapping[str, NDArray[np.float64]]:
        seen, unseen = self.seen.figures(weights), self.unseen.figures(weights)
        return {name: harmonic_mean(seen[name], unseen[name]) for name in seen}
