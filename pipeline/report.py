"""What a run has to show: one HTML page that needs no network, the same as JSON, and a Markdown summary."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import DatasetError
from pipeline.report_page import finite_or_none, report_page, timeline_page
from pipeline.report_player import media_sources
from pipeline.report_summary import summary
from pipeline.report_tables import write_tables
from pipeline.report_timelines import VideoTimeline, check_classes, timeline_columns
from storage.atomic import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pipeline.metrics import Scores
    from pipeline.metrics_zero_shot import GeneralizedScores
    from storage.places import Place

__all__ = ["Failure", "Report", "VideoTimeline", "write_report", "write_timeline_page"]

REPORT_LAYOUT: Final = "report/2"
"""Version of ``report.json``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Something that did not work and was left out."""

    what: str
    """Such as a video id."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Report:
    """Everything the report of one run shows."""

    title: str
    run_id: str
    created_at: str
    """Date and time as text, with its zone."""
    scores: Sequence[Scores]
    """One per convention, at least one; the first is the one shown large and sorted by."""
    timelines: Sequence[VideoTimeline]
    """One per scored video."""
    zero_shot: Sequence[GeneralizedScores] = ()
    """One per convention, where classes were held out of training."""
    epochs: Sequence[Mapping[str, float]] = ()
    """Numbers by epoch, such as ``{"epoch": 1, "loss": 2.1, "validation f1@50": 40.2}``; NaN leaves a gap."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON values, nested as deep as they are."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """What the run was made from: data, weights, git revision, seed, features, ... as JSON values."""
    notices: Sequence[str] = ()
    """Plain sentences the reader must not miss, such as that random weights were used."""
    failures: Sequence[Failure] = ()
    videos_beside: str = ""
    """Where the page finds the video files: a folder relative to it, such as ``../videos``, or an address; empty
    for a page without a player. Nothing else in a report says where files lie."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of class 0, 1, ... as scored."""
        return self.scores[0].class_names

    def __post_init__(self) -> None:
        if not self.scores:
            raise DatasetError(f"The report {self.title!r} has no scores. Evaluate at least one video first.")
        scored = {score.video_id for score in self.scores[0].per_video}
        drawn = Counter(timeline.video_id for timeline in self.timelines)
        if scored != set(drawn) or max(drawn.values()) > 1:
            odd = sorted((scored ^ set(drawn)) | {name for name, times in drawn.items() if times > 1})
            raise DatasetError(
                f"The report {self.title!r} scores {len(scored)} videos and draws {drawn.total()} timelines; "
                f"they differ in {', '.join(odd[:5])}. Give one timeline for every scored video."
            )
        check_classes(self.timelines, num_classes=len(self.class_names))
        media_sources(self.videos_beside)


def write_report(folder: Place, report: Report) -> None:
    """Write ``report.html``, ``report.json``, ``report.md`` and the Parquet tables, each whole or not at all.

    Raises:
        TypeError, ValueError: Settings or lineage hold something that JSON has no words for.
    """
    write_tables(folder, report)
    write_text_atomically(folder / "report.json", _compact(_report_json(report)))
    write_text_atomically(folder / "report.md", summary(report))
    write_text_atomically(folder / "report.html", report_page(report))


def write_timeline_page(
    path: Place,
    *,
    title: str,
    class_names: Sequence[str],
    timelines: Sequence[VideoTimeline],
    background: Collection[int] = (),
    notices: Sequence[str] = (),
) -> None:
    """Write one HTML page with the timelines of videos and a table of the segments predicted in each.

    Raises:
        LabelError: A label has no class name.
    """
    check_classes(timelines, num_classes=len(class_names))
    page = timeline_page(
        timelines, title=title, class_names=class_names, background=background, notices=notices
    )
    write_text_atomically(path, page)


def _compact(value: Mapping[str, Any]) -> str:
    """JSON without blanks: a long video has hundreds of segments."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _report_json(report: Report) -> dict[str, Any]:
    return {
        "layout": REPORT_LAYOUT,
        "title": report.title,
        "run_id": report.run_id,
        "created_at": report.created_at,
        "notices": list(report.notices),
        "scores": [scores.to_dict() for scores in report.scores],
        "zero_shot": [scores.to_dict() for scores in report.zero_shot],
        "videos": [timeline_columns(timeline) for timeline in report.timelines],
        "epochs": [{name: finite_or_none(value) for name, value in row.items()} for row in report.epochs],
        "settings": dict(report.settings),
        "lineage": dict(report.lineage),
        "failures": [{"what": failure.what, "reason": failure.reason} for failure in report.failures],
    }
