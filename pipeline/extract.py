"""One pass over a video feeds every extractor whose features are not stored yet."""

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.extractors import Extractor
from pipeline.probe import VideoFacts
from pipeline.profiles import Profile
from pipeline.steps import FrameBatch, step_stream
from pipeline.video import read_frames
from storage.atomic import artefact_lock
from storage.errors import CorruptArtefactError
from storage.features import FeatureMetadata, read_feature_metadata, write_features
from storage.keys import digest_of
from storage.store import Store

log = logging.getLogger(__name__)

EXTRACT_VERSION = 1
"""Version of the code between a picture and a stored row; raise it when the same input gives other bytes."""

Progress = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""

_BATCH_BYTES = 96 << 20
_MAX_BATCH_FRAMES = 32


@dataclass(frozen=True, slots=True)
class _Artefact:
    """A feature file that ought to exist."""

    extractor: Extractor
    identity: dict[str, Any]
    path: Path

    def is_stored(self) -> bool:
        """Whether the file is there and opens."""
        if not self.path.exists():
            return False
        try:
            read_feature_metadata(self.path)
        except CorruptArtefactError:
            return False
        return True


def feature_identity(
    profile: Profile, *, weights_digest: str, video_hash: str, decoder: str
) -> dict[str, Any]:
    """Everything that can change a byte of a feature file; its ``digest_of`` is the file's key."""
    return {
        "stage": "extract",
        "version": EXTRACT_VERSION,
        "video": video_hash,
        "profile": profile.identity(),
        "weights": weights_digest,
        "decoder": decoder,
    }


def missing_features(
    facts: VideoFacts, video_hash: str, extractors: Iterable[Extractor], *, store: Store
) -> list[Path]:
    """Feature files of a video that are not there or do not open, by extractor; nothing is built or decoded."""
    artefacts = _artefacts(facts, video_hash, extractors, store=store)
    return [artefact.path for artefact in artefacts if not artefact.is_stored()]


def extract_video(
    path: Path,
    facts: VideoFacts,
    video_hash: str,
    extractors: Iterable[Extractor],
    *,
    store: Store,
    progress: Progress | None = None,
) -> list[Path]:
    """Feature files of a video, one per extractor, in their order; what is stored already is not made again.

    The video is decoded once for all missing files, or not at all. Files appear whole or not at all, and of
    two processes that want the same file one makes it.

    Args:
        path: The video.
        facts: What probing found.
        video_hash: SHA-256 of its content.
        extractors: As ``load_extractors`` gives them.
        store: Where features are kept.
        progress: Called after each batch of frames.

    Raises:
        CorruptVideoError: Not all of its frames can be decoded; nothing is stored.
        VideoError: It cannot be read.
        WeightsError: Weights cannot be loaded.
    """
    artefacts = _artefacts(facts, video_hash, extractors, store=store)
    missing = {artefact.path: artefact for artefact in artefacts if not artefact.is_stored()}
    with ExitStack() as locks:
        # In one order everywhere, so that two processes never wait for each other.
        for target in sorted(missing):
            locks.enter_context(artefact_lock(target))
        still_missing = [missing[target] for target in sorted(missing) if not missing[target].is_stored()]
        for artefact in still_missing:
            if artefact.path.exists():
                log.warning("%s: %s does not open; it is made anew.", path, artefact.path)
        if still_missing:
            _extract(path, facts, video_hash, still_missing, progress=progress)
    return [artefact.path for artefact in artefacts]


def _artefacts(
    facts: VideoFacts, video_hash: str, extractors: Iterable[Extractor], *, store: Store
) -> list[_Artefact]:
    artefacts = []
    for extractor in extractors:
        identity = feature_identity(
            extractor.profile,
            weights_digest=extractor.weights_digest,
            video_hash=video_hash,
            decoder=facts.decoder,
        )
        target = store.feature_path(extractor.profile.name, digest_of(identity))
        artefacts.append(_Artefact(extractor, identity, target))
    return artefacts


@torch.inference_mode()
def _extract(
    path: Path,
    facts: VideoFacts,
    video_hash: str,
    artefacts: list[_Artefact],
    *,
    progress: Progress | None,
) -> None:
    frame_bytes = facts.width * facts.height * 3
    batch_frames = max(1, min(_MAX_BATCH_FRAMES, _BATCH_BYTES // frame_bytes))
    device = artefacts[0].extractor.networks.device
    with ExitStack() as files:
        streams = []
        for artefact in artefacts:
            metadata = _metadata(artefact, facts, video_hash)
            width = artefact.extractor.profile.width
            writer = files.enter_context(write_features(artefact.path, width=width, metadata=metadata))
            streams.append(
                step_stream(artefact.extractor, frame_times=facts.frame_times, append=writer.append)
            )
        for indices, frames in read_frames(path, facts, batch_frames=batch_frames):
            batch = FrameBatch(int(indices[0]), frames, device=device)
            for stream in streams:
                stream.push(batch)
            if progress is not None:
                progress(int(indices[-1]) + 1, facts.num_frames)
        for stream in streams:
            stream.finish()


def _metadata(artefact: _Artefact, facts: VideoFacts, video_hash: str) -> FeatureMetadata:
    extractor = artefact.extractor
    profile = extractor.profile
    identity = dict(artefact.identity)
    if profile.clip_model is not None:
        # Not part of the key, because both follow from the weights; here for whoever compares with texts.
        encoder = extractor.networks.clip(profile.networks[0])
        preprocessing = asdict(encoder.preprocessing)
        identity["recorded"] = {"logit_scale": encoder.logit_scale, "preprocessing": preprocessing}
    return FeatureMetadata(
        profile=profile.name,
        identity=identity,
        weights_digest=extractor.weights_digest,
        random_weights=extractor.random_weights,
        video_hash=video_hash,
        decoder=facts.decoder,
        fps=facts.fps,
        num_frames=facts.num_frames,
        window_frames=profile.window_frames,
        stride_frames=profile.stride_frames,
    )
