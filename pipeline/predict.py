"""From a video's features to its segments, by a trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.alignment import nearest_steps
from pipeline.catalogue import Video
from pipeline.dataset import StoredVideo, load_features
from pipeline.imported import Recording
from pipeline.labels import ClassList
from pipeline.metrics import segment_bounds
from pipeline.model import TrainedModel
from storage.keys import digest_of
from storage.segments import Segment
from storage.store import Store

PREDICT_VERSION = 2
"""Version of the code between features and segments; part of every prediction's key."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FramePrediction:
    """Prediction for one video, per frame."""

    labels: NDArray[np.int64]
    """(N,) class ids."""
    confidence: NDArray[np.float32]
    """(N,) probability of the label, 0 to 1."""


def prediction_key(
    stored: StoredVideo, *, run: str, labels: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Name of the predicted segments of one video by one run.

    Args:
        stored: The video's features.
        run: Key of the run.
        labels: Sentences by label, where labels other than the classes of training were asked for.
    """
    identity: dict[str, Any] = {
        "version": PREDICT_VERSION,
        "video": stored.video.id,
        "features": list(stored.keys),
        "run": run,
    }
    if labels is not None:
        identity["labels"] = [[label, *sentences] for label, sentences in labels.items()]
    return digest_of(identity)


def predict_frames(
    stored: StoredVideo, *, model: TrainedModel, store: Store, texts: NDArray[np.float32] | None = None
) -> FramePrediction:
    """Labels and confidence of every frame of a video: those of the step nearest in time.

    Args:
        stored: The video's features.
        model: What predicts.
        store: Where the features are.
        texts: As for ``TrainedModel.predict``.
    """
    described = model.description
    loaded = load_features(stored, sample_rate=described.sample_rate, store=store, pool=described.pool)
    steps = model.predict(loaded.features, texts=texts)
    owner = nearest_steps(stored.video.facts.frame_times, loaded.step_times)
    return FramePrediction(labels=steps.labels_T[owner], confidence=steps.confidence_T[owner])


def segments_of(
    prediction: FramePrediction, *, video: Video | Recording, classes: ClassList
) -> list[Segment]:
    """Runs of equal labels, with the mean confidence of their frames."""
    starts_and_ends = np.append(video.facts.frame_times, video.facts.duration)
    bounds = segment_bounds(prediction.labels).tolist()
    return [
        Segment(
            video=video.id,
            start_frame=start,
            end_frame=end,
            start_seconds=float(starts_and_ends[start]),
            end_seconds=float(starts_and_ends[end]),
            label=classes.names[prediction.labels[start]],
            score=float(prediction.confidence[start:end].mean()),
        )
        for start, end in pairwise(bounds)
    ]
