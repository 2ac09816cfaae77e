"""Segments as files that others read: recognition files, JSON, CSV, WebVTT, ELAN, Parquet."""

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import LabelError
from pipeline.label_elan import elan_document
from pipeline.label_rows import checked_label, checked_video, milliseconds
from pipeline.label_text import RECOGNITION_HEAD
from storage.atomic import atomic_path, write_text_atomically
from storage.segments import SEGMENT_SCHEMA, Segment, write_segments

ExportFormat = Literal["mstcn", "json", "csv", "vtt", "elan", "parquet"]

TIMED: frozenset[ExportFormat] = frozenset({"vtt", "elan"})
"""Formats that know seconds only."""

SegmentsByVideo = Mapping[str, Sequence[Segment]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What an export wrote."""

    files: tuple[Path, ...]
    failed: dict[str, str]
    """Reason by video, for videos that cannot be written in this format."""


def write_export(
    videos: SegmentsByVideo,
    *,
    form: ExportFormat,
    folder: Path,
    classes: Sequence[str],
    blank_as: str = "",
    metadata: Mapping[str, Any],
) -> Written:
    """Write segments into a folder: a file per video, or one for all (JSON, CSV, Parquet).

    Args:
        videos: Segments by video id, in order.
        form: The format.
        folder: Made where it does not exist; files of the same names are replaced.
        classes: All class names, for ``mapping.txt``.
        blank_as: What stands for a blank in recognition files; then ``mapping.txt`` is written beside them.
        metadata: JSON-able facts on the origin, kept by Parquet.

    Raises:
        LabelError: Class names cannot be told apart in a recognition file.
    """
    fit, failed = _checked(videos)
    if form in {"json", "csv", "parquet"}:
        target = folder / f"segments.{form}"
        _WHOLE[form](target, fit, metadata)
        return Written(files=(target,), failed=failed)
    files: list[Path] = []
    if form == "mstcn" and blank_as:
        words = _words(classes, blank_as=blank_as)
        files.append(folder / "mapping.txt")
        write_text_atomically(files[0], "".join(f"{index} {name}\n" for index, name in enumerate(words)))
    for video, segments in fit.items():
        try:
            files.append(_write_one(folder, video, segments, form=form, blank_as=blank_as))
        except LabelError as error:
            failed[video] = str(error)
    return Written(files=tuple(files), failed=failed)


def recognition_text(segments: Sequence[Segment], *, blank_as: str) -> str:
    """A recognition file of MS-TCN's scripts.

    Raises:
        LabelError: A class name holds a blank that nothing stands for, or a frame has no label.
    """
    words: list[str] = []
    for segment in segments:
        if segment.start_frame != len(words):
            raise LabelError(
                f"{segment.video}: frame {len(words)} is in no segment or in two, and a recognition file names every "
                "frame. Import the labels with --gaps CLASS, or use another format."
            )
        parts = segment.label.split()
        if len(parts) > 1 and not blank_as:
            raise LabelError(
                f"{segment.video}: class {segment.label!r} holds a blank, which separates labels in a recognition "
                "file. Give --blank-as _."
            )
        words += [blank_as.join(parts)] * (segment.end_frame - segment.start_frame)
    return f"{RECOGNITION_HEAD}\n{' '.join(words)}"


def vtt_text(segments: Sequence[Segment]) -> str:
    """A WebVTT file with a cue per segment.

    Raises:
        LabelError: A segment is shorter than a millisecond, the unit of the format.
    """
    cues = [
        f"{' --> '.join(map(_clock, milliseconds(segment)))}\n{html.escape(segment.label, quote=False)}\n"
        for segment in segments
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _checked(videos: SegmentsByVideo) -> tuple[dict[str, Sequence[Segment]], dict[str, str]]:
    """Videos whose ids can name files and whose labels fit on a line, and why the others do not."""
    fit: dict[str, Sequence[Segment]] = {}
    failed: dict[str, str] = {}
    for video, segments in videos.items():
        try:
            checked_video(video, "export")
            for label in {segment.label for segment in segments}:
                checked_label(label, f"video {video}")
            fit[video] = segments
        except LabelError as error:
            failed[video] = str(error)
    return fit, failed


def _write_one(
    folder: Path, video: str, segments: Sequence[Segment], *, form: ExportFormat, blank_as: str
) -> Path:
    if form == "elan":
        document, target = elan_document(segments), folder / f"{video}.eaf"
        with atomic_path(target) as scratch:
            scratch.write_bytes(document)
        return target
    if form == "vtt":
        text, target = vtt_text(segments), folder / f"{video}.vtt"
    else:
        text, target = recognition_text(segments, blank_as=blank_as), folder / video
    write_text_atomically(target, text)
    return target


def _words(classes: Sequence[str], *, blank_as: str) -> list[str]:
    """Class names as recognition files write them."""
    if blank_as.split() != [blank_as]:
        raise LabelError(f"--blank-as {blank_as!r} holds a blank itself. Give another sign, such as _.")
    words: dict[str, str] = {}
    for name in classes:
        word = blank_as.join(name.split())
        if words.setdefault(word, name) != name:
            raise LabelError(
                f"Classes {words[word]!r} and {name!r} are both {word!r} with --blank-as {blank_as}. "
                "Give another sign."
            )
    return list(words)


def _write_json(target: Path, videos: SegmentsByVideo, metadata: Mapping[str, Any]) -> None:
    del metadata
    listed = [
        {
            "video": video,
            "segments": [
                {name: value for name, value in segment.to_row().items() if name != "video"}
                for segment in segments
            ],
        }
        for video, segments in videos.items()
    ]
    write_text_atomically(target, json.dumps(listed, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write_csv(target: Path, videos: SegmentsByVideo, metadata: Mapping[str, Any]) -> None:
    del metadata
    text = io.StringIO()
    writer = csv.DictWriter(text, SEGMENT_SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(segment.to_row() for segments in videos.values() for segment in segments)
    write_text_atomically(target, text.getvalue())


def _write_parquet(target: Path, videos: SegmentsByVideo, metadata: Mapping[str, Any]) -> None:
    segments = [segment for segments in videos.values() for segment in segments]
    write_segments(target, segments, metadata=metadata)


_WHOLE: dict[str, Callable[[Path, SegmentsByVideo, Mapping[str, Any]], None]] = {
    "json": _write_json,
    "csv": _write_csv,
    "parquet": _write_parquet,
}


def _clock(stamp: int) -> str:
    """Milliseconds as WebVTT writes them.

    >>> _clock(3_723_004)
    '01:02:03.004'
    """
    seconds, rest = divmod(stamp, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{rest:03}"
