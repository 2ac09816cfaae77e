"""What an evaluation found, as values: scores over all videos, of each class, of each video, of some classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.metrics_counts import IOU_PERCENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from pipeline.bootstrap import Interval
    from pipeline.metrics_counts import Convention, CountTable


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


def json_intervals(intervals: Mapping[str, Interval | None]) -> dict[str, list[float] | None]:
    """Intervals as [low, high]."""
    return {name: [each.low, each.high] if each else None for name, each in intervals.items()}


def _json_fields(value: ClassScore | VideoScore | Scores | SubsetScores) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _json_f1(f1: Mapping[int, float | None]) -> dict[str, float | None]:
    return {str(percent): score for percent, score in f1.items()}
