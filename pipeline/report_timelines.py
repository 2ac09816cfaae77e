"""The labels of a video in time, and the runs of equal labels that stand for them in a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.errors import LabelError
from pipeline.metrics import segment_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CURVE_BINS: Final = 300
_LONE_FRAME_SECONDS: Final = 0.04
_EVEN_SECONDS: Final = 0.002
"""Frames this near to an even rate are told by their rate alone: containers round times to milliseconds."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoTimeline:
    """The labels of one video's frames in time."""

    video_id: str
    times: NDArray[np.float64]
    """(N,) seconds at which each frame appears, increasing."""
    predicted: NDArray[np.int64]
    """(N,) class ids."""
    truth: NDArray[np.int64] | None = None
    """(N,) class ids; None for a video without labels."""
    confidence: NDArray[np.floating[Any]] | None = None
    """(N,) from 0 to 1."""
    file: str = ""
    """Name of the video file, for a player; empty where there is none."""

    def __post_init__(self) -> None:
        for name in ("predicted", "truth", "confidence"):
            row = getattr(self, name)
            if row is not None and row.shape != (len(self.times),):
                raise LabelError(
                    f"{self.video_id}: {len(self.times)} frame times but {name} of shape {row.shape}. "
                    "Give one value per frame."
                )
        confidence = self.confidence
        if confidence is not None and not ((confidence >= 0.0) & (confidence <= 1.0 + 1e-3)).all():
            raise LabelError(f"{self.video_id}: confidence outside 0 to 1. Give probabilities, not logits.")
        if len(self.times) == 0 or (np.diff(self.times) <= 0).any():
            raise LabelError(
                f"{self.video_id}: frame times must be at least one and increase. Probe the video again."
            )

    @property
    def end_seconds(self) -> float:
        """End of the last frame, which is taken to last as long as the others."""
        steps = np.diff(self.times)
        return float(self.times[-1] + (np.median(steps) if len(steps) else _LONE_FRAME_SECONDS))


def check_classes(timelines: Sequence[VideoTimeline], *, num_classes: int) -> None:
    """Refuse labels that have no class name.

    Raises:
        LabelError: Naming the first such video.
    """
    for timeline in timelines:
        for row in (timeline.truth, timeline.predicted):
            if row is not None and not 0 <= int(row.min()) <= int(row.max()) < num_classes:
                raise LabelError(
                    f"{timeline.video_id}: labels from {row.min()} to {row.max()}, but there are "
                    f"{num_classes} class names. Draw it with the mapping it was labelled with."
                )


def used_classes(timelines: Sequence[VideoTimeline]) -> list[int]:
    """Classes that occur in truth or prediction, for the legend."""
    rows = [row for timeline in timelines for row in (timeline.truth, timeline.predicted) if row is not None]
    found: set[int] = set()
    return sorted(found.union(*(np.unique(row).tolist() for row in rows)))


def timeline_data(timeline: VideoTimeline) -> dict[str, Any]:
    """What the page draws of a video: columns of segments instead of frames, so that hundreds fit on a page."""
    return {
        "id": timeline.video_id,
        "span": [round(float(timeline.times[0]), 3), round(timeline.end_seconds, 3)],
        "truth": None if timeline.truth is None else _runs(timeline, timeline.truth),
        "predicted": _runs(timeline, timeline.predicted, confidence=timeline.confidence),
        "confidence": _confidence_curve(timeline),
    }


def timeline_columns(timeline: VideoTimeline) -> dict[str, Any]:
    """What ``report.json`` says of a video: frames, seconds, and for each row of segments three columns.

    ``frames`` is the length of each segment, ``labels`` its class id, ``scores`` its mean confidence in percent.
    The seconds of frame i are ``first + i * step`` where ``step`` is there, else ``starts`` lists the second at
    which each segment starts.
    """
    step = _even_step(timeline)
    return {
        "video_id": timeline.video_id,
        "frames": len(timeline.times),
        "seconds": {
            "first": round(float(timeline.times[0]), 6),
            "end": round(timeline.end_seconds, 6),
            "step": step,
        },
        "truth": None
        if timeline.truth is None
        else _columns(timeline, timeline.truth, even=step is not None),
        "predicted": _columns(
            timeline, timeline.predicted, even=step is not None, confidence=timeline.confidence
        ),
    }


