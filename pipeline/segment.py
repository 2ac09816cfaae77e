"""New videos: features, then segments by a trained model. No labels are asked for."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pipeline.dataset import StoredVideo, find_stored
from pipeline.decode_rules import DecodeRules
from pipeline.device import choose_device, videos_at_once
from pipeline.errors import PipelineError, VideoError
from pipeline.extract_batch import extract_batch
from pipeline.inputs import (
    ModelInput,
    check_weights,
    extraction_for_model,
    inputs_of_model,
    inputs_of_settings,
)
from pipeline.labels import ClassList
from pipeline.listing import printable
from pipeline.model import TrainedModel, load_model, read_description
from pipeline.open_labels import OpenLabels, embed_labels
from pipeline.outcome import Status, VideoOutcome, failures
from pipeline.predict import predict_frames, prediction_key, segments_of
from pipeline.settings import ExtractionSettings, SegmentSettings
from storage.atomic import artefact_lock
from storage.errors import CorruptArtefactError, MissingArtefactError, StorageError
from storage.places import Place
from storage.registry import Registry
from storage.runs import find_run
from storage.segments import read_segments, write_segments
from storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedVideo:
    """What became of one new video."""

    outcome: VideoOutcome
    path: str
    """The video file."""
    prediction: str
    """Key of the segments in the store; empty where it failed."""


def choose_run(settings: SegmentSettings) -> str:
    """Key of the run that segments: the one asked for, else the champion.

    Raises:
        MissingArtefactError: There is none.
    """
    store = Store(settings.store, must_exist=True)
    return find_run(store, settings.run) if settings.run else Registry(store).champion(settings.model).run


def segment_batch(paths: Sequence[Path], *, settings: SegmentSettings, run: str) -> list[SegmentedVideo]:
    """Segment some videos by one run; a video that fails harms no other.

    Features that the store lacks are extracted with the very weights the model was trained on.
    """
    extracted = _extract_together(paths, settings=settings, run=run)
    return [_timed(path, settings=settings, run=run, extracted=extracted.get(path)) for path in paths]


def _extract_together(
    paths: Sequence[Path], *, settings: SegmentSettings, run: str
) -> Mapping[Path, VideoOutcome]:
    """What became of videos without features where a device works on several at once; elsewhere each has its turn."""
    try:
        if videos_at_once(choose_device(settings.device)) == 1:
            return {}
        missing = [path for path in paths if _lacks_features(path, settings=settings, run=run)]
        if not missing:
            return {}
        outcomes = extract_batch(missing, extraction=_extraction(settings, run), store=settings.store)
    except (PipelineError, StorageError, OSError):
        # No video's own fault: each says it when its turn comes.
        return {}
    return dict(zip(missing, outcomes, strict=True))


def _lacks_features(path: Path, *, settings: SegmentSettings, run: str) -> bool:
    try:
        _stored(path, settings=settings, run=run)
    except (MissingArtefactError, CorruptArtefactError):
        return True
    except (PipelineError, StorageError, OSError):
        return False
    return False


def _timed(
    path: Path, *, settings: SegmentSettings, run: str, extracted: VideoOutcome | None
) -> SegmentedVideo:
    if extracted is not None and extracted.status == "failed":
        return SegmentedVideo(outcome=extracted, path=printable(path), prediction="")
    started = time.perf_counter()
    made = _segment_one(path, settings=settings, run=run)
    seconds = time.perf_counter() - started + ((extracted and extracted.seconds) or 0)
    return replace(made, outcome=replace(made.outcome, seconds=seconds))


def _segment_one(path: Path, *, settings: SegmentSettings, run: str) -> SegmentedVideo:
    try:
        prediction, status = _predict(path, settings=settings, run=run)
    except PipelineError as error:
        return _failed(path, str(error))
    except StorageError as error:
        return _failed(path, str(error), may_pass=True)
    except OSError as error:
        return _failed(
            path,
            f"{printable(path)}: {error.strerror or error}. Check the disk, then run the same command again.",
            may_pass=True,
        )
    return SegmentedVideo(
        outcome=VideoOutcome(video=path.stem, status=status), path=str(path), prediction=prediction
    )


def _failed(path: Path, reason: str, *, may_pass: bool = False) -> SegmentedVideo:
    outcome = VideoOutcome(video=printable(path.stem), status="failed", reason=reason, may_pass=may_pass)
    return SegmentedVideo(outcome=outcome, path=printable(path), prediction="")


def _predict(path: Path, *, settings: SegmentSettings, run: str) -> tuple[str, Status]:
    """Key of the video's segments, and whether they were made now."""
    store = Store(settings.store)
    stored = _with_features(path, settings=settings, run=run)
    asked = _labels(settings, run) if settings.labels else None
    key = prediction_key(stored, run=run, labels=asked.sentences if asked else None)
    target = store.prediction_path(key)
    with artefact_lock(target):
        if target.exists():
            read_segments(target)
            return key, "skipped"
        model = _model(store.run_folder(run), settings.device)
        prediction = predict_frames(stored, model=model, store=store, texts=asked.vectors if asked else None)
        classes = ClassList(asked.names) if asked else model.description.classes
        segments = segments_of(prediction, video=stored.video, classes=classes)
        write_segments(
            target,
            segments,
            metadata={
                "run": run,
                "video": stored.video.video_hash,
                "notices": list(model.description.notices),
            },
        )
    return key, "done"


def _with_features(path: Path, *, settings: SegmentSettings, run: str) -> StoredVideo:
    """The video with the features the model wants, extracted now unless the store has them."""
    try:
        return _stored(path, settings=settings, run=run)
    except (MissingArtefactError, CorruptArtefactError):
        extraction = _extraction(settings, run)
    for outcome in failures(extract_batch([path], extraction=extraction, store=settings.store)):
        raise VideoError(outcome.reason)
    return _stored(path, settings=settings, run=run)


def _stored(path: Path, *, settings: SegmentSettings, run: str) -> StoredVideo:
    store = Store(settings.store)
    # Without a wish of the user's a damaged video that was extracted already is taken as it was extracted.
    rules = None if settings.on_corrupt == "fail" else DecodeRules(on_corrupt=settings.on_corrupt)
    return find_stored(path, inputs=_inputs(store.run_folder(run)), store=store, rules=rules)


def _extraction(settings: SegmentSettings, run: str) -> ExtractionSettings:
    """How a run's features are made, with its own weights."""
    store = Store(settings.store)
    extraction = extraction_for_model(
        read_description(store.run_folder(run)).inputs,
        ExtractionSettings(
            i3d_rgb=settings.i3d_rgb,
            i3d_flow=settings.i3d_flow,
            clip_pretrained=settings.clip_pretrained,
            device=settings.device,
            on_corrupt=settings.on_corrupt,
        ),
    )
    check_weights(_inputs(store.run_folder(run)), inputs_of_settings(extraction, store=store))
    return extraction


@lru_cache(maxsize=1)
def _model(folder: Place, device: str) -> TrainedModel:
    """Loaded once per process: batches of one run share it."""
    return load_model(folder, device=choose_device(device))


@lru_cache(maxsize=1)
def _labels(settings: SegmentSettings, run: str) -> OpenLabels:
    """Embedded once per run of the stage."""
    store = Store(settings.store)
    return embed_labels(read_description(store.run_folder(run)), settings=settings, store=store)


@lru_cache(maxsize=1)
def _inputs(folder: Place) -> tuple[ModelInput, ...]:
    return inputs_of_model(read_description(folder).inputs)
