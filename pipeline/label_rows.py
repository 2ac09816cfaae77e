"""Rows of label files, whatever their format: who, from when to when, what; and from them segments of frames."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LabelError
from pipeline.labels import length_tolerance
from storage.segments import Segment

MAX_FRAMES = 10**8
"""Longest video that labels are believed to be of: 38 days at 30 frames per second."""

Unit = Literal["frames", "seconds"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRow:
    """One labelled stretch as a file says it."""

    video: str
    """Video id."""
    start: float
    """In frames from 0, or in seconds."""
    end: float
    """The first frame after it, or the second at which it ends."""
    unit: Unit
    label: str
    where: str
    """Place in the file, for messages: ``labels.csv, line 3``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingRules:
    """What a file cannot say of itself."""

    base: int | None = None
    """Number of the first frame, 0 or 1, where the format leaves it open."""
    end: Literal["inclusive", "exclusive"] | None = None
    """Whether the last frame named belongs to the segment, where the format leaves it open."""
    unit: Unit | None = None
    """Unit of columns that are called ``start`` and ``end`` only."""
    tier: str = ""
    """Tier or attribute to take, where a file has several."""
    blank_as: str = ""
    """What stands for a blank in the class names of recognition files."""
    classes: tuple[str, ...] = ()
    """Class names of the mapping, where one was given."""


class Timeline(Protocol):
    """When the frames of a video are shown."""

    @property
    def frame_times(self) -> NDArray[np.float64]:
        """(N,) seconds at which each frame is shown."""

    @property
    def duration(self) -> float:
        """Seconds to the end of the last frame."""


def checked_label(label: str, where: str) -> str:
    """The label without blanks around it.

    Raises:
        LabelError: It is empty, or holds a line end or another control character.
    """
    label = label.strip()
    if not label:
        raise LabelError(f"{where}: the label is empty. Name the class, or remove the segment.")
    return _printable(label, where, what="label")


def checked_video(video: str, where: str) -> str:
    """The id of a video, fit to name a file.

    Raises:
        LabelError: It is empty, too long, a path, or holds a control character.
    """
    if (
        video in {"", ".", ".."}
        or "/" in video
        or "\\" in video
        or len(video.encode("utf-8", "replace")) > 200
    ):
        raise LabelError(
            f"{where}: {video[:60]!r} cannot be the id of a video. Use its file name without folder and ending."
        )
    return _printable(video, where, what="video id")


def checked_row(
    *,
    video: str,
    start: float,
    end: float,
    unit: Unit,
    label: str,
    where: str,
    rules: ReadingRules | None = None,
) -> LabelRow:
    """A row whose parts are fit to use.

    Args:
        video: Its id.
        start: As the file says it.
        end: As the file says it.
        unit: Unit of both.
        label: Class name.
        where: Place in the file.
        rules: How frame numbers count, where the format leaves it open.

    Raises:
        LabelError: A part is not fit, or the row holds nothing.
    """
    if unit == "frames" and np.isfinite([start, end]).all():
        if start != int(start) or end != int(end):
            raise LabelError(
                f"{where}: frames {start:g} to {end:g} are no whole numbers. Say --unit seconds?"
            )
        if rules is not None:
            start, end = start - (rules.base or 0), end - (rules.base or 0) + (rules.end == "inclusive")
    if not 0 <= start < end <= MAX_FRAMES:
        raise LabelError(
            f"{where}: from {start:g} to {end:g} {unit} there is nothing (counted from 0, end exclusive). "
            "Correct the row, or the words on how it counts (--base, --end)."
        )
    return LabelRow(
        video=checked_video(video, where),
        start=start,
        end=end,
        unit=unit,
        label=checked_label(label, where),
        where=where,
    )


def rules_said(rules: ReadingRules, *, source: Path) -> ReadingRules:
    """The rules, where they say how frames are counted.

    Raises:
        LabelError: They do not; a guess would be wrong by one frame half of the time.
    """
    if rules.base is None or rules.end is None:
        raise LabelError(
            f"{source}: nothing in it says how frames are counted. Give --base 0 or 1 and --end inclusive or exclusive."
        )
    return rules


def milliseconds(segment: Segment) -> tuple[int, int]:
    """Start and end in the unit of subtitle and annotation files.

    Raises:
        LabelError: The segment is shorter than one.
    """
    start, end = (round(1000 * seconds) for seconds in (segment.start_seconds, segment.end_seconds))
    if start == end:
        raise LabelError(
            f"{segment.video}: the segment at frame {segment.start_frame} is shorter than a millisecond, the unit of "
            "this format. Use csv, json or parquet."
        )
    return start, end


