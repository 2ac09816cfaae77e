"""Features of many videos: what is stored is skipped, and one bad video harms no other."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from pipeline import progress
from pipeline.catalogue import Video, hand_to_pyav, note_decoder, note_reading, open_video
from pipeline.decode_rules import DecodeRules
from pipeline.device import choose_devices, videos_at_once
from pipeline.errors import DecoderError, PipelineError, TooShortError, VideoError, WeightsError
from pipeline.extract import extract_video, missing_features
from pipeline.extractors import ExtractorSet, load_extractors
from pipeline.flow_cache import FlowCache
from pipeline.inputs import resolve_extraction
from pipeline.listing import printable
from pipeline.outcome import VideoOutcome
from pipeline.settings import ExtractionSettings
from storage.errors import DiskFullError, StorageError
from storage.places import Address, cache_folder
from storage.store import Store

log = logging.getLogger(__name__)

_GIB = 2**30
_TASK_VIDEOS = 8
_STORED = "its features are stored"


class _StoppedError(Exception):
    """The run was stopped while this video was in the making."""


def extract_batch(
    paths: Sequence[Path], *, extraction: ExtractionSettings, store: Address
) -> list[VideoOutcome]:
    """Extract the features that some videos do not have yet.

    Videos are spread over the devices, and each device works on as many at once as there are workers.

    Args:
        paths: Video files.
        extraction: Profiles, weights, devices and workers.
        store: Where the store lies.

    Raises:
        WeightsError: Weights cannot be had, or do not fit; no video could be done.
        DiskFullError: There is no room for features; no other video could be done.
        KeyboardInterrupt: The run was stopped; no file is half-written and no thread is left.
    """
    opened, rules = Store(store), extraction.decode_rules
    sets = shared_extractors(extraction, store)
    counts = [_workers_on(one.device, extraction) for one in sets]
    # In turn, so that the first videos are spread over the devices.
    teams = [
        one for turn in range(max(counts)) for one, count in zip(sets, counts, strict=True) if turn < count
    ]
    if len(teams) == 1 or len(paths) == 1:
        return [_extract_one(path, teams[0], store=opened, rules=rules) for path in paths]
    return _spread(paths, teams, store=opened, rules=rules)


def plan_batch(
    paths: Sequence[Path], *, extraction: ExtractionSettings, store: Address
) -> list[VideoOutcome]:
    """What ``extract_batch`` would do: videos are probed, no feature is made and no network is built."""
    (extractors, *_) = shared_extractors(extraction, store)
    plan = partial(_plan, extractors=extractors, store=Store(store), rules=extraction.decode_rules)
    return [_attempt(path, plan) for path in paths]


def videos_per_task(extraction: ExtractionSettings) -> int:
    """How many videos ``extract_batch`` is to be given at a time.

    A task ends when its last video does, with workers idle by then: several videos for each keep that short.

    Raises:
        SettingsError: A device is not here.
    """
    if extraction.batch_videos is not None:
        return extraction.batch_videos
    if extraction.cluster is not None:
        # Other machines, with devices of their own, and small enough to be spread over them.
        return _TASK_VIDEOS
    devices = choose_devices(extraction.device)
    return max(_TASK_VIDEOS, 4 * sum(_workers_on(device, extraction) for device in devices))


def _workers_on(device: torch.device, extraction: ExtractionSettings) -> int:
    return extraction.workers or videos_at_once(device)


@lru_cache(maxsize=1)
def shared_extractors(extraction: ExtractionSettings, store: Address) -> tuple[ExtractorSet, ...]:
    """Extractors by device, once per process: batches of one run share the networks."""
    weights = resolve_extraction(extraction, store=Store(store))
    devices = choose_devices(extraction.device)
    cache = _flow_cache(extraction)
    return tuple(
        load_extractors(extraction.profiles, weights, device=device, flow_cache=cache) for device in devices
    )


def _flow_cache(extraction: ExtractionSettings) -> FlowCache | None:
    if not extraction.flow_cache:
        return None
    return FlowCache(cache_folder() / "optical-flow", max_bytes=int(extraction.flow_cache * _GIB))


def _spread(
    paths: Sequence[Path], teams: Sequence[ExtractorSet], *, store: Store, rules: DecodeRules
) -> list[VideoOutcome]:
    free: queue.SimpleQueue[ExtractorSet] = queue.SimpleQueue()
    for team in teams:
        free.put(team)
    stop = threading.Event()

    def work(path: Path, context: Context) -> VideoOutcome:
        team = free.get()
        try:
            return context.run(_extract_one, path, team, store=store, rules=rules, stop=stop)
        finally:
            free.put(team)

    # Logs and progress of a thread belong to the run of whoever called; a context is for one thread at a time.
    contexts = [copy_context() for _ in paths]
    pool = ThreadPoolExecutor(len(teams), thread_name_prefix="extract")
    try:
        return list(pool.map(work, paths, contexts))
    finally:
        # Only where this is left early is anything still running or waiting.
        stop.set()
        pool.shutdown(cancel_futures=True)


def _extract_one(
    path: Path,
    extractors: ExtractorSet,
    *,
    store: Store,
    rules: DecodeRules,
    stop: threading.Event | None = None,
) -> VideoOutcome:
    return _attempt(path, partial(_extract, extractors=extractors, store=store, rules=rules, stop=stop))


def _attempt(path: Path, work: Callable[[Path], VideoOutcome]) -> VideoOutcome:
    started = time.perf_counter()
    outcome = _outcome(path, work)
    return replace(outcome, seconds=time.perf_counter() - started)


def _outcome(path: Path, work: Callable[[Path], VideoOutcome]) -> VideoOutcome:
    try:
        return work(path)
    except (DiskFullError, WeightsError):
        # It says nothing about this video: the next one would find no room, and no fitting network, either.
        raise
    except (PipelineError, StorageError) as error:
        reason = str(error)
    except OSError as error:
        reason = (
            f"{printable(path)}: {error.strerror or error}. Check the disk, then run the same command again."
        )
    return VideoOutcome(
        video=printable(path.stem), status="failed", reason=reason, path=printable(path.absolute())
    )


def _extract(
    path: Path,
    *,
    extractors: ExtractorSet,
    store: Store,
    rules: DecodeRules,
    stop: threading.Event | None,
) -> VideoOutcome:
    video = open_video(path, store=store, rules=rules)
    where = printable(path.absolute())
    if not missing_features(video.facts, video.video_hash, extractors, store=store):
        return VideoOutcome(video=video.id, status="skipped", reason=_STORED, path=where)
    make = partial(_make_features, extractors=extractors, store=store, rules=rules, stop=stop)
    try:
        video = _with_either_decoder(video, make, store=store)
    except TooShortError:
        raise
    except VideoError as error:
        note_reading(video, store=store, error=error)
        raise
    note_reading(video, store=store)
    return VideoOutcome(video=video.id, status="done", path=where)


def _with_either_decoder(video: Video, make: Callable[[Video], None], *, store: Store) -> Video:
    """Make the features of a video, with PyAV where decord goes wrong; the video as it was read."""
    try:
        make(video)
    except DecoderError as error:
        if video.facts.decoder != "decord":
            raise
        log.warning("%s: PyAV decodes it, because %s.", video.path, error.reason)
        video = hand_to_pyav(video)
        make(video)
        note_decoder(video, store=store)
    return video


def _make_features(
    video: Video,
    *,
    extractors: ExtractorSet,
    store: Store,
    rules: DecodeRules,
    stop: threading.Event | None,
) -> None:
    heard = _Pace(f"extract {video.path.name}", stop=stop)
    extract_video(
        video.path, video.facts, video.video_hash, extractors, store=store, rules=rules, progress=heard
    )


def _plan(path: Path, *, extractors: ExtractorSet, store: Store, rules: DecodeRules) -> VideoOutcome:
    video = open_video(path, store=store, rules=rules)
    wanted = [
        one.profile.spec
        for one in extractors
        if missing_features(video.facts, video.video_hash, [one], store=store)
    ]
    reason = f"would make {', '.join(wanted)} from {video.facts.num_frames} frames" if wanted else _STORED
    return VideoOutcome(video=video.id, status="skipped", reason=reason, path=printable(path.absolute()))


class _Pace:
    """Tells the listeners how far a video is, and how fast; stops the work where the run was stopped."""

    def __init__(self, work: str, *, stop: threading.Event | None) -> None:
        self._work = work
        self._stop = stop
        self._start: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._stop is not None and self._stop.is_set():
            raise _StoppedError
        now = time.monotonic()
        # From the first report on: building networks, and what an earlier run did, are no part of the pace.
        since, before = self._start = self._start or (now, done)
        note = f"{(done - before) / (now - since):.1f} frames/s" if now > since and done > before else ""
        progress.report(self._work, done=done, total=total, unit="frames", note=note)
