"""Scores of predictions that lie in files, whatever made them: no model, no video, no store.

Predictions are recognition files of MS-TCN's form (``<video>`` or ``<video>.txt``), truth is ``<video>.txt`` with a
class name per frame. A file that cannot be used is named and the others go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.errors import DatasetError, LabelError
from pipeline.label_text import recognition_labels
from pipeline.labels import ClassList, fit_labels, read_labels, read_mapping, read_text
from pipeline.metrics import Convention, LabelledPrediction, Scores, evaluate, json_intervals
from pipeline.metrics_zero_shot import GeneralizedScores, evaluate_generalized
from pipeline.outcome import VideoOutcome, failures
from pipeline.report import Failure, Report, VideoTimeline, write_report

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

CONVENTIONS: Final[tuple[Convention, ...]] = ("mstcn", "fact")
"""The named conventions every report shows, the headline first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEvaluation:
    """What the predictions of a folder are worth."""

    scores: tuple[Scores, ...]
    """One per convention."""
    zero_shot: tuple[GeneralizedScores, ...]
    """The same for seen and unseen classes; empty where none was named as unseen."""
    videos: tuple[LabelledPrediction, ...]
    outcomes: tuple[VideoOutcome, ...]
    """What became of every prediction and label file."""
    notes: tuple[str, ...]
    """What was cut to make lengths fit."""


def evaluate_files(
    predictions: Path,
    labels: Path,
    *,
    mapping: Path | None = None,
    background: Sequence[str] = (),
    unseen: Sequence[str] = (),
    blank_as: str = "",
) -> FileEvaluation:
    """Score the recognition files of a folder against label files.

    Args:
        predictions: Folder of recognition files.
        labels: Folder of ``<video>.txt``, one class name per frame.
        mapping: ``mapping.txt``; without it the classes are the names found, in alphabetical order.
        background: Classes that are background under ``fact``.
        unseen: Classes held out of training, scored apart.
        blank_as: What stands for a blank in the class names of the recognition files.

    Raises:
        DatasetError: A folder is missing, or no video can be scored.
        LabelError: The mapping cannot be used, or a named class is not among the classes.
    """
    truths, predicted = _files(labels, what="labels"), _files(predictions, what="predictions")
    outcomes = {
        video: VideoOutcome(video=video, status="failed", reason=reason)
        for video, reason in _unpaired(truths, predicted, labels=labels, predictions=predictions).items()
    }
    classes = read_mapping(mapping) if mapping else _found_classes(list(truths.values()), predicted, outcomes)
    videos: list[LabelledPrediction] = []
    notes: list[str] = []
    for video in sorted(set(truths) & set(predicted)):
        try:
            pair, note = _read_pair(
                video, truths[video], predicted[video], classes=classes, blank_as=blank_as
            )
        except LabelError as error:
            outcomes[video] = VideoOutcome(video=video, status="failed", reason=str(error))
            continue
        videos.append(pair)
        notes += [note] if note else []
        outcomes[video] = VideoOutcome(video=video, status="done")
    ordered = tuple(outcomes[video] for video in sorted(outcomes))
    if not videos:
        failed = failures(ordered)
        raise DatasetError(f"None of the {len(failed)} videos can be scored; the first: {failed[0].reason}")
    scores, zero_shot = score_all(
        videos,
        class_names=classes.names,
        background=classes.ids_named(background),
        unseen=classes.ids_named(unseen),
    )
    return FileEvaluation(
        scores=scores,
        zero_shot=zero_shot,
        videos=tuple(videos),
        outcomes=ordered,
        notes=tuple(notes),
    )


