"""From a video's features to its segments, by a trained model."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.alignment import nearest_steps
from pipeline.catalogue import Video
from pipeline.dataset import StoredVideo, load_features
from pipeline.labels import ClassList
from pipeline.metrics import segment_bounds
from pipeline.model import TrainedModel
from storage.keys import digest_of
from storage.segments import Segment
from storage.store import Store

PREDICT_VERSION = 1
"""Version of the code between features and segments; part of every prediction's key."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FramePrediction:
    """Prediction for one video, per frame."""

    labels: NDArray[np.int64]
    """(N,) class ids."""
    confidence: NDArray[np.float32]
    """(N,) probability of the label, 0 to 1."""


def prediction_key(stored: StoredVideo, *, run: str) -> str:
    """Name of the predicted segments of one video by one run."""
    return digest_of(
        {"version": PREDICT_VERSION, "video": stored.video.id, "features": list(stored.keys), "run": run}
    )


def predict_frames(stored: StoredVideo, *, model: TrainedModel, store: Store) -> FramePrediction:
    """Labels and confidence of every frame of a video: those of the step nearest in time."""
    loaded = load_features(stored, sample_rate=model.description.sample_rate, store=store)
    steps = model.predict(loaded.features)
    owner = nearest_steps(stored.video.facts.frame_times, loaded.step_times)
    return FramePrediction(labels=steps.labels_T[owner], confidence=steps.confidence_T[owner])


def segments_of(prediction: FramePrediction, *, video: Video, classes: ClassList) -> list[Segment]:
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
