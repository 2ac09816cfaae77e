"""The catalogue as people browse it: every video with its stages, searched, sorted and cut into pages."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, get_args

from pipeline.browse_cache import Remembered, stamp_of
from pipeline.browse_predictions import StoredPrediction, StoredPredictions
from pipeline.errors import SettingsError
from storage.catalogue import CatalogueRow, read_catalogue
from storage.errors import MissingArtefactError
from storage.keys import digest_of
from storage.status import State, StatusRow, read_status
from storage.store import Store

PAGE_ROWS: Final = 100
"""Videos on a page."""

STAGES: Final = ("features", "labels", "prediction", "evaluation")
"""Stages of the status table that have a column; probing shows in the catalogue itself, texts belong to no video."""

STATES: Final[tuple[State, ...]] = get_args(State)
_WORST_FIRST: Final[tuple[State, ...]] = ("failed", "stale", "missing", "done")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageState:
    """What became of a video in one stage, the worst of its parts."""

    state: State
    reasons: tuple[str, ...]
    """A sentence for each part that is not done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrowsedVideo:
    """A video of the catalogue or of the status table."""

    key: str
    """Its name in addresses: a digest of where it lies."""
    name: str
    path: str
    """Path or URL; empty for a recording without a video."""
    row: CatalogueRow | None
    """None where it was never probed."""
    stages: Mapping[str, StageState] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``ok``, ``failed``, ``not a video`` or ``not probed``."""
        return "not probed" if self.row is None else self.row.status

    @property
    def content(self) -> str:
        """SHA-256 of the content; empty where it is not known."""
        return (self.row and self.row.video_hash) or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueQuery:
    """Which videos are asked for."""

    text: str = ""
    """Part of the name or path, whatever its case."""
    status: str = ""
    """Only videos of this status; all unless given."""
    stage: str = ""
    """``<stage>:<state>``; all unless given."""
    sort: str = "name"
    descending: bool = False
    page: int = 1

    def __post_init__(self) -> None:
        stage, _, state = self.stage.partition(":")
        if self.sort not in SORTS:
            raise SettingsError(f"Videos cannot be sorted by {self.sort!r}. Take one of {', '.join(SORTS)}.")
        if self.stage and (stage not in STAGES or state not in STATES):
            raise SettingsError(f"{self.stage!r} is no stage and state. Give one such as features:missing.")
        if self.page < 1:
            raise SettingsError(f"There is no page {self.page}. The first is 1.")

    def wants(self, video: BrowsedVideo) -> bool:
        """Whether a video is asked for."""
        wanted = self.text.casefold()
        if wanted and wanted not in video.name.casefold() and wanted not in video.path.casefold():
            return False
        if self.status and video.status != self.status:
            return False
        stage, _, state = self.stage.partition(":")
        found = video.stages.get(stage)
        return not stage or (found is not None and found.state == state)


@dataclass(frozen=True, kw_only=True, slots=True)
class CataloguePage:
    """Some of the videos that were asked for."""

    videos: tuple[BrowsedVideo, ...]
    found: int
    """Videos that match."""
    total: int
    """Videos there are."""
    page: int
    """Which page this is; the last one where a later was asked for."""
    pages: int


def natural(name: str) -> list[Any]:
    """Sort key by which 2 comes before 10.

    >>> sorted(["clip10", "Clip2"], key=natural)
    ['Clip2', 'clip10']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.casefold())]


def _fact(name: str) -> Callable[[BrowsedVideo], Any]:
    return lambda video: None if video.row is None else getattr(video.row, name)


def _pixels(video: BrowsedVideo) -> int | None:
    row = video.row
    return row.width * row.height if row is not None and row.width and row.height else None


SORTS: Final[Mapping[str, Callable[[BrowsedVideo], Any]]] = {
    "name": lambda video: natural(video.name),
    "status": lambda video: video.status,
    "codec": _fact("codec"),
    "size": _pixels,
    "fps": _fact("fps"),
    "frames": _fact("num_frames"),
    "length": _fact("duration_seconds"),
}
"""What videos are sorted by; one without such a fact comes last."""


