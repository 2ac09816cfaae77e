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

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from pipeline.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

Convention = Literal["mstcn", "fact"]

IOU_PERCENTS: Final = (10, 25, 50)
"""Overlaps (intersection over union, percent) at which a predicted segment counts as found."""

BACKGROUND_NAME: Final = "background"
"""The one class that the ``mstcn`` convention leaves out of segments."""

_EPSILON: Final[dict[Convention, float]] = {"mstcn": 0.0, "fact": 1e-5}


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
    num_frames: int
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
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    """(C, C) frames; rows are the truth."""
    per_video: tuple[VideoScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return _json_fields(self) | {
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
    foreground_C = np.ones(len(class_names), dtype=bool)
    foreground_C[list(background_ids)] = False
    has_background = bool(background_ids)
    epsilon = _EPSILON[convention]

    confusion = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    total = _Counts()
    per_video = []
    for video in videos:
        video_confusion = _confusion(video, len(class_names))
        counts = _count(video, video_confusion, kept_C=foreground_C)
        confusion += video_confusion
        total += counts
        per_video.append(_video_score(video.video_id, counts, has_background=has_background, epsilon=epsilon))
    overall = _video_score("", total, has_background=has_background, epsilon=epsilon)
    return Scores(
        convention=convention,
        class_names=tuple(class_names),
        background=background_ids,
        num_frames=overall.num_frames,
        frame_accuracy=overall.frame_accuracy,
        foreground_accuracy=overall.foreground_accuracy,
        edit=overall.edit,
        f1=overall.f1,
        over_segmentation=overall.over_segmentation,
        per_class=_class_scores(confusion, class_names),
        confusion=confusion,
        per_video=tuple(per_video),
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
    _check(videos, num_classes=len(class_names), listed=[*background, *classes])
    background_ids = _background_ids(class_names, background, convention)
    member_C = np.zeros(len(class_names), dtype=bool)
    member_C[list(classes)] = True
    kept_C = member_C.copy()
    kept_C[list(background_ids)] = False
    total = _Counts()
    confusion = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    for video in videos:
        video_confusion = _confusion(video, len(class_names))
        confusion += video_confusion
        total += _count(video, video_confusion, kept_C=kept_C)
    right_C = confusion.diagonal()
    frames_C = confusion.sum(axis=1)
    return SubsetScores(
        frame_accuracy=_percent(right_C[member_C].sum(), frames_C[member_C].sum()),
        foreground_accuracy=_percent(total.kept_right, total.kept_frames),
        f1={
            percent: _f1(found, total.predicted_segments, total.truth_segments, epsilon=_EPSILON[convention])
            for percent, found in zip(IOU_PERCENTS, total.found, strict=True)
        },
    )


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


def segment_bounds(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """First frame of every run of equal labels, then the number of frames.

    >>> segment_bounds(np.array([5, 5, 2, 5]))
    array([0, 2, 3, 4])
    """
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    return np.concatenate(([0], changes, [len(labels)])).astype(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counts:
    """What one video, or several added up, puts into the scores."""

    videos: int = 0
    frames: int = 0
    right: int = 0
    kept_frames: int = 0
    kept_right: int = 0
    truth_segments: int = 0
    predicted_segments: int = 0
    found: tuple[int, ...] = (0,) * len(IOU_PERCENTS)
    """True segments found, by overlap of IOU_PERCENTS."""
    surplus: int = 0
    edit_sum: float = 0.0

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(
            videos=self.videos + other.videos,
            frames=self.frames + other.frames,
            right=self.right + other.right,
            kept_frames=self.kept_frames + other.kept_frames,
            kept_right=self.kept_right + other.kept_right,
            truth_segments=self.truth_segments + other.truth_segments,
            predicted_segments=self.predicted_segments + other.predicted_segments,
            found=tuple(a + b for a, b in zip(self.found, other.found, strict=True)),
            surplus=self.surplus + other.surplus,
            edit_sum=self.edit_sum + other.edit_sum,
        )


def _count(video: LabelledPrediction, confusion: NDArray[np.int64], *, kept_C: NDArray[np.bool_]) -> _Counts:
    """Count one video; only segments of the kept classes take part in Edit, F1 and over-segmentation."""
    truth_bounds = segment_bounds(video.truth)
    predicted_bounds = segment_bounds(video.predicted)
    truth_labels = video.truth[truth_bounds[:-1]]
    predicted_labels = video.predicted[predicted_bounds[:-1]]

    # Cut the time line at every boundary of either side: a piece lies in one true and one predicted segment,
    # and each overlapping pair owns exactly one piece. So the work is linear in the number of segments.
    cuts = np.union1d(truth_bounds, predicted_bounds)
    piece_truth = np.searchsorted(truth_bounds, cuts[:-1], side="right") - 1
    piece_predicted = np.searchsorted(predicted_bounds, cuts[:-1], side="right") - 1
    piece_label = truth_labels[piece_truth]
    agree = (piece_label == predicted_labels[piece_predicted]) & kept_C[piece_label]
    pair_truth, pair_predicted = piece_truth[agree], piece_predicted[agree]
    overlap = np.diff(cuts)[agree]
    union = np.diff(truth_bounds)[pair_truth] + np.diff(predicted_bounds)[pair_predicted] - overlap
    best_truth, best_iou = _best_truth(pair_truth, pair_predicted, overlap / union)

    truth_row = truth_labels[kept_C[truth_labels]]
    predicted_row = predicted_labels[kept_C[predicted_labels]]
    pieces = np.bincount(pair_truth)
    return _Counts(
        videos=1,
        frames=len(video.truth),
        right=int(confusion.diagonal().sum()),
        kept_frames=int(confusion[kept_C].sum()),
        kept_right=int(confusion.diagonal()[kept_C].sum()),
        truth_segments=len(truth_row),
        predicted_segments=len(predicted_row),
        # Whichever predicted segment comes first takes the truth segment, so only distinct ones matter.
        found=tuple(len(np.unique(best_truth[best_iou >= percent / 100])) for percent in IOU_PERCENTS),
        surplus=int((pieces[pieces > 0] - 1).sum()),
        edit_sum=_edit(truth_row, predicted_row),
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


def _f1(found: int, predicted: int, truth: int, *, epsilon: float) -> float | None:
    if predicted == 0 and truth == 0:
        return None
    if found == 0:
        return 0.0
    precision = found / (predicted + epsilon)
    recall = found / (truth + epsilon)
    return 100.0 * 2.0 * precision * recall / (precision + recall + epsilon)


def _video_score(video_id: str, counts: _Counts, *, has_background: bool, epsilon: float) -> VideoScore:
    f1 = {}
    for percent, found in zip(IOU_PERCENTS, counts.found, strict=True):
        score = _f1(found, counts.predicted_segments, counts.truth_segments, epsilon=epsilon)
        f1[percent] = 100.0 if score is None else score
    return VideoScore(
        video_id=video_id,
        num_frames=counts.frames,
        frame_accuracy=100.0 * counts.right / counts.frames,
        foreground_accuracy=_percent(counts.kept_right, counts.kept_frames) if has_background else None,
        edit=counts.edit_sum / counts.videos,
        f1=f1,
        over_segmentation=100.0 * counts.surplus / max(counts.truth_segments, 1),
        truth_segments=counts.truth_segments,
        predicted_segments=counts.predicted_segments,
    )


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


def _confusion(video: LabelledPrediction, num_classes: int) -> NDArray[np.int64]:
    cells = np.bincount(video.truth * num_classes + video.predicted, minlength=num_classes * num_classes)
    return cells.reshape(num_classes, num_classes).astype(np.int64, copy=False)


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


def _json_fields(value: ClassScore | VideoScore | Scores) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _json_f1(f1: dict[int, float]) -> dict[str, float]:
    return {str(percent): score for percent, score in f1.items()}