def segments_of_rows(
    rows: Sequence[LabelRow], *, timeline: Timeline | None, fps: float | None, gaps: str
) -> list[Segment]:
    """Segments of one video in their order.

    Args:
        rows: All of one video.
        timeline: When its frames are shown; None where only the rate is known.
        fps: Frames per second, where there is no timeline; None where frames count and time is unknown.
        gaps: Class of the frames between segments, and up to the video's end; empty leaves them out.

    Raises:
        LabelError: Rows overlap, hold no frame, or reach beyond the video; or seconds have no rate to go by.
    """
    placed: list[tuple[int, int, LabelRow]] = []
    for row in sorted(rows, key=lambda row: (row.start, row.end)):
        start, end = _frames(row, timeline=timeline, fps=fps)
        if end > MAX_FRAMES:
            raise LabelError(
                f"{row.where}: ends at frame {end}, more than a video has. Correct the row, or --fps."
            )
        if end <= start:
            raise LabelError(
                f"{row.where}: {row.start:g} to {row.end:g} seconds hold no frame. Remove the row."
            )
        if placed and start < placed[-1][1]:
            raise LabelError(
                f"{row.where}: {row.label!r} starts before {placed[-1][2].label!r} ({placed[-1][2].where}) ends. "
                "A frame has one label: shorten one of them, or choose one tier."
            )
        placed.append((start, end, row))
    total = len(timeline.frame_times) if timeline is not None else placed[-1][1]
    runs = [(start, end, row.label) for start, end, row in placed]
    if gaps:
        runs = _filled(runs, total=total, label=gaps)
    video = rows[0].video
    return [_segment(video, start, end, label, timeline=timeline, fps=fps) for start, end, label in runs]


def _filled(runs: Sequence[tuple[int, int, str]], *, total: int, label: str) -> list[tuple[int, int, str]]:
    filled: list[tuple[int, int, str]] = []
    done = 0
    for start, end, name in (*runs, (total, total, "")):
        if done < start:
            filled.append((done, start, label))
        if start < end:
            filled.append((start, end, name))
        done = max(done, end)
    return filled


def _frames(row: LabelRow, *, timeline: Timeline | None, fps: float | None) -> tuple[int, int]:
    if timeline is None:
        if row.unit == "frames":
            return int(row.start), int(row.end)
        if fps is None:
            raise LabelError(f"{row.where}: seconds need a rate to become frames. Give --fps, or --videos.")
        return round(row.start * fps), round(row.end * fps)
    count = len(timeline.frame_times)
    spare = length_tolerance(count)
    beyond = row.end > count + spare if row.unit == "frames" else row.end > _at(timeline, count, spare)
    if beyond:
        raise LabelError(
            f"{row.where}: ends at {row.end:g} {row.unit}, but the video has {count} frames "
            f"({timeline.duration:g} seconds). Correct the row, or give the video it belongs to."
        )
    if row.unit == "frames":
        return min(int(row.start), count), min(int(row.end), count)
    boundaries = np.append(timeline.frame_times, timeline.duration)
    middles = (boundaries[1:] + boundaries[:-1]) / 2
    start, end = np.searchsorted(middles, [row.start, row.end], side="right").tolist()
    return start, end


def _at(timeline: Timeline, count: int, spare: int) -> float:
    """Seconds up to which an end is taken as that of the video."""
    return timeline.duration * (1 + spare / count)


def _segment(
    video: str, start: int, end: int, label: str, *, timeline: Timeline | None, fps: float | None
) -> Segment:
    def seconds(frame: int) -> float:
        if timeline is None:
            return frame / (fps or 1.0)
        return float(timeline.frame_times[frame] if frame < len(timeline.frame_times) else timeline.duration)

    return Segment(
        video=video,
        start_frame=start,
        end_frame=end,
        start_seconds=seconds(start),
        end_seconds=seconds(end),
        label=label,
    )


def _printable(text: str, where: str, *, what: str) -> str:
    # Line ends would break every line-wise format; XML and UTF-8 have no place for the others.
    bad = next(
        (c for c in text if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in "\ufffe\uffff"), None
    )
    if bad is not None:
        raise LabelError(
            f"{where}: the {what} {text[:60]!r} holds {bad!r}, which no label file can keep. Rename it."
        )
    return text
