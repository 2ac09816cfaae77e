"""Scores of predicted labels against true ones, under the two conventions the field uses.

Everything here counts per video, adds the counts and divides once, so a score over many videos needs no
more than the sum of theirs. A segment is a run of equal labels; background segments are dropped before Edit
and F1.

- ``mstcn``: the tables of the papers since ED-TCN (Lea et al., CVPR 2017) and MS-TCN (Farha and Gall,
  CVPR 2019), segments with exclusive ends. Background is the class named ``background``.
- ``fact``: the evaluator of FACT (Lu and Elhamifar, CVPR 2024): background by class id, and 1e-5 added to
  each denominator of precision, recall and F1.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.bootstrap import bootstrap_intervals
from pipeline.errors import LabelError
from pipeline.metrics_counts import (
    COLUMNS,
    FIGURES,
    IOU_PERCENTS,
    Convention,
    CountTable,
    LabelledPrediction,
    confusion_of,
    count_video,
    segment_bounds,
    stretch,
)
from pipeline.metrics_scores import ClassScore, Scores, SubsetScores, VideoScore, json_intervals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "FIGURES",
    "IOU_PERCENTS",
    "ClassScore",
    "Convention",
    "LabelledPrediction",
    "Scores",
    "SubsetScores",
    "VideoScore",
    "evaluate",
    "evaluate_subset",
    "json_intervals",
    "segment_bounds",
    "stretch",
    "subset_counts",
]

BACKGROUND_NAME: Final = "background"
"""The one class that the ``mstcn`` convention leaves out of segments."""


def evaluate(
    videos: Sequence[LabelledPrediction],
    *,
    class_names: Sequence[str],
    background: Collection[int] = (),
    convention: Convention = "mstcn",
) -> Scores:
    """Score predictions over all videos, per class and per video.

    Where nothing is to be found and nothing was found (no foreground segment in truth and prediction), Edit
    and F1 are 100; where only one of the two has segments they are 0.

    Args:
        videos: At least one, each under its own id.
        class_names: Name of class 0, 1, ...; labels must lie in this range.
        background: Class ids that are background under ``fact``. Under ``mstcn`` the name decides.
        convention: Which rules to score by.

    Raises:
        LabelError: For no video, a video given twice or a label without a name.
    """
    _check(videos, num_classes=len(class_names), listed=background)
    background_ids = _background_ids(class_names, background, convention)
    every_C = np.ones(len(class_names), dtype=bool)
    foreground_C = every_C.copy()
    foreground_C[list(background_ids)] = False
    confusion = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    rows = []
    for video in videos:
        cells = confusion_of(video, len(class_names))
        confusion += cells
        rows.append(count_video(video, cells, member_C=every_C, foreground_C=foreground_C))
    table = CountTable(
        video_ids=tuple(video.video_id for video in videos),
        counts_VK=np.stack(rows),
        convention=convention,
        has_background=bool(background_ids),
    )
    (overall,) = _video_scores([""], table.counts_VK.sum(axis=0, keepdims=True), table)
    return Scores(
        convention=convention,
        class_names=tuple(class_names),
        background=background_ids,
        frame_accuracy=overall.frame_accuracy,
        foreground_accuracy=overall.foreground_accuracy,
        edit=overall.edit,
        f1=overall.f1,
        over_segmentation=overall.over_segmentation,
        intervals=bootstrap_intervals(table.figures, num_videos=len(videos)),
        per_class=_class_scores(confusion, class_names),
        confusion=confusion,
        per_video=_video_scores(table.video_ids, table.counts_VK, table),
        counts=table,
    )


def evaluate_subset(
    videos: Sequence[LabelledPrediction],
    *,
    classes: Collection[int],
    class_names: Sequence[str],
    background: Collection[int] = (),
    convention: Convention = "mstcn",
) -> SubsetScores:
    """Score only some classes, such as those never seen in training; arguments as in `evaluate`.

    Every video counts: a prediction of such a class in a video without it is a false positive. (The published
    FACT evaluator skips these videos for its F1.)
    """
    table = subset_counts(
        videos, classes=classes, class_names=class_names, background=background, convention=convention
    )
    return SubsetScores.of(
        plain_figures(table.figures()), bootstrap_intervals(table.figures, num_videos=len(videos))
    )


def subset_counts(
    videos: Sequence[LabelledPrediction],
    *,
    classes: Collection[int],
    class_names: Sequence[str],
    background: Collection[int] = (),
    convention: Convention = "mstcn",
) -> CountTable:
    """The counts behind `evaluate_subset`; the same arguments and errors."""
    _check(videos, num_classes=len(class_names), listed=[*background, *classes])
    background_ids = _background_ids(class_names, background, convention)
    member_C = np.zeros(len(class_names), dtype=bool)
    member_C[list(classes)] = True
    foreground_C = member_C.copy()
    foreground_C[list(background_ids)] = False
    rows = [
        count_video(
            video, confusion_of(video, len(class_names)), member_C=member_C, foreground_C=foreground_C
        )
        for video in videos
    ]
    return CountTable(
        video_ids=tuple(video.video_id for video in videos),
        counts_VK=np.stack(rows),
        convention=convention,
        has_background=True,
        nothing=math.nan,
    )


def plain_figures(figures: Mapping[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """Figures over all videos as numbers, None for those that have nothing to divide by."""
    return {name: None if np.isnan(value) else float(value) for name, value in figures.items()}


def _video_scores(
    video_ids: Sequence[str], counts: NDArray[np.float64], table: CountTable
) -> tuple[VideoScore, ...]:
    """A score per row of counts."""
    columns = {name: column.tolist() for name, column in table.figures_of(counts).items()}
    frames, truth, predicted = (
        counts[:, COLUMNS.index(name)].astype(int).tolist()
        for name in ("frames", "truth_segments", "predicted_segments")
    )
    return tuple(
        VideoScore(
            video_id=video_id,
            num_frames=frames[row],
            frame_accuracy=columns["frame accuracy"][row],
            foreground_accuracy=_known(columns["foreground accuracy"][row]),
            edit=columns["edit"][row],
            f1={percent: columns[f"f1@{percent}"][row] for percent in IOU_PERCENTS},
            over_segmentation=columns["over-segmentation"][row],
            truth_segments=truth[row],
            predicted_segments=predicted[row],
        )
        for row, video_id in enumerate(video_ids)
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _class_scores(confusion: NDArray[np.int64], class_names: Sequence[str]) -> tuple[ClassScore, ...]:
    right_C = confusion.diagonal()
    support_C = confusion.sum(axis=1)
    predicted_C = confusion.sum(axis=0)
    return tuple(
        ClassScore(
            class_id=index,
            name=name,
            support=int(support),
            predicted=int(predicted),
            precision=_percent(right, predicted),
            recall=_percent(right, support),
            f1=_percent(2 * right, support + predicted),
            iou=_percent(right, support + predicted - right),
        )
        for index, (name, right, support, predicted) in enumerate(
            zip(class_names, right_C, support_C, predicted_C, strict=True)
        )
    )


def _background_ids(
    class_names: Sequence[str], background: Collection[int], convention: Convention
) -> tuple[int, ...]:
    if convention == "mstcn":
        return tuple(index for index, name in enumerate(class_names) if name == BACKGROUND_NAME)
    return tuple(sorted(set(background)))


def _check(videos: Sequence[LabelledPrediction], *, num_classes: int, listed: Iterable[int]) -> None:
    if not videos:
        raise LabelError("There is no video to score. Give at least one labelled prediction.")
    video_id, times = Counter(video.video_id for video in videos).most_common(1)[0]
    if times > 1:
        raise LabelError(f"{video_id} is to be scored {times} times. Give every video once.")
    for video in videos:
        low = min(int(video.truth.min()), int(video.predicted.min()))
        high = max(int(video.truth.max()), int(video.predicted.max()))
        if low < 0 or high >= num_classes:
            raise LabelError(
                f"{video.video_id}: labels from {low} to {high}, but the {num_classes} class names cover 0 "
                f"to {num_classes - 1}. Score it with the mapping it was labelled with."
            )
    strangers = sorted(index for index in set(listed) if not 0 <= index < num_classes)
    if strangers:
        raise LabelError(
            f"Class ids {strangers} are not among the {num_classes} classes. Check the class lists."
        )


def _percent(part: int | np.int64, whole: int | np.int64) -> float | None:
    return 100.0 * float(part) / float(whole) if whole else None
