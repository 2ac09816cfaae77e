"""Labels of any known format into the store: segments of every video, under the name of a data set."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.catalogue import Video, find_videos, open_video
from pipeline.errors import DatasetError, LabelError, VideoError
from pipeline.import_mstcn import LABEL_VERSION, ImportOutcome, check_rate, read_splits
from pipeline.label_elan import read_elan
from pipeline.label_json import read_json, read_label_studio, read_via
from pipeline.label_rows import LabelRow, ReadingRules, segments_of_rows
from pipeline.label_text import read_csv, read_frames, read_ranges, read_recognition, read_vtt
from pipeline.labels import ClassList, nearest_name
from pipeline.outcome import VideoOutcome
from storage.atomic import artefact_lock
from storage.datasets import StoredDataset, StoredRecording, StoredSplit, write_dataset
from storage.keys import digest_of
from storage.segments import write_segments
from storage.store import Store

LabelFormat = Literal["mstcn", "recognition", "ranges", "csv", "json", "elan", "via", "labelstudio", "vtt"]

_READERS: dict[LabelFormat, tuple[Callable[[Path, ReadingRules], list[LabelRow]], tuple[str, ...]]] = {
    "mstcn": (read_frames, (".txt",)),
    # The published scripts write no ending; a dot in a video's id looks like one.
    "recognition": (read_recognition, ()),
    "ranges": (read_ranges, (".txt", ".csv", ".tsv")),
    "csv": (read_csv, (".csv", ".tsv")),
    "json": (read_json, (".json",)),
    "elan": (read_elan, (".eaf",)),
    "via": (read_via, (".json",)),
    "labelstudio": (read_label_studio, (".json",)),
    "vtt": (read_vtt, (".vtt",)),
}
"""How a file is read, and the endings taken from a folder (none: all its files)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSource:
    """What is taken in and by which rules."""

    paths: tuple[Path, ...]
    """Files, and folders whose files of the format's endings are taken."""
    format: LabelFormat
    rules: ReadingRules = field(default_factory=ReadingRules)
    fps: float | None = None
    """Frames per second, where there are no videos to ask."""
    videos: Path | None = None
    """Folder of the videos: seconds become frames by their own time stamps."""
    splits: Path | None = None
    """Folder of bundles."""
    gaps: str = ""
    """Class of the frames between segments; without it, frames may stay without a class."""


@dataclass(slots=True)
class _Read:
    """What the files say, by video."""

    rows: dict[str, list[LabelRow]] = field(default_factory=dict)
    origin: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def import_labels(source: LabelSource, *, name: str, store: Store) -> ImportOutcome:
    """Segments of every labelled video, under one name. A bad file or video harms no other.

    Args:
        source: What is taken in.
        name: Name of the data set in the store.
        store: The store.

    Raises:
        SettingsError: ``fps`` is no rate.
        DatasetError: There is no file, or none that can be used.
    """
    check_rate(source.fps)
    read = _read_all(source)
    classes = _classes(source, read)
    look = _timelines(source, store)
    recordings: dict[str, StoredRecording] = {}
    for video in sorted(read.rows):
        try:
            recordings[video] = _store_one(video, read, source=source, timeline=look(video), store=store)
        except (LabelError, DatasetError, VideoError) as error:
            read.failed[video] = str(error)
    if not recordings:
        raise DatasetError(
            f"None of the {len(read.failed)} label files or videos can be used; the first: "
            f"{next(iter(read.failed.values()))}"
        )
    notes: list[str] = []
    splits: dict[str, StoredSplit] = {}
    if source.splits is not None:
        splits = read_splits(source.splits, recordings, failed=read.failed, notes=notes)
    dataset = StoredDataset(
        name=name,
        classes=classes.names,
        recordings=recordings,
        splits=splits,
        fps=source.fps,
        source={"format": source.format, "gaps": source.gaps},
    )
    write_dataset(store, dataset)
    outcomes = [VideoOutcome(video=video, status="done") for video in recordings]
    outcomes += [
        VideoOutcome(video=video, status="failed", reason=reason) for video, reason in read.failed.items()
    ]
    return ImportOutcome(dataset=dataset, outcomes=tuple(outcomes), notes=tuple(notes))


