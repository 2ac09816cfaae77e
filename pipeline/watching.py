"""A watched folder: which files are complete, and which were dealt with already.

A file is complete when its size and date have not changed for a while; by a clock that nobody sets, so that
changing the machine's clock changes nothing. What became of a file is noted in the store, under a name made of
the file's place, size and date: a restart, or a second watcher on the same folder, does nothing twice, and a
file that was replaced is a new one.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pipeline.listing import list_videos, printable
from storage.atomic import artefact_lock
from storage.keys import digest_of
from storage.places import Place
from storage.sealed_json import write_sealed_json
from storage.store import Store


class Clock(Protocol):
    """Time that only moves forward."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class MonotonicClock:
    """The machine's monotonic clock, which setting the time of day does not move."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """What tells one version of a file from another without reading it."""

    path: str
    """Absolute."""
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What became of a file."""

    file: FileState
    status: str
    """``done`` or ``failed``."""
    reason: str = ""
    """Why it failed."""
    results: tuple[str, ...] = ()
    """Files that were written."""


class Settling:
    """Remembers since when each file has not changed."""

    def __init__(self, *, settle_seconds: float, clock: Clock) -> None:
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._since: dict[str, tuple[FileState, float]] = {}

    def complete(self, files: Mapping[Path, FileState]) -> dict[Path, FileState]:
        """Those of the files that have not changed for long enough; others are remembered for the next look."""
        now = self._clock.now()
        since: dict[str, tuple[FileState, float]] = {}
        for state in files.values():
            known = self._since.get(state.path)
            since[state.path] = known if known is not None and known[0] == state else (state, now)
        self._since = since
        return {
            path: state for path, state in files.items() if now - since[state.path][1] >= self._settle_seconds
        }

    def forget(self, state: FileState) -> None:
        """Let a file settle once more, so that it is not tried again at once."""
        self._since.pop(state.path, None)


class Ledger:
    """What became of the files of watched folders, kept in the store."""

    def __init__(self, store: Store) -> None:
        self._folder = store.root / "watched"

    def is_noted(self, state: FileState) -> bool:
        """Whether this version of the file was dealt with."""
        return self._path(state).exists()

    @contextmanager
    def claim(self, state: FileState) -> Iterator[bool]:
        """Whether the file is ours to deal with while the block runs; False where another watcher has it."""
        with ExitStack() as held:
            try:
                held.enter_context(artefact_lock(self._path(state), timeout_seconds=0))
            except TimeoutError:
                yield False
                return
            yield not self.is_noted(state)

    def note(self, noted: Noted) -> None:
        """Remember what became of a file."""
        write_sealed_json(self._path(noted.file), {"version": 1, **asdict(noted)})

    def _path(self, state: FileState) -> Place:
        return self._folder / f"{digest_of(asdict(state))}.json"


def look(folder: Path, *, ledger: Ledger) -> dict[Path, FileState]:
    """The files of a folder that may be videos and were not dealt with yet.

    Raises:
        DatasetError: The folder is missing or cannot be read.
    """
    found = {}
    for path in list_videos(folder, may_be_empty=True).videos:
        try:
            stat = path.stat()
        except FileNotFoundError:
            # Gone between the listing and the look: moved away by its owner.
            continue
        state = FileState(path=printable(path.absolute()), size_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
        if not ledger.is_noted(state):
            found[path] = state
    return found
