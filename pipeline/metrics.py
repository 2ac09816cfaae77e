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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.bootstrap import Interval, bootstrap_intervals
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
    "segment_bounds",
    "stretch",
    "subset_counts",
]

BACKGROUND_NAME: Final = "background"
"""The one class that the ``mstcn`` convention leaves out of segments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """How well the frames of one class were found; a figure without anything to divide by is None."""

    class_id: int
    name: str
    support: int
    """Frames whose truth is this class."""
    predicted: int
    """Frames predicted as this class."""
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoScore:
    """Scores of one video alone, in percent, and its numbers of foreground segments."""

    video_id: str
    num_frames: int
    frame_accuracy: float
    foreground_accuracy: float | None
    edit: float
    f1: dict[int, float]
    over_segmentation: float
    truth_segments: int
    predicted_segments: int

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return _json_fields(self) | {"f1": _json_f1(self.f1)}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """Scores over all videos in percent, under one convention."""

    convention: Convention
    class_names: tuple[str, ...]
    background: tuple[int, ...]
    """Class ids left out of segments and of `foreground_accuracy`."""
    frame_accuracy: float
    """Frames whose class is right, of all frames ("MoF"; ``AccB`` of the FACT evaluator)."""
    foreground_accuracy: float | None
    """The same over frames whose truth is not background; None without background or without such frames."""
    edit: float
    """100 (1 - Levenshtein distance of the segment labels / longer row), mean over videos."""
    f1: dict[int, float]
    """Segmental F1 by overlap in percent (10, 25, 50), true and false positives pooled over videos."""
    over_segmentation: float
    """Surplus pieces per true segment, percent; 0 is best and 100 means every segment falls in two.

    Pieces are the predicted segments of the right class that touch a true segment; those past the first are
    surplus. After the fragmented events of Ward, Lukowicz and Gellersen, "Performance metrics for activity
    recognition", ACM TIST 2(1), 2011, counting the pieces instead of the events.
    """
    intervals: dict[str, Interval | None]
    """Between what a figure of `FIGURES` lies over other draws of the test videos; None for a single video."""
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    """(C, C) frames; rows are the truth."""
    per_video: tuple[VideoScore, ...]
    counts: CountTable
    """What the scores are made of, by video."""

    @property
    def num_frames(self) -> int:
        """Frames of all videos."""
        return sum(score.num_frames for score in self.per_video)

    @property
    def figures(self) -> dict[str, float]:
        """The figures by their names in `FIGURES`; the accuracy without background where there is one."""
        figures = {
            "frame accuracy": self.frame_accuracy,
            "edit": self.edit,
            "foreground accuracy": self.foreground_accuracy,
            **{f"f1@{percent}": value for percent, value in self.f1.items()},
            "over-segmentation": self.over_segmentation,
        }
        return {name: value for name, value in figures.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values; the counts by video are in ``videos.parquet``."""
        fields = _json_fields(self)
        del fields["counts"]
        return fields | {
            "num_frames": self.num_frames,
            "intervals": json_intervals(self.intervals),
            "class_names": list(self.class_names),
            "background": list(self.background),
            "f1": _json_f1(self.f1),
            "per_class": [_json_fields(score) for score in self.per_class],
            "confusion": self.confusion.tolist(),
            "per_video": [score.to_dict() for score in self.per_video],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetScores:
    """Scores restricted to some classes; a figure without anything to divide by is None."""

    frame_accuracy: float | None
    """Over frames whose truth is one of the classes."""
    foreground_accuracy: float | None
    """The same without background."""
    f1: dict[int, float | None]
    """Over true and predicted segments of the classes, background left out, all videos counted."""
    intervals: dict[str, Interval | None]
    """By the names of `figures`."""

    @classmethod
    def of(
        cls, figures: Mapping[str, float | None], intervals: Mapping[str, Interval | None]
    ) -> SubsetScores:
        """Those of all figures that a subset of classes has."""
        names = ("frame accuracy", "foreground accuracy", *(f"f1@{percent}" for percent in IOU_PERCENTS))
        return cls(
            frame_accuracy=figures["frame accuracy"],
            foreground_accuracy=figures["foreground accuracy"],
            f1={percent: figures[f"f1@{percent}"] for percent in IOU_PERCENTS},
            intervals={name: intervals[name] for name in names},
        )

    @property
    def figures(self) -> dict[str, float | None]:
        """The figures by their names in `FIGURES`."""
        return {
            "frame accuracy": self.frame_accuracy,
            "foreground accuracy": self.foreground_accuracy,
            **{f"f1@{percent}": value for percent, value in self.f1.items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return _json_fields(self) | {"f1": _json_f1(self.f1), "intervals": json_intervals(self.intervals)}


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


def json_intervals(intervals: Mapping[str, Interval | None]) -> dict[str, list[float] | None]:
    """Intervals as [low, high]."""
    return {name: [each.low, each.high] if each else None for name, each in intervals.items()}


def _json_fields(value: ClassScore | VideoScore | Scores | SubsetScores) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _json_f1(f1: Mapping[int, float | None]) -> dict[str, float | None]:
    return {str(percent): score for percent, score in f1.items()}
