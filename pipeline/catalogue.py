"""Videos as the store knows them: probed once per content, listed in the catalogue."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError, VideoError
from pipeline.listing import list_videos, printable
from pipeline.probe import PROBE_VERSION, VideoFacts, probe_video
from storage.catalogue import CatalogueRow, update_catalogue
from storage.errors import StorageError
from storage.keys import digest_of
from storage.store import Store
from storage.timelines import read_timeline, write_timeline

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Video:
    """A video that can be decoded."""

    id: str
    """The file's name without its ending."""
    path: Path
    video_hash: str
    """SHA-256 of the content."""
    facts: VideoFacts
    """What probing found, frame times included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """The files of a folder that may be videos."""

    by_id: dict[str, Path]
    """Path by video id, sorted."""
    failed: dict[Path, str]
    """Reason by path, for files that cannot take part."""
    not_videos: tuple[Path, ...]
    """Text files that do not claim to be videos."""


def find_videos(folder: Path) -> Candidates:
    """The files directly in ``folder`` that may be videos, by id.

    Raises:
        DatasetError: The folder is missing or empty.
    """
    listing = list_videos(folder)
    by_id: dict[str, Path] = {}
    failed: dict[Path, str] = {}
    for path in listing.videos:
        other = by_id.setdefault(path.stem, path)
        if other != path:
            failed[path] = (
                f"{path}: the video id {path.stem!r} is already that of {other.name}. Rename one of them."
            )
    if not by_id:
        raise DatasetError(
            f"{folder} holds no video ({len(listing.not_videos)} other files). Give a folder of videos."
        )
    return Candidates(by_id=by_id, failed=failed, not_videos=listing.not_videos)


def open_video(path: Path, *, store: Store) -> Video:
    """The video at ``path``, probed unless the store already knows its content.

    Raises:
        VideoError: The file cannot be read as a video; the catalogue keeps the reason.
    """
    try:
        video = _open_video(path, store=store)
    except VideoError as error:
        update_catalogue(store.catalogue_path, [_plain_row(path, status="failed", error=error)])
        raise
    update_catalogue(store.catalogue_path, [_row(video)])
    return video


def probe_all(given: Sequence[Path], *, store: Store) -> list[CatalogueRow]:
    """A row for every file, and for every regular file of every folder, good or bad.

    Raises:
        DatasetError: A folder is missing or empty.
    """
    rows = []
    for path in given:
        if not path.is_dir():
            rows.append(_probe_row(path, store=store))
            continue
        listing = list_videos(path)
        rows += [_probe_row(file, store=store) for file in listing.videos]
        rows += [_plain_row(file, status="not a video") for file in listing.not_videos]
    return rows


def _probe_row(path: Path, *, store: Store) -> CatalogueRow:
    try:
        return _row(open_video(path, store=store))
    except (VideoError, StorageError) as error:
        return _plain_row(path, status="failed", error=error)


def _plain_row(path: Path, *, status: str, error: Exception | None = None) -> CatalogueRow:
    return CatalogueRow(
        id=printable(path.stem),
        path=printable(path.absolute()),
        status=status,
        error=None if error is None else str(error),
    )


def _open_video(path: Path, *, store: Store) -> Video:
    if printable(path) != str(path):
        raise VideoError(f"{printable(path)}: the path is not UTF-8 text. Rename the file or its folder.")
    if not path.is_file():
        # The prober's own words for a missing file or a folder.
        probe_video(path)
    try:
        video_hash = store.digests.digest(path)
    except OSError as error:
        raise VideoError(
            f"{path}: the file cannot be read ({error.strerror}). Check its permissions."
        ) from error
    target = store.timeline_path(digest_of({"video": video_hash, "version": PROBE_VERSION}))
    if target.exists():
        stored = read_timeline(target)
        facts = VideoFacts(frame_times=stored.frame_times, **stored.facts)
    else:
        facts = probe_video(path)
        described = {
            field.name: getattr(facts, field.name)
            for field in dataclasses.fields(facts)
            if field.name != "frame_times"
        }
        write_timeline(target, frame_times=facts.frame_times, facts=described)
    return Video(id=path.stem, path=path, video_hash=video_hash, facts=facts)


def _row(video: Video) -> CatalogueRow:
    facts = video.facts
    return CatalogueRow(
        id=video.id,
        path=str(video.path.absolute()),
        status="ok",
        video_hash=video.video_hash,
        size_bytes=facts.size_bytes,
        container=facts.container,
        codec=facts.codec,
        width=facts.width,
        height=facts.height,
        rotation=facts.rotation,
        fps=facts.fps,
        num_frames=facts.num_frames,
        duration_seconds=facts.duration,
        decoder=facts.decoder,
    )