class Catalogue:
    """The videos of a store. Nothing is probed and nothing is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = Remembered(store.catalogue_path, lambda: read_catalogue(store.catalogue_path))
        self._status = Remembered(store.status_path, self._read_status)
        self._joined: tuple[object, dict[str, BrowsedVideo]] | None = None
        self.predictions = StoredPredictions(store)

    def judged_at(self) -> str:
        """When the stages were looked at last, as text; empty where they never were."""
        path = self._store.status_path
        if not path.exists():
            return ""
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")

    def videos(self) -> dict[str, BrowsedVideo]:
        """Every video, by key."""
        stamp = stamp_of(self._store.catalogue_path), stamp_of(self._store.status_path)
        if self._joined is None or None in stamp or self._joined[0] != stamp:
            self._joined = (
                stamp,
                {video.key: video for video in join_stages(self._rows.get(), self._status.get())},
            )
        return self._joined[1]

    def video(self, key: str) -> BrowsedVideo:
        """One video.

        Raises:
            MissingArtefactError: The store knows none of this key.
        """
        found = self.videos().get(key)
        if found is None:
            raise MissingArtefactError(
                f"The store knows no video {key[:64]!r}. Look for it in the catalogue."
            )
        return found

    def page(self, query: CatalogueQuery) -> CataloguePage:
        """One page of what is asked for."""
        videos = self.videos()
        found = [video for video in videos.values() if query.wants(video)]
        ordered = _sorted(found, query)
        pages = max(1, -(-len(ordered) // PAGE_ROWS))
        page = min(query.page, pages)
        return CataloguePage(
            videos=tuple(ordered[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]),
            found=len(found),
            total=len(videos),
            page=page,
            pages=pages,
        )

    def segmented(self, video: BrowsedVideo) -> tuple[StoredPrediction, ...]:
        """Predictions of a video's content, the latest first."""
        return self.predictions.of_content(video.content)

    def _read_status(self) -> list[StatusRow]:
        path = self._store.status_path
        return read_status(path) if path.exists() else []


def join_stages(rows: Sequence[CatalogueRow], status: Sequence[StatusRow]) -> list[BrowsedVideo]:
    """A video for every row of the catalogue and for every other that the status table names, by name."""
    stages: defaultdict[tuple[str, str], list[StatusRow]] = defaultdict(list)
    for part in status:
        if part.video:
            # A video is known by where it lies; a recording without one by its name.
            stages[part.path, "" if part.path else part.video].append(part)
    known: dict[tuple[str, str], CatalogueRow] = {(row.path, ""): row for row in rows}
    videos = []
    for place in dict.fromkeys([*known, *stages]):
        path, recording = place
        row = known.get(place)
        parts = stages.get(place, [])
        videos.append(
            BrowsedVideo(
                key=digest_of({"path": path, "recording": recording}),
                name=row.id if row is not None else parts[0].video,
                path=path,
                row=row,
                stages=_by_stage(parts),
            )
        )
    return sorted(videos, key=lambda video: (natural(video.name), video.path))


def _by_stage(parts: Sequence[StatusRow]) -> dict[str, StageState]:
    found: dict[str, StageState] = {}
    for stage in STAGES:
        these = [part for part in parts if part.stage == stage]
        if these:
            found[stage] = StageState(
                state=min((part.status for part in these), key=_WORST_FIRST.index),
                reasons=tuple(
                    f"{part.what}: {part.reason}" if part.what else part.reason
                    for part in these
                    if part.reason
                ),
            )
    return found


def _sorted(videos: Sequence[BrowsedVideo], query: CatalogueQuery) -> list[BrowsedVideo]:
    """In the order asked for; equal ones as they come, which is by name."""
    if query.sort == "name":
        return list(videos)[:: -1 if query.descending else 1]
    value = SORTS[query.sort]
    known = [video for video in videos if value(video) is not None]
    unknown = [video for video in videos if value(video) is None]
    return sorted(known, key=value, reverse=query.descending) + unknown


def playable_file(video: BrowsedVideo, *, store: Store) -> Path:
    """The file of a video, if it is the very content that the catalogue knows; resolved.

    Only such files can be had from the server: a file that was touched or replaced since it was probed, or a link
    that leads elsewhere now, is none of them.

    Raises:
        MissingArtefactError: The video is no such file.
    """
    if not video.path or not video.content or video.path != str(Path(video.path).absolute()):
        raise MissingArtefactError(f"{video.name}: is not a probed file of this machine.")
    try:
        path = Path(video.path).resolve(strict=True)
        same = path.is_file() and store.digests.remembered(path) == video.content
    except (OSError, RuntimeError) as error:
        raise MissingArtefactError(f"{video.path}: cannot be read ({error}). Restore the file.") from error
    if not same:
        raise MissingArtefactError(
            f"{video.path}: changed since it was probed. Run `factseg probe` on it with the same --store."
        )
    return path
