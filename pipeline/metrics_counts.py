"""What each video puts into the scores: a row of counts. Sums over any choice of videos score that choice.

So one table gives the scores over all videos, of each video alone, of a bootstrap resample and of two runs whose
videos were swapped, and one formula makes figures of the sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from pipeline.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Axes: V videos, K columns of counts, C classes.

Convention = Literal["mstcn", "fact"]

IOU_PERCENTS: Final = (10, 25, 50)
"""Overlaps (intersection over union, percent) at which a predicted segment counts as found."""

COLUMNS: Final = (
    "videos",
    "frames",
    "right",
    "foreground_frames",
    "foreground_right",
    "truth_segments",
    "predicted_segments",
    *(f"found_{percent}" for percent in IOU_PERCENTS),
    "surplus",
    "edit",
)
"""What is counted of a video. ``edit`` is its Edit score; its sum over videos, divided by ``videos``, their mean."""

FIGURES: Final = (
    "frame accuracy",
    "foreground accuracy",
    "edit",
    *(f"f1@{percent}" for percent in IOU_PERCENTS),
    "over-segmentation",
)
"""Names of the figures, all in percent."""

EPSILON: Final[dict[Convention, float]] = {"mstcn": 0.0, "fact": 1e-5}
"""Added to each denominator of precision, recall and F1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledPrediction:
    """The true and the predicted class of every video frame of one video."""

    video_id: str
    truth: NDArray[np.int64]
    """(N,) class ids."""
    predicted: NDArray[np.int64]
    """(N,) class ids; see `stretch` for a prediction at a lower rate."""

    def __post_init__(self) -> None:
        for name, labels in (("truth", self.truth), ("predicted", self.predicted)):
            if labels.ndim != 1 or labels.dtype != np.int64:
                raise LabelError(
                    f"{self.video_id}: {name} must be a row of int64 class ids, found shape {labels.shape} "
                    f"of {labels.dtype}. Convert it before scoring."
                )
        if len(self.truth) != len(self.predicted):
            raise LabelError(
                f"{self.video_id}: {len(self.truth)} true labels but {len(self.predicted)} predicted ones. "
                "Bring the prediction to the frames of the video first (stretch)."
            )
        if len(self.truth) == 0:
            raise LabelError(f"{self.video_id}: no frame to score. Leave the video out.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CountTable:
    """The counts of some videos under one convention."""

    video_ids: tuple[str, ...]
    counts_VK: NDArray[np.float64]
    """Columns as in COLUMNS; whole numbers but for ``edit``."""
    convention: Convention
    has_background: bool
    """Whether some class is background: else the accuracy without it says nothing new."""
    nothing: float = 100.0
    """F1 where nothing is to be found and nothing was found; NaN where that is no score at all."""

    def figures(self, weights: NDArray[np.float64] | None = None) -> dict[str, NDArray[np.float64]]:
        """The figures over all videos, or over each choice of them; NaN where there is nothing to divide by.

        Args:
            weights: (..., V) how often each video counts; the figures then have shape (...).
        """
        sums = self.counts_VK.sum(axis=0) if weights is None else weights @ self.counts_VK
        return self.figures_of(sums)

    def figures_of(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The figures of sums of counts (..., K)."""
        of = dict(zip(COLUMNS, np.moveaxis(sums, -1, 0), strict=True))
        foreground = 100.0 * ratio(of["foreground_right"], of["foreground_frames"])
        if not self.has_background:
            foreground = np.full_like(foreground, np.nan)
        f1 = {f"f1@{percent}": self._f1(of, of[f"found_{percent}"]) for percent in IOU_PERCENTS}
        return {
            "frame accuracy": 100.0 * ratio(of["right"], of["frames"]),
            "foreground accuracy": foreground,
            "edit": ratio(of["edit"], of["videos"]),
            **f1,
            "over-segmentation": 100.0 * of["surplus"] / np.maximum(of["truth_segments"], 1.0),
        }

    def _f1(self, of: dict[str, NDArray[np.float64]], found: NDArray[np.float64]) -> NDArray[np.float64]:
        truth, predicted = of["truth_segments"], of["predicted_segments"]
        epsilon = EPSILON[self.convention]
        precision = ratio(found, predicted + epsilon)
        recall = ratio(found, truth + epsilon)
        score = 200.0 * ratio(precision * recall, precision + recall + epsilon)
        score = np.where(found == 0.0, 0.0, score)
        return np.where(truth + predicted == 0.0, self.nothing, score)


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotient, NaN where the divisor is 0."""
    quotient: NDArray[np.float64] = np.divide(
        part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) != 0.0
    )
    return quotient


def count_video(
    video: LabelledPrediction,
    confusion: NDArray[np.int64],
    *,
    member_C: NDArray[np.bool_],
    foreground_C: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(K,) counts of one video.

    Args:
        video: Its labels.
        confusion: (C, C) its frames; rows are the truth.
        member_C: Classes whose frames count.
        foreground_C: Those of them whose segments count for Edit, F1 and over-segmentation.
    """
    truth_bounds, predicted_bounds = segment_bounds(video.truth), segment_bounds(video.predicted)
    truth_labels = video.truth[truth_bounds[:-1]]
    predicted_labels = video.predicted[predicted_bounds[:-1]]

    # Cut the time line at every boundary of either side: a piece lies in one true and one predicted segment,
    # and each overlapping pair owns exactly one piece. So the work is linear in the number of segments.
    cuts = np.union1d(truth_bounds, predicted_bounds)
    piece_truth = np.searchsorted(truth_bounds, cuts[:-1], side="right") - 1
    piece_predicted = np.searchsorted(predicted_bounds, cuts[:-1], side="right") - 1
    piece_label = truth_labels[piece_truth]
    agree = (piece_label == predicted_labels[piece_predicted]) & foreground_C[piece_label]
    pair_truth, pair_predicted = piece_truth[agree], piece_predicted[agree]
    overlap = np.diff(cuts)[agree]
    union = np.diff(truth_bounds)[pair_truth] + np.diff(predicted_bounds)[pair_predicted] - overlap
    best_truth, best_iou = _best_truth(pair_truth, pair_predicted, overlap / union)

    truth_row = truth_labels[foreground_C[truth_labels]]
    predicted_row = predicted_labels[foreground_C[predicted_labels]]
    pieces = np.bincount(pair_truth)
    right_C, frames_C = confusion.diagonal(), confusion.sum(axis=1)
    return np.array(
        [
            1,
            frames_C[member_C].sum(),
            right_C[member_C].sum(),
            frames_C[foreground_C].sum(),
            right_C[foreground_C].sum(),
            len(truth_row),
            len(predicted_row),
            # Whichever predicted segment comes first takes the truth segment, so only distinct ones matter.
            *(len(np.unique(best_truth[best_iou >= percent / 100])) for percent in IOU_PERCENTS),
            (pieces[pieces > 0] - 1).sum(),
            _edit(truth_row, predicted_row),
        ],
        dtype=np.float64,
    )


def confusion_of(video: LabelledPrediction, num_classes: int) -> NDArray[np.int64]:
    """(C, C) frames of one video; rows are the truth."""
    cells = np.bincount(video.truth * num_classes + video.predicted, minlength=num_classes * num_classes)
    return cells.reshape(num_classes, num_classes).astype(np.int64, copy=False)


def segment_bounds(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """First frame of every run of equal labels, then the number of frames.

    >>> segment_bounds(np.array([5, 5, 2, 5]))
    array([0, 2, 3, 4])
    """
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    return np.concatenate(([0], changes, [len(labels)])).astype(np.int64)


def stretch(predicted: NDArray[np.int64], num_frames: int) -> NDArray[np.int64]:
    """Repeat a prediction made at a lower rate until it covers every frame.

    Frame i takes ``predicted[floor(i * len(predicted) / num_frames)]``, the rule of the FACT evaluator.

    >>> stretch(np.array([4, 7]), 5)
    array([4, 4, 4, 7, 7])

    Raises:
        LabelError: For an empty prediction or one longer than the video.
    """
    if not 0 < len(predicted) <= num_frames:
        raise LabelError(
            f"Cannot stretch {len(predicted)} predicted labels over {num_frames} frames. "
            "Give between one label and one per frame."
        )
    return predicted[np.arange(num_frames) * len(predicted) // num_frames]


def pool(tables: Sequence[CountTable]) -> CountTable:
    """The videos of several tables in one, such as the test videos of every split.

    Raises:
        LabelError: There is none, their conventions differ, or a video occurs twice.
    """
    if not tables:
        raise LabelError("There is nothing to pool. Give at least one evaluation.")
    video_ids = tuple(video for table in tables for video in table.video_ids)
    twice = sorted({video for video in video_ids if video_ids.count(video) > 1})
    conventions = {table.convention for table in tables}
    if twice or len(conventions) > 1:
        found = f"{twice[0]!r} was scored more than once" if twice else f"conventions {sorted(conventions)}"
        raise LabelError(
            f"These evaluations cannot be pooled: {found}. Give one per split, by one convention."
        )
    return CountTable(
        video_ids=video_ids,
        counts_VK=np.concatenate([table.counts_VK for table in tables]),
        convention=tables[0].convention,
        has_background=any(table.has_background for table in tables),
        nothing=tables[0].nothing,
    )


def _best_truth(
    pair_truth: NDArray[np.int64], pair_predicted: NDArray[np.int64], iou: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The true segment of best overlap, the earliest of equals, for each predicted segment that has one."""
    order = np.lexsort((pair_truth, -iou, pair_predicted))
    _, first = np.unique(pair_predicted[order], return_index=True)
    return pair_truth[order][first], iou[order][first]


def _edit(truth_row: NDArray[np.int64], predicted_row: NDArray[np.int64]) -> float:
    longer = max(len(truth_row), len(predicted_row))
    if longer == 0:
        return 100.0
    distance = int(Levenshtein.distance(truth_row.tolist(), predicted_row.tolist()))
    return 100.0 * (1.0 - distance / longer)
