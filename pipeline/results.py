"""What people are given for a segmented video: its segments in the forms that tools and people read."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.export_formats import vtt_text
from pipeline.report import VideoTimeline, write_timeline_page
from storage.atomic import write_text_atomically
from storage.segments import Segment, read_segments
from storage.store import Store

COLUMNS = ("start_frame", "end_frame", "start_seconds", "end_seconds", "class", "score")
"""What is said of a segment, in this order."""


def segment_rows(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """JSON-able rows of ``COLUMNS``."""
    rows = [segment.to_row() for segment in segments]
    return [{name: row[name] for name in COLUMNS} for row in rows]


def segments_as_csv(videos: Sequence[tuple[str, Sequence[Segment]]]) -> str:
    """CSV with a header; the first column is the video."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["video", *COLUMNS], lineterminator="\n")
    writer.writeheader()
    for video, segments in videos:
        writer.writerows({"video": video, **row} for row in segment_rows(segments))
    return text.getvalue()


def write_results(video: Path, *, prediction: str, store: Store, folder: Path | None) -> list[Path]:
    """Write the segments of a video as JSON, CSV and WebVTT, and as a page that shows them on a time line.

    Args:
        video: The video file; the names of the results start with its name.
        prediction: Key of its segments.
        store: Where they are.
        folder: Where the results go; beside the video unless given.

    Returns:
        The files, which appear whole or not at all.
    """
    segments, metadata = read_segments(store.prediction_path(prediction))
    described = {"video": video.name, "run": metadata["run"], "notices": metadata["notices"]}
    rows = {**described, "segments": segment_rows(segments)}
    texts = {
        "json": json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "csv": segments_as_csv([(video.stem, segments)]),
        "vtt": vtt_text(segments),
    }

    def target(form: str) -> Path:
        return (folder or video.parent) / f"{video.name}.segments.{form}"

    for form, text in texts.items():
        write_text_atomically(target(form), text)
    _write_page(target("html"), video.name, segments, notices=metadata["notices"])
    return [target(form) for form in (*texts, "html")]


def _write_page(path: Path, title: str, segments: Sequence[Segment], *, notices: Sequence[str]) -> None:
    names = sorted({segment.label for segment in segments})
    timeline = timeline_of_segments(segments, title=title, names=names)
    write_timeline_page(path, title=title, class_names=names, timelines=[timeline], notices=notices)


def timeline_of_segments(
    segments: Sequence[Segment], *, title: str, names: Sequence[str], file: str = ""
) -> VideoTimeline:
    """Segments as frames in time; those between the two times of a segment are taken to lie evenly.

    Args:
        segments: At least one.
        title: What the timeline is called.
        names: Every class of the segments; a class id is a position.
        file: Name of the video file, for a player.
    """
    counts = [segment.end_frame - segment.start_frame for segment in segments]
    times = [
        np.linspace(segment.start_seconds, segment.end_seconds, count, endpoint=False)
        for segment, count in zip(segments, counts, strict=True)
    ]
    return VideoTimeline(
        video_id=title,
        times=np.concatenate(times),
        predicted=np.repeat([names.index(segment.label) for segment in segments], counts).astype(np.int64),
        confidence=np.repeat([segment.score or 0.0 for segment in segments], counts),
        file=file,
    )
