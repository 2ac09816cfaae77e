"""Watching a folder: new videos are segmented once they are complete, each exactly once, by the segment stage."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from flows.reports import StageReport
from flows.runner import EXPECTED_ERRORS
from pipeline.outcome import VideoOutcome
from pipeline.results import write_results
from pipeline.segment import choose_run
from pipeline.settings import SegmentSettings
from pipeline.settings_operations import WatchSettings
from pipeline.watching import Clock, FileState, Ledger, Noted, Settling, look
from storage.errors import StorageError
from storage.store import Store

log = logging.getLogger(__name__)

SegmentCaller = Callable[[SegmentSettings], StageReport]
"""Carries out the segment stage: as its Prefect flow, or directly."""


class Watcher:
    """Segments what appears in a folder. Every call of ``look_once`` is one look at it."""

    def __init__(self, settings: WatchSettings, *, call: SegmentCaller, clock: Clock) -> None:
        self._settings = settings
        self._call = call
        self._store = Store(settings.segment.store, must_exist=True)
        self._ledger = Ledger(self._store)
        self._settling = Settling(settle_seconds=settings.settle_seconds, clock=clock)
        # Without a model nothing could ever be done: said now, not at the first video.
        choose_run(settings.segment)

    def look_once(self) -> list[VideoOutcome]:
        """Segment the files that are complete and that nobody dealt with.

        What something else than the video prevents is tried again once the file has settled anew: a full disk, a
        server or a share that is gone, a model that cannot be read.

        Returns:
            What became of each file that was dealt with now.
        """
        complete = self._settling.complete(look(self._settings.folder, ledger=self._ledger))
        with ExitStack() as claims:
            ours = {
                path: state
                for path, state in complete.items()
                if claims.enter_context(self._ledger.claim(state))
            }
            outcomes: list[VideoOutcome] = []
            paths = list(ours)
            size = self._settings.segment.batch_videos
            for start in range(0, len(paths), size):
                outcomes += self._deal_with({path: ours[path] for path in paths[start : start + size]})
        return outcomes

    def _deal_with(self, files: Mapping[Path, FileState]) -> Sequence[VideoOutcome]:
        settings = self._settings.segment.model_copy(update={"videos": tuple(files)})
        try:
            report = self._call(settings)
        except EXPECTED_ERRORS as error:
            log.warning("%s", error)
        except Exception:
            # Whoever watches for weeks outlives what nobody thought of, too.
            log.exception("Segmenting %d videos broke; they are tried again", len(files))
        else:
            return self._note_all(files, report)
        for state in files.values():
            self._settling.forget(state)
        return []

    def _note_all(self, files: Mapping[Path, FileState], report: StageReport) -> list[VideoOutcome]:
        made = {str(video["path"]): video for video in report.facts["videos"]}
        outcomes = []
        for (path, state), outcome in zip(files.items(), report.outcomes, strict=True):
            try:
                self._note(path, state, outcome, made.get(str(path)))
            except (StorageError, OSError) as error:
                outcomes.append(replace(outcome, status="failed", reason=str(error), may_pass=True))
                self._leave_for_later(path, state, outcomes[-1])
            else:
                outcomes.append(outcome)
        return outcomes

    def _note(
        self, path: Path, state: FileState, outcome: VideoOutcome, made: Mapping[str, Any] | None
    ) -> None:
        if made is None:
            if outcome.may_pass:
                self._leave_for_later(path, state, outcome)
                return
            _say_failed(path, outcome)
            self._ledger.note(Noted(file=state, status="failed", reason=outcome.reason))
            return
        written = write_results(
            path, prediction=str(made["prediction"]), store=self._store, folder=self._settings.out
        )
        log.info("%s is segmented: %s", path, ", ".join(file.name for file in written))
        self._ledger.note(Noted(file=state, status="done", results=tuple(map(str, written))))

    def _leave_for_later(self, path: Path, state: FileState, outcome: VideoOutcome) -> None:
        _say_failed(path, outcome)
        self._settling.forget(state)


def _say_failed(path: Path, outcome: VideoOutcome) -> None:
    log.error(outcome.reason if str(path) in outcome.reason else f"{path}: {outcome.reason}")


def watch(
    settings: WatchSettings, *, call: SegmentCaller, clock: Clock, looks: int | None = None
) -> list[VideoOutcome]:
    """Look at a folder again and again until interrupted.

    Args:
        settings: Which folder, and how its videos are segmented.
        call: Carries out the segment stage.
        clock: Time.
        looks: How many looks; without end unless given.

    Returns:
        What became of each file; nothing where the looks have no end, since nobody would ever get it.

    Raises:
        MissingArtefactError: The store has no model.
        DatasetError: The folder is missing at the first look; one that is gone later may come back.
    """
    watcher = Watcher(settings, call=call, clock=clock)
    outcomes: list[VideoOutcome] = []
    for turn in count() if looks is None else range(looks):
        if turn:
            clock.sleep(settings.poll_seconds)
        try:
            made = watcher.look_once()
        except (*EXPECTED_ERRORS, OSError) as error:
            if not turn:
                raise
            log.warning("%s", error)
        else:
            outcomes += made if looks is not None else []
    return outcomes
