"""Videos as the store knows them: probed once per content, listed in the catalogue."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from pipeline.decode_rules import DecodeRules, OnCorrupt
from pipeline.errors import CorruptVideoError, DecoderError, VideoError
from pipeline.guard import probe_guarded
from pipeline.listing import list_some_videos, list_videos, printable
from pipeline.probe import PROBE_VERSION, VideoFacts, check_file
from pipeline.remote_videos import (
    DEFAULT_CACHE_GIB,
    VideoAddress,
    fetched_content,
    list_remote,
    local_video,
    name_of,
    note_content,
    origin,
    path_in,
    without_query,
)
from storage.catalogue import CatalogueRow, update_catalogue
from storage.errors import StorageError
from storage.keys import digest_of
from storage.places import Place
from storage.store import Store
from storage.timelines import read_timeline, write_timeline

log = logging.getLogger(__name__)

CORRUPT_RULES: tuple[OnCorrupt, ...] = get_args(OnCorrupt)
"""Every rule for damaged videos under which a timeline may have been stored, in the order of preference."""


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


def find_videos(folder: Path, *, recursive: bool = False) -> Candidates:
    """The files in ``folder`` that may be videos, by id; those of deeper folders have these in their ids.

    For data sets, whose splits and labels name videos by their ids.

    Raises:
        DatasetError: The folder is missing or empty.
    """
    listing = list_some_videos(folder, recursive=recursive)
    by_id: dict[str, Path] = {}
    failed: dict[Path, str] = {}
    for path in listing.videos:
        video_id = path.relative_to(folder).with_suffix("").as_posix()
        other = by_id.setdefault(video_id, path)
        if other != path:
            failed[path] = (
                f"{path}: the video id {video_id!r} is already that of {other.name}. Rename one of them."
            )
    return Candidates(by_id=by_id, failed=failed, not_videos=listing.not_videos)


def videos_by_id(folder: VideoAddress) -> dict[str, VideoAddress]:
    """The videos of a data set by id: of a folder here, or of one behind a URL.

    Raises:
        DatasetError: The folder is missing or empty.
        VideoError: A folder behind a URL cannot be listed, holds no video, or two of one id.
    """
    if isinstance(folder, Path):
        return dict(find_videos(folder).by_id)
    by_id: dict[str, VideoAddress] = {}
    for url in list_remote(folder):
        other = by_id.setdefault(path_in(url).stem, url)
        if other != url:
            raise VideoError(f"{url}: has the video id of {name_of(other)}. Rename one of them.")
    return by_id


def timeline_key(video_hash: str, *, on_corrupt: OnCorrupt) -> str:
    """Name of the timeline of a video with this content, probed under this rule for damaged videos."""
    return digest_of({"video": video_hash, "version": PROBE_VERSION, "on_corrupt": on_corrupt})


def open_video(path: Path, *, store: Store, rules: DecodeRules | None = None) -> Video:
    """The video at ``path``, probed in a guarded process unless the store already knows its content.

    Args:
        path: The file.
        store: Where what was found is kept.
        rules: What decoding may cost, and what becomes of a damaged video; without them the video is taken as
            the store knows it from an extraction, whatever the rules were then.

    Raises:
        VideoError: The file cannot be read as a video; the catalogue keeps the reason.
    """
    video, _ = _catalogued(path, store=store, rules=rules)
    return video


def _catalogued(path: Path, *, store: Store, rules: DecodeRules | None) -> tuple[Video, CatalogueRow]:
    """The video, and its row: that of a failed reading stays until a reading goes well."""
    try:
        video, known = _open_video(path, store=store, rules=rules)
    except VideoError as error:
        update_catalogue(store.catalogue_path, [_plain_row(path, status="failed", error=error)])
        raise
    (row,) = update_catalogue(store.catalogue_path, [_row(video)], keep_failures=known)
    return video, row


def note_reading(video: Video, *, store: Store, error: VideoError | None = None) -> None:
    """Write into the catalogue how reading the pictures of a video went: well, or with this error."""
    row = _row(video)
    if isinstance(error, CorruptVideoError | DecoderError):
        row = replace(row, status="failed", error=str(error))
    elif error is not None:
        # It changed, or is gone: nothing is known of what lies there now.
        row = _plain_row(video.path, status="failed", error=error)
    update_catalogue(store.catalogue_path, [row])


def hand_to_pyav(video: Video) -> Video:
    """The same video, read by PyAV."""
    return replace(video, facts=replace(video.facts, decoder="pyav"))


def note_decoder(video: Video, *, store: Store) -> None:
    """Remember the decoder of this content, under any rules: it is part of the key of all its features."""
    for target in _timelines(video.video_hash, rules=None, store=store):
        if target.exists():
            stored = read_timeline(target)
            facts = {**stored.facts, "decoder": video.facts.decoder}
            write_timeline(target, frame_times=stored.frame_times, facts=facts, anew=True)


def open_address(
    address: VideoAddress, *, store: Store, cache_gib: float, rules: DecodeRules | None = None
) -> Video:
    """``open_video`` for a file or a URL; a URL is fetched only where the store does not know its content.

    The path of a video from a URL is that in the cache of videos, where it may have made room for others. The
    rules are for files: a URL is taken as the store knows it.

    Raises:
        VideoError: It cannot be fetched, or is no video.
    """
    if isinstance(address, Path):
        return open_video(address, store=store, rules=rules)
    path, content = fetched_content(address)
    known = known_content(path, content, store=store) if content else None
    if known is not None:
        return known
    with local_video(address, cache_gib=cache_gib) as path:
        return open_video(path, store=store)


def content_of(address: VideoAddress, *, store: Store, cache_gib: float) -> str:
    """SHA-256 of a video, a file or a URL; remembered while it does not change.

    Raises:
        VideoError: The URL cannot be fetched.
        OSError: The file cannot be read.
    """
    if isinstance(address, Path):
        return store.digests.digest(address)
    _, content = fetched_content(address)
    if content:
        return content
    with local_video(address, cache_gib=cache_gib) as path:
        content = store.digests.digest(path)
        note_content(path, content)
    return content


def known_video(path: Path, *, store: Store, rules: DecodeRules | None = None) -> Video | None:
    """The video at ``path`` if the store knows its content; nothing is probed and the catalogue stays as it is."""
    try:
        return known_content(path, store.digests.digest(path), rules=rules, store=store)
    except OSError:
        return None


def probe_all(
    given: Sequence[VideoAddress],
    *,
    store: Store,
    cache_gib: float = DEFAULT_CACHE_GIB,
    recursive: bool = False,
) -> list[CatalogueRow]:
    """A row for every file and URL, and for every regular file of every folder, good or bad.

    Raises:
        DatasetError: A folder is missing or empty.
        VideoError: A folder behind a URL cannot be listed, or holds no video.
    """
    rows = []
    for path in given:
        if isinstance(path, str):
            rows += [_probe_remote(url, store=store, cache_gib=cache_gib) for url in list_remote(path)]
            continue
        if not path.is_dir():
            rows.append(_probe_row(path, store=store))
            continue
        listing = list_videos(path, recursive=recursive)
        rows += [_probe_row(file, store=store) for file in listing.videos]
        rows += [_plain_row(file, status="not a video") for file in listing.not_videos]
    return rows


def _probe_row(path: Path, *, store: Store) -> CatalogueRow:
    try:
        return _catalogued(path, store=store, rules=None)[1]
    except (VideoError, StorageError) as error:
        return _plain_row(path, status="failed", error=error)


def _probe_remote(url: str, *, store: Store, cache_gib: float) -> CatalogueRow:
    try:
        with local_video(url, cache_gib=cache_gib) as path:
            return _probe_row(path, store=store)
    except VideoError as error:
        shown = without_query(url)
        return CatalogueRow(id=path_in(url).stem, path=shown, status="failed", error=str(error))


def _plain_row(path: Path, *, status: str, error: Exception | None = None) -> CatalogueRow:
    return CatalogueRow(
        id=printable(path.stem),
        path=printable(origin(path)),
        status=status,
        error=None if error is None else str(error),
    )


def _open_video(path: Path, *, store: Store, rules: DecodeRules | None) -> tuple[Video, bool]:
    """The video, and whether the store knew its content."""
    if printable(path) != str(path):
        raise VideoError(f"{printable(path)}: the path is not UTF-8 text. Rename the file or its folder.")
    if not path.is_file():
        # The prober's own words for a missing file or a folder.
        check_file(path)
    video_hash = _digest(path, store=store)
    note_content(path, video_hash)
    known = known_content(path, video_hash, rules=rules, store=store)
    if known is not None:
        return known, True
    try:
        facts = probe_guarded(path, rules=rules)
    finally:
        # Half of one content and half of another look like damage: the change is what there is to say.
        check_unchanged(path, video_hash, store=store)
    described = {
        field.name: getattr(facts, field.name)
        for field in dataclasses.fields(facts)
        if field.name != "frame_times"
    }
    target = _timelines(video_hash, rules=rules, store=store)[0]
    write_timeline(target, frame_times=facts.frame_times, facts=described)
    return Video(id=path.stem, path=path, video_hash=video_hash, facts=facts), False


def known_content(
    path: Path, video_hash: str, *, store: Store, rules: DecodeRules | None = None
) -> Video | None:
    """The video at ``path``, whose content has this hash, if the store knows that content."""
    targets = _timelines(video_hash, rules=rules, store=store)
    known = next((target for target in targets if target.exists()), None)
    if known is None:
        return None
    stored = read_timeline(known)
    facts = VideoFacts(frame_times=stored.frame_times, **stored.facts)
    return Video(id=path.stem, path=path, video_hash=video_hash, facts=facts)


def _timelines(video_hash: str, *, rules: DecodeRules | None, store: Store) -> list[Place]:
    """Where the frame times of this content may lie; under any rules where none are given, the strict ones first."""
    return [
        store.timeline_path(timeline_key(video_hash, on_corrupt=policy))
        for policy in (CORRUPT_RULES if rules is None else (rules.on_corrupt,))
    ]


def check_unchanged(path: Path, video_hash: str, *, store: Store) -> None:
    """Make sure that what was read of a file is of the content with this hash; reads it again only if touched.

    Raises:
        VideoError: It changed meanwhile, or is gone.
    """
    if not path.exists():
        raise VideoError(
            f"{path}: was removed while it was read. Put it back and run the same command, or leave it out."
        )
    if _digest(path, store=store) != video_hash:
        raise VideoError(f"{path}: changed while it was read. Run the same command when it is complete.")


def _digest(path: Path, *, store: Store) -> str:
    try:
        return store.digests.digest(path)
    except OSError as error:
        raise VideoError(
            f"{path}: the file cannot be read ({error.strerror}). Check its permissions."
        ) from error


def _row(video: Video) -> CatalogueRow:
    facts = video.facts
    return CatalogueRow(
        id=video.id,
        path=origin(video.path),
        status="ok",
        error=f"corrupt after frame {facts.num_frames} of {facts.promised_frames}; the part before is taken"
        if facts.is_cut
        else None,
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
        video_streams=facts.video_streams,
        stream_index=facts.stream_index,
        pixel_aspect=facts.pixel_aspect,
        variable_rate=facts.has_variable_rate,
    )
