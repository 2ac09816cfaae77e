"""The Markdown summary of a run, for a terminal, a pull request or a Prefect artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.metrics import IOU_PERCENTS, Scores, VideoScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.metrics import SubsetScores
    from pipeline.report import Report

_WORST_VIDEOS: Final = 10
_F1_NAMES: Final = tuple(f"F1@{overlap}" for overlap in IOU_PERCENTS)
_NAMES: Final = (
    "frame accuracy",
    "foreground accuracy",
    "edit",
    *map(str.lower, _F1_NAMES),
    "over-segmentation",
)
_LITERALLY: Final = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]|#~"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\r": " "}
)


def summary(report: Report) -> str:
    """Notices, scores, the worst videos, classes, lineage and failures as Markdown."""
    paragraphs = [
        f"# {escaped(report.title)}",
        f"Run {escaped(report.run_id)}, {escaped(report.created_at)}.",
        *(f"> **Note.** {escaped(notice)}" for notice in report.notices),
        "## Scores",
        _scores_table(report.scores),
        *_zero_shot(report),
        "## Worst videos",
        _videos_table(report.scores[0]),
        "## Classes",
        _classes_table(report.scores[0]),
    ]
    if report.lineage:
        rows = [f"- {escaped(key)}: {escaped(str(value))}" for key, value in report.lineage.items()]
        paragraphs += ["## Lineage", "\n".join(rows)]
    if report.failures:
        rows = [f"- {escaped(failure.what)}: {escaped(failure.reason)}" for failure in report.failures]
        paragraphs += ["## Failures", "\n".join(rows)]
    return "\n\n".join(paragraphs) + "\n"


def percent(value: float | None) -> str:
    """One decimal, or a dash where there was nothing to divide by."""
    return "-" if value is None else f"{value:.1f}"


def worst_first(score: VideoScore) -> tuple[float, float, float, str]:
    """Sort key: F1@50, then Edit, then frame accuracy, then the name."""
    return score.f1[50], score.edit, score.frame_accuracy, score.video_id


def escaped(text: str) -> str:
    r"""The text with everything that Markdown or HTML would read as markup taken literally.

    >>> print(escaped("a|b <script>"))
    a\|b &lt;script&gt;
    """
    return text.translate(_LITERALLY)


def _scores_table(scores: Sequence[Scores]) -> str:
    head = ("Convention", "Frames", "Accuracy", "Without background", "Edit", *_F1_NAMES, "Over-segmentation")
    rows = [
        (
            row.convention,
            str(row.num_frames),
            *(_with_interval(row, name) for name in _NAMES),
        )
        for row in scores
    ]
    return (
        _table(head, rows) + "\n\nIn percent; in brackets 95 % intervals over other draws of the test videos."
    )


def _with_interval(scores: Scores | SubsetScores, name: str) -> str:
    interval = scores.intervals[name]
    return percent(scores.figures.get(name)) + (f" ({interval})" if interval else "")


def _zero_shot(report: Report) -> list[str]:
    if not report.zero_shot:
        return []
    head = ("Convention", "Classes", "Accuracy", "Without background", *_F1_NAMES)
    rows = [
        (each.convention, name, *(_with_interval(side, figure) for figure in side.figures))
        for each in report.zero_shot
        for name, side in (("seen", each.seen), ("unseen", each.unseen), ("harmonic mean", each.harmonic))
    ]
    unseen = ", ".join(escaped(report.class_names[index]) for index in report.zero_shot[0].unseen_classes)
    return ["## Seen and unseen classes", _table(head, rows), f"Unseen: {unseen}."]


def _videos_table(scores: Scores) -> str:
    rows = [
        (score.video_id, percent(score.frame_accuracy), percent(score.edit), *map(percent, score.f1.values()))
        for score in sorted(scores.per_video, key=worst_first)[:_WORST_VIDEOS]
    ]
    return _table(("Video", "Accuracy", "Edit", *_F1_NAMES), rows)


def _classes_table(scores: Scores) -> str:
    rows = [
        (score.name, str(score.support), *map(percent, (score.precision, score.recall, score.f1, score.iou)))
        for score in scores.per_class
        if score.support or score.predicted
    ]
    return _table(("Class", "Frames", "Precision", "Recall", "F1", "IoU"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ("---", *("---:",) * (len(head) - 1)), *(tuple(map(escaped, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
