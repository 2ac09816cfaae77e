"""Videos wherever they lie: those named by URLs are fetched one by one, worked on, and may then make room again."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipeline.catalogue import known_video
from pipeline.errors import PipelineError, WeightsError
from pipeline.extract_batch import extract_batch, plan_batch
from pipeline.inputs import feature_key, inputs_of_settings
from pipeline.listing import printable
from pipeline.outcome import VideoOutcome
from pipeline.remote_videos import VideoAddress, local_video, name_of, origin, without_query
from pipeline.segment import SegmentedVideo, segment_batch
from pipeline.settings import ExtractionSettings, SegmentSettings
from storage.failures import Failure, forget_failure, write_failure
from storage.places import Address
from storage.store import Store

Made = TypeVar("Made")

FEATURES_STAGE = "features"
"""Stage under which failed extractions are remembered."""


def extract_anywhere(
    videos: Sequence[VideoAddress],
    *,
    extraction: ExtractionSettings,
    store: Address,
    cache_gib: float,
    dry_run: bool = False,
) -> list[VideoOutcome]:
    """Extract the features that some videos do not have yet; why some could not is remembered in the store.

    Args:
        videos: Files and URLs.
        extraction: Profiles, weights and device.
        store: Where the store lies.
        cache_gib: GiB that fetched videos may take.
        dry_run: Only say what would be done.

    Raises:
        WeightsError: Weights cannot be had, or do not fit; no video could be done.
    """

    def work(paths: Sequence[Path]) -> list[VideoOutcome]:
        if dry_run:
            return _placed(paths, plan_batch(paths, extraction=extraction, store=store))
        outcomes = extract_batch(paths, extraction=extraction, store=store)
        for path, outcome in zip(paths, outcomes, strict=True):
            _remember(path, outcome, extraction=extraction, store=Store(store))
        return _placed(paths, outcomes)

    return _for_each(videos, work, failed=_failed, cache_gib=cache_gib)


def segment_anywhere(
    videos: Sequence[VideoAddress], *, settings: SegmentSettings, run: str
) -> list[SegmentedVideo]:
    """``segment_batch`` for files and URLs."""

    def work(paths: Sequence[Path]) -> list[SegmentedVideo]:
        made = segment_batch(paths, settings=settings, run=run)
        return [replace(video, path=_shown(path)) for path, video in zip(paths, made, strict=True)]

    def failed(address: VideoAddress, reason: str) -> SegmentedVideo:
        outcome = _failed(address, reason)
        return SegmentedVideo(outcome=outcome, path=outcome.path, prediction="")

    return _for_each(videos, work, failed=failed, cache_gib=settings.video_cache_gib)


def _for_each(
    videos: Sequence[VideoAddress],
    work: Callable[[Sequence[Path]], list[Made]],
    *,
    failed: Callable[[VideoAddress, str], Made],
    cache_gib: float,
) -> list[Made]:
    """Work on all local videos together and on the others one by one; results in the order of ``videos``."""
    local = [video for video in videos if isinstance(video, Path)]
    done = iter(work(local) if local else [])
    made: list[Made] = []
    for video in videos:
        if isinstance(video, Path):
            made.append(next(done))
            continue
        try:
            with local_video(video, cache_gib=cache_gib) as path:
                made += work([path])
        except WeightsError:
            raise
        except PipelineError as error:
            made.append(failed(video, str(error)))
    return made


def _failed(address: VideoAddress, reason: str) -> VideoOutcome:
    return VideoOutcome(
        video=printable(Path(name_of(address)).stem),
        status="failed",
        reason=reason,
        path=printable(without_query(str(address))),
    )


def _placed(paths: Sequence[Path], outcomes: Sequence[VideoOutcome]) -> list[VideoOutcome]:
    """Outcomes that name where their videos are from, instead of the cache."""
    return [
        replace(outcome, path=printable(origin(path))) for path, outcome in zip(paths, outcomes, strict=True)
    ]


def _remember(path: Path, outcome: VideoOutcome, *, extraction: ExtractionSettings, store: Store) -> None:
    where = printable(origin(path))
    if outcome.status != "failed":
        forget_failure(store, stage=FEATURES_STAGE, path=where)
        return
    video = known_video(path, store=store, rules=extraction.decode_rules)
    if video is None:
        # It could not be probed: the catalogue says why.
        return
    keys = tuple(feature_key(item, video) for item in inputs_of_settings(extraction, store=store))
    write_failure(store, Failure(stage=FEATURES_STAGE, path=where, keys=keys, reason=outcome.reason))


def _shown(path: Path) -> str:
    found = origin(path)
    return found if found != str(path.absolute()) else printable(path)
