"""Features of many videos: what is stored is skipped, and one bad video harms no other."""

import logging
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from pipeline import progress
from pipeline.catalogue import open_video
from pipeline.device import choose_device
from pipeline.errors import PipelineError
from pipeline.extract import extract_video, missing_features
from pipeline.extractors import ExtractorSet, load_extractors
from pipeline.inputs import resolve_extraction
from pipeline.listing import printable
from pipeline.outcome import VideoOutcome
from pipeline.settings import ExtractionSettings
from storage.errors import StorageError
from storage.store import Store

log = logging.getLogger(__name__)


def extract_batch(
    paths: Sequence[Path], *, extraction: ExtractionSettings, store: Path
) -> list[VideoOutcome]:
    """Extract the features that some videos do not have yet.

    Args:
        paths: Video files.
        extraction: Profiles, weights and device.
        store: Folder of the store.

    Raises:
        WeightsError: Weights cannot be had; no video could be done.
    """
    opened = Store(store)
    extractors = _extractors(extraction, store)
    return [_extract_one(path, extractors, store=opened) for path in paths]


@lru_cache(maxsize=1)
def _extractors(extraction: ExtractionSettings, store: Path) -> ExtractorSet:
    """Built once per process: batches of one run share the networks."""
    weights = resolve_extraction(extraction, store=Store(store))
    return load_extractors(extraction.profiles, weights, device=choose_device(extraction.device))


def _extract_one(path: Path, extractors: ExtractorSet, *, store: Store) -> VideoOutcome:
    try:
        video = open_video(path, store=store)
        if not missing_features(video.facts, video.video_hash, extractors, store=store):
            return VideoOutcome(video=video.id, status="skipped", reason="its features are stored")
        extract_video(
            path, video.facts, video.video_hash, extractors, store=store, progress=partial(_report, path.name)
        )
    except (PipelineError, StorageError) as error:
        return VideoOutcome(video=printable(path.stem), status="failed", reason=str(error))
    except OSError as error:
        reason = f"{path}: {error.strerror or error}. Check the disk, then run the same command again."
        return VideoOutcome(video=printable(path.stem), status="failed", reason=reason)
    return VideoOutcome(video=video.id, status="done")


def _report(name: str, done: int, total: int) -> None:
    progress.report(f"extract {name}", done=done, total=total, unit="frames")