def _read_all(source: LabelSource) -> _Read:
    reader, _ = _READERS[source.format]
    read = _Read()
    for path in _files(source):
        try:
            _add(read, path, reader(path, source.rules), classes=source.rules.classes)
        except LabelError as error:
            read.failed[path.name] = str(error)
    return read


def _add(read: _Read, path: Path, rows: Sequence[LabelRow], *, classes: Sequence[str]) -> None:
    if not rows:
        raise LabelError(f"{path} holds no segment. Label the video, or leave the file out.")
    _check_classes(rows, classes)
    by_video: dict[str, list[LabelRow]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)
    twice = next((video for video in by_video if video in read.rows), None)
    if twice is not None:
        raise LabelError(
            f"{path}: video {twice!r} has labels in {read.origin[twice]} already. Give one file per video."
        )
    read.rows.update(by_video)
    read.origin.update(dict.fromkeys(by_video, path))


def _check_classes(rows: Sequence[LabelRow], classes: Sequence[str]) -> None:
    unknown = next((row for row in rows if classes and row.label not in classes), None)
    if unknown is not None:
        raise LabelError(
            f"{unknown.where}: class {unknown.label!r} is not in the mapping"
            f"{nearest_name(unknown.label, classes)}. Correct it, or add the class to the mapping."
        )


def _classes(source: LabelSource, read: _Read) -> ClassList:
    """Those of the mapping, else those found, by name; the class of gaps goes first."""
    found = source.rules.classes or tuple(sorted({row.label for rows in read.rows.values() for row in rows}))
    if source.gaps and source.gaps not in found:
        found = (source.gaps, *found)
    return ClassList(found or ("none",))


def _timelines(source: LabelSource, store: Store) -> Callable[[str], Video | None]:
    """How the video of an id is opened; it gives None where only a rate is known."""
    if source.videos is None:
        return lambda _: None
    folder, candidates = source.videos, find_videos(source.videos)

    def look(video: str) -> Video:
        path = candidates.by_id.get(video)
        if path is None:
            raise DatasetError(
                f"Video {video!r} has labels but is not in {folder}. Add it, or leave its labels out."
            )
        return open_video(path, store=store)

    return look


def _store_one(
    video: str, read: _Read, *, source: LabelSource, timeline: Video | None, store: Store
) -> StoredRecording:
    segments = segments_of_rows(
        read.rows[video],
        timeline=None if timeline is None else timeline.facts,
        fps=source.fps,
        gaps=source.gaps,
    )
    origin = read.origin[video]
    identity: dict[str, Any] = {
        "stage": "labels",
        "version": LABEL_VERSION,
        "format": source.format,
        "content": store.digests.digest(origin),
        "video": video,
        "rules": asdict(source.rules),
        "gaps": source.gaps,
        "fps": timeline.facts.fps if timeline is not None else source.fps,
        "video_hash": timeline and timeline.video_hash,
    }
    key = digest_of(identity)
    target = store.label_path(key)
    with artefact_lock(target):
        if not target.exists():
            write_segments(target, segments, metadata=identity | {"source": origin.name, "note": ""})
    return StoredRecording(labels=key, num_frames=segments[-1].end_frame)


def _files(source: LabelSource) -> list[Path]:
    _, suffixes = _READERS[source.format]
    files: list[Path] = []
    for path in source.paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            file
            for file in path.iterdir()
            if file.is_file()
            and not file.name.startswith(".")
            and (not suffixes or file.suffix.lower() in suffixes)
        )
        if not inside:
            raise DatasetError(
                f"{path} holds no file of format {source.format} ({', '.join(suffixes) or 'any ending'}). "
                "Give another folder, or another --format."
            )
        files += inside
    return files