def _even_step(timeline: VideoTimeline) -> float | None:
    """Seconds between frames, where they are as good as equal; else None."""
    count = len(timeline.times)
    if count == 1:
        return None
    step = round(float(timeline.times[-1] - timeline.times[0]) / (count - 1), 9)
    even = timeline.times[0] + step * np.arange(count)
    return step if np.abs(even - timeline.times).max() < _EVEN_SECONDS else None


def _columns(
    timeline: VideoTimeline, labels: NDArray[np.int64], *, even: bool, confidence: NDArray[Any] | None = None
) -> dict[str, Any]:
    bounds = segment_bounds(labels)
    columns: dict[str, Any] = {
        "frames": np.diff(bounds).tolist(),
        "labels": labels[bounds[:-1]].tolist(),
    }
    if not even:
        columns["starts"] = np.round(timeline.times[bounds[:-1]], 3).tolist()
    if confidence is not None:
        columns["scores"] = _percents(_segment_means(confidence, bounds[:-1]))
    return columns


def _runs(
    timeline: VideoTimeline, labels: NDArray[np.int64], *, confidence: NDArray[Any] | None = None
) -> dict[str, Any]:
    """Milliseconds from one start to the next, the first from the start of the video: short numbers."""
    starts = segment_bounds(labels)[:-1]
    milliseconds = np.rint(1000 * (timeline.times[starts] - timeline.times[0])).astype(np.int64)
    scores = None if confidence is None else _percents(_segment_means(confidence, starts))
    return {
        "gaps": np.diff(milliseconds, prepend=0).tolist(),
        "labels": labels[starts].tolist(),
        "scores": scores,
    }


def _percents(values: NDArray[np.float64]) -> list[int]:
    percents: list[int] = np.rint(100 * values).astype(int).tolist()
    return percents


def _segment_means(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    lengths = np.diff(np.append(starts, len(values)))
    means: NDArray[np.float64] = np.add.reduceat(values.astype(np.float64), starts) / lengths
    return means


def _confidence_curve(timeline: VideoTimeline) -> list[int] | None:
    """Mean confidence in percent over equal spans of time."""
    if timeline.confidence is None:
        return None
    bins = min(len(timeline.times), _CURVE_BINS)
    edges = np.linspace(timeline.times[0], timeline.end_seconds, bins, endpoint=False)
    # A span without a frame of its own shows the frame on screen then, by way of its repeated index.
    starts = np.maximum(np.searchsorted(timeline.times, edges, side="right") - 1, 0)
    counts = np.maximum(np.diff(np.append(starts, len(timeline.times))), 1)
    means = np.add.reduceat(timeline.confidence.astype(np.float64), starts) / counts
    return _percents(means)


def segments(
    timeline: VideoTimeline,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    confidence: NDArray[Any] | None = None,
) -> list[dict[str, Any]]:
    """The runs of equal labels as JSON values: frames, seconds, class and mean confidence."""
    bounds = segment_bounds(labels)
    starts = bounds[:-1]
    seconds = np.append(timeline.times[starts], timeline.end_seconds).round(6).tolist()
    scores = [None] * len(starts)
    if confidence is not None:
        scores = _segment_means(confidence, starts).round(6).tolist()
    columns = (
        starts.tolist(),
        bounds[1:].tolist(),
        seconds[:-1],
        seconds[1:],
        labels[starts].tolist(),
        scores,
    )
    return [
        {
            "start_frame": start_frame,
            "end_frame": end_frame,
            "start_seconds": start_seconds,
            "end_seconds": end_seconds,
            "class_id": class_id,
            "class": class_names[class_id],
            "score": score,
        }
        for start_frame, end_frame, start_seconds, end_seconds, class_id, score in zip(*columns, strict=True)
    ]
