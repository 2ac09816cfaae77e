"""One pass over a video feeds every extractor whose features are not stored yet."""

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.catalogue import check_unchanged
from pipeline.decode_rules import DecodeRules
from pipeline.errors import TooShortError, VideoError
from pipeline.extractors import Extractor
from pipeline.guard import read_guarded
from pipeline.overlap import ahead
from pipeline.probe import VideoFacts
from pipeline.profiles import Profile
from pipeline.sources import Sources
from pipeline.steps import StepStream, num_steps, step_stream
from storage.atomic import artefact_lock
from storage.errors import CorruptArtefactError
from storage.feature_parts import discard_parts
from storage.features import ROWS_PER_GROUP, FeatureMetadata, read_feature_metadata, write_features
from storage.keys import digest_of
from storage.places import Place
from storage.store import Store

log = logging.getLogger(__name__)

EXTRACT_VERSION = 3
"""Version of the code between a picture and a stored row; raise it when the same input gives other bytes."""

Progress = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""

_PART_STEPS = ROWS_PER_GROUP
"""Steps after which a killed run is taken up again; a multiple of every number of steps of one forward."""

_BATCH_BYTES = 96 << 20
_MAX_BATCH_FRAMES = 32
_INPUTS_AHEAD = 2  # batches of network input that wait


@dataclass(frozen=True, slots=True)
class _Artefact:
    """A feature file that ought to exist."""

    extractor: Extractor
    identity: dict[str, Any]
    path: Place

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
) -> list[Place]:
    """Feature files of a video that are not there or do not open, by extractor; nothing is built or decoded."""
    artefacts = _artefacts(facts, video_hash, extractors, store=store)
    return [artefact.path for artefact in artefacts if not artefact.is_stored()]


def feature_files(
    facts: VideoFacts, video_hash: str, extractors: Iterable[Extractor], *, store: Store
) -> list[Place]:
    """Where a video's features lie, or will lie, by extractor."""
    return [artefact.path for artefact in _artefacts(facts, video_hash, extractors, store=store)]


def extract_video(
    path: Path,
    facts: VideoFacts,
    video_hash: str,
    extractors: Iterable[Extractor],
    *,
    store: Store,
    rules: DecodeRules | None = None,
    progress: Progress | None = None,
) -> list[Place]:
    """Feature files of a video, one per extractor, in their order; what is stored already is not made again.

    The video is decoded once for all missing files, or not at all. Files appear whole or not at all, and of
    two processes that want the same file one makes it.

    Args:
        path: The video.
        facts: What probing found.
        video_hash: SHA-256 of its content.
        extractors: As ``load_extractors`` gives them.
        store: Where features are kept.
        rules: What decoding may cost.
        progress: Called after each batch of frames.

    Raises:
        CorruptVideoError: Not all of its frames can be decoded; nothing is stored.
        DecoderError: Its decoder went wrong; another one may read it.
        TooShortError: It is too short for a window.
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
                artefact.path.unlink()
        if still_missing:
            try:
                _extract(path, facts, video_hash, still_missing, store=store, rules=rules, progress=progress)
            except VideoError:
                # A run that was killed goes on after its last part; one that found the video bad never will.
                for artefact in still_missing:
                    discard_parts(artefact.path)
                # Pictures of another content than was probed look like damage to a decoder.
                check_unchanged(path, video_hash, store=store)
                raise
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
            decoder=facts.reading,
        )
        target = store.feature_path(extractor.profile.name, digest_of(identity))
        artefacts.append(_Artefact(extractor, identity, target))
    return artefacts


def _check_length(path: Path, facts: VideoFacts, artefacts: list[_Artefact]) -> None:
    """Refuse a video too short for a single step of a profile."""
    for profile in (artefact.extractor.profile for artefact in artefacts):
        if num_steps(profile, facts) == 0:
            raise TooShortError(
                f"{path}: its {facts.num_frames} frames are too few for a window of {profile.window_frames} frames "
                f"under edge={profile.edge} ({profile.name}). Use edge=clone or a shorter window, or leave it out."
            )


@torch.inference_mode()
def _extract(
    path: Path,
    facts: VideoFacts,
    video_hash: str,
    artefacts: list[_Artefact],
    *,
    store: Store,
    rules: DecodeRules | None,
    progress: Progress | None,
) -> None:
    _check_length(path, facts, artefacts)
    device = artefacts[0].extractor.networks.device
    with ExitStack() as files:
        streams: list[StepStream] = []
        wanted: list[tuple[Extractor, int]] = []
        for artefact in artefacts:
            metadata = _metadata(artefact, facts, video_hash)
            extractor = artefact.extractor
            width = extractor.profile.width
            writer = files.enter_context(
                write_features(artefact.path, width=width, metadata=metadata, part_steps=_PART_STEPS)
            )
            if writer.num_steps == num_steps(extractor.profile, facts):
                continue
            stream = step_stream(extractor, facts=facts, append=writer.append, done=writer.num_steps)
            streams.append(stream)
            wanted.append((extractor, stream.first_input))
        if streams:
            sources = files.enter_context(closing(Sources(wanted, facts=facts, device=device)))
            unchanged = partial(check_unchanged, path, video_hash, store=store)
            _pump(path, facts, sources, streams, unchanged=unchanged, rules=rules, progress=progress)


def _pump(
    path: Path,
    facts: VideoFacts,
    sources: Sources,
    streams: list[StepStream],
    *,
    unchanged: Callable[[], None],
    rules: DecodeRules | None,
    progress: Progress | None,
) -> None:
    """Decode in another process, make network input in a thread, and feed the networks in this one."""
    batch_frames = max(1, min(_MAX_BATCH_FRAMES, _BATCH_BYTES // (facts.width * facts.height * 3)))
    frames = range(sources.first_frame, facts.num_frames)
    # Decoded ahead already: a batch is to be used up before the next one is taken.
    inputs_ahead = sources.inputs(read_guarded(path, facts, frames, batch_frames, rules=rules))
    told = 0
    with ahead(inputs_ahead, depth=_INPUTS_AHEAD) as made:
        for done, inputs in made:
            # After these pictures were read and before any step is kept: a part outlives a killed run.
            unchanged()
            for stream in streams:
                stream.push(inputs)
            # What waited for the end of the video comes once more with the last frame.
            if progress is not None and done > told:
                told = done
                progress(done, facts.num_frames)
    for stream in streams:
        stream.finish()


def _metadata(artefact: _Artefact, facts: VideoFacts, video_hash: str) -> FeatureMetadata:
    extractor = artefact.extractor
    profile = extractor.profile
    identity = dict(artefact.identity)
    if profile.clip_model is not None:
        # Not part of the key, because both follow from the weights; here for whoever compares with texts.
        encoder = extractor.networks.clip(profile.networks[0], precision=profile.precision)
        preprocessing = asdict(encoder.preprocessing)
        identity["recorded"] = {"logit_scale": encoder.logit_scale, "preprocessing": preprocessing}
    return FeatureMetadata(
        profile=profile.name,
        identity=identity,
        weights_digest=extractor.weights_digest,
        random_weights=extractor.random_weights,
        video_hash=video_hash,
        decoder=facts.reading,
        fps=facts.fps,
        num_frames=facts.num_frames,
        window_frames=profile.window_frames,
        stride_frames=profile.stride_frames,
    )