def write_file_report(
    folder: Path,
    evaluation: FileEvaluation,
    *,
    predictions: Path,
    labels: Path,
    fps: float,
    videos_beside: str = "",
) -> None:
    """Write the report of an evaluation of files, its page and its tables, into a folder.

    Args:
        folder: Made where it is missing.
        evaluation: What `evaluate_files` found.
        predictions: Its folder of predictions; the page names the folder itself, not where it lies.
        labels: Its folder of labels.
        fps: Frames per second, for the times of the timelines.
        videos_beside: See ``Report.videos_beside``; video files are taken to be ``<video>.mp4``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(
        title=predictions.resolve().name,
        run_id=predictions.resolve().name,
        created_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        scores=evaluation.scores,
        zero_shot=evaluation.zero_shot,
        timelines=[
            VideoTimeline(
                video_id=video.video_id,
                times=np.arange(len(video.truth)) / fps,
                truth=video.truth,
                predicted=video.predicted,
                file=f"{video.video_id}.mp4" if videos_beside else "",
            )
            for video in evaluation.videos
        ],
        lineage={
            "predictions": predictions.resolve().name,
            "labels": labels.resolve().name,
            "frames per second": fps,
        },
        failures=[Failure(what=each.video, reason=each.reason) for each in failures(evaluation.outcomes)],
        videos_beside=videos_beside,
    )
    write_report(folder, report)


def score_all(
    videos: Sequence[LabelledPrediction],
    *,
    class_names: Sequence[str],
    background: Collection[int],
    unseen: Collection[int],
) -> tuple[tuple[Scores, ...], tuple[GeneralizedScores, ...]]:
    """Scores by every convention; those of seen and unseen classes too, where some are unseen."""
    scores = [
        evaluate(videos, class_names=class_names, background=background, convention=convention)
        for convention in CONVENTIONS
    ]
    zero_shot = [
        evaluate_generalized(
            videos, unseen=unseen, class_names=class_names, background=background, convention=convention
        )
        for convention in CONVENTIONS
        if unseen
    ]
    return tuple(scores), tuple(zero_shot)


def score_facts(scores: Sequence[Scores], zero_shot: Sequence[GeneralizedScores]) -> dict[str, Any]:
    """The figures as small JSON values, by convention: scores, intervals, and seen against unseen classes."""
    return {
        "scores": {each.convention: headline(each) for each in scores},
        "intervals": {each.convention: json_intervals(each.intervals) for each in scores},
        "zero_shot": {
            each.convention: {
                "seen": each.seen.figures,
                "unseen": each.unseen.figures,
                "harmonic": each.harmonic.figures,
            }
            for each in zero_shot
        },
    }


def headline(scores: Scores) -> dict[str, float]:
    """The figures of the papers' tables, in percent; the accuracy without background where there is one."""
    return {name: value for name, value in scores.figures.items() if name != "over-segmentation"}


def _files(folder: Path, *, what: str) -> dict[str, Path]:
    """Files by video id; hidden files are none of ours."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder of {what}. Check the path.")
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise DatasetError(f"{folder} holds no {what}. Check the path.")
    by_id: dict[str, Path] = {}
    for path in files:
        video = path.name.removesuffix(".txt")
        if video in by_id:
            raise DatasetError(
                f"{folder} holds {video!r} twice, with and without .txt. Remove one of the files."
            )
        by_id[video] = path
    return by_id


def _unpaired(
    truths: dict[str, Path], predicted: dict[str, Path], *, labels: Path, predictions: Path
) -> dict[str, str]:
    missing = {
        video: f"{video}: {predictions} has no prediction for {path.name}. Predict it, or remove its labels."
        for video, path in truths.items()
        if video not in predicted
    }
    extra = {
        video: f"{video}: {labels} has no {video}.txt for this prediction. Add the labels, or remove the prediction."
        for video in predicted
        if video not in truths
    }
    return missing | extra


def _found_classes(
    truths: Sequence[Path], predicted: dict[str, Path], outcomes: dict[str, VideoOutcome]
) -> ClassList:
    """Every name in the labels and predictions of the videos that have both."""
    names: set[str] = set()
    for path in truths:
        names.update(name.strip() for name in read_text(path, what="label file").split("\n") if name.strip())
    if all(" " not in name for name in names):
        for video, path in predicted.items():
            if video not in outcomes:
                names.update(_words(path))
    return ClassList(tuple(sorted(names)))


def _words(path: Path) -> set[str]:
    try:
        return set(recognition_labels(path))
    except LabelError:
        return set()  # Reading it to score it will say what is wrong.


def _read_pair(
    video: str, truth_file: Path, predicted_file: Path, *, classes: ClassList, blank_as: str
) -> tuple[LabelledPrediction, str]:
    truth = read_labels(truth_file, classes=classes)
    names = recognition_labels(predicted_file, classes=classes.names, blank_as=blank_as)
    if not names:
        raise LabelError(
            f"{predicted_file} has no labels in its second line. Write one class name per frame."
        )
    predicted = np.array(classes.ids_named(names), dtype=np.int64)
    fitted = fit_labels(predicted, num_frames=len(truth), source=predicted_file)
    pair = LabelledPrediction(
        video_id=video, truth=truth[: len(fitted.labels)], predicted=fitted.labels[: len(truth)]
    )
    return pair, fitted.note
