"""Features and labels of a split brought together, video by video; one bad video harms no other.

``survey_part`` looks at what there is without reading a feature, so that a run which has nothing to do finds
out quickly; ``load_labelled`` reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.alignment import join_by_time, step_labels
from pipeline.catalogue import Video, find_videos, open_video
from pipeline.errors import DatasetError, PipelineError
from pipeline.inputs import ModelInput, feature_key
from pipeline.labels import ClassList, fit_labels, read_labels
from pipeline.metrics import segment_bounds
from pipeline.outcome import VideoOutcome
from pipeline.settings import DatasetSettings
from storage.errors import MissingArtefactError, StorageError
from storage.features import read_feature_metadata, read_features
from storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredVideo:
    """A video whose features are in the store."""

    video: Video
    inputs: tuple[ModelInput, ...]
    keys: tuple[str, ...]
    """Key of each input's features."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledSource:
    """A video with features in the store and fitting labels."""

    stored: StoredVideo
    labels: NDArray[np.int64]
    """(n,) class ids of the first n video frames."""
    label_digest: str
    """SHA-256 of the label file."""
    num_classes: int
    note: str
    """What was cut to make the labels fit, or an empty string."""

    @property
    def video(self) -> Video:
        """The video."""
        return self.stored.video

    @property
    def num_segments(self) -> int:
        """Runs of equal labels."""
        return len(segment_bounds(self.labels)) - 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFeatures:
    """Joined features of one video."""

    step_times: NDArray[np.float64]
    """(T,) seconds."""
    features: NDArray[np.float32]
    """(T, D) rows of all profiles, joined by time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What one part of a split has to offer."""

    sources: tuple[LabelledSource, ...]
    """Videos that can be used, in the order of the split."""
    outcomes: tuple[VideoOutcome, ...]
    """What became of every video of the split."""


def find_stored(path: Path, *, inputs: Sequence[ModelInput], store: Store) -> StoredVideo:
    """The features of a video in the store.

    Raises:
        VideoError: The video cannot be read.
        MissingArtefactError: Features are missing; the message says how to make them.
        CorruptArtefactError: A feature file is damaged.
    """
    video = open_video(path, store=store)
    keys = tuple(feature_key(item, video) for item in inputs)
    for item, key in zip(inputs, keys, strict=True):
        target = store.feature_path(item.profile.name, key)
        if not target.is_file():
            raise MissingArtefactError(
                f"{path}: {store.root} has no {item.profile.spec} features of this video by these weights. "
                "Run `factseg extract` with the same options first."
            )
        read_feature_metadata(target)
    return StoredVideo(video=video, inputs=tuple(inputs), keys=keys)


def load_features(stored: StoredVideo, *, sample_rate: int, store: Store) -> VideoFeatures:
    """Read the features of all profiles, join them by time, and keep every ``sample_rate``-th step."""
    read = [
        read_features(store.feature_path(item.profile.name, key))
        for item, key in zip(stored.inputs, stored.keys, strict=True)
    ]
    times, features = join_by_time([part.time for part in read], [part.feature for part in read])
    return VideoFeatures(step_times=times[::sample_rate], features=features[::sample_rate])


def survey_part(
    video_ids: Sequence[str],
    *,
    dataset: DatasetSettings,
    inputs: Sequence[ModelInput],
    classes: ClassList,
    store: Store,
) -> Survey:
    """Look at every video of one part of a split.

    Raises:
        DatasetError: The folder of videos is missing or empty.
    """
    candidates = find_videos(dataset.videos)
    sources: list[LabelledSource] = []
    outcomes: list[VideoOutcome] = []
    for video_id in video_ids:
        try:
            path = candidates.by_id.get(video_id)
            if path is None:
                raise DatasetError(
                    f"{dataset.splits}: split {dataset.split!r} names video {video_id!r}, which is not in "
                    f"{dataset.videos}. Add the video, or remove the line from the split."
                )
            sources.append(_survey_video(path, dataset=dataset, inputs=inputs, classes=classes, store=store))
            outcomes.append(VideoOutcome(video=video_id, status="done"))
        except (PipelineError, StorageError) as error:
            outcomes.append(VideoOutcome(video=video_id, status="failed", reason=str(error)))
    return Survey(sources=tuple(sources), outcomes=tuple(outcomes))


def labels_by_step(source: LabelledSource, loaded: VideoFeatures) -> NDArray[np.int64]:
    """(T,) majority label of each step."""
    return step_labels(
        source.labels,
        frame_times=source.video.facts.frame_times[: len(source.labels)],
        step_times=loaded.step_times,
        num_classes=source.num_classes,
    )


def _survey_video(
    path: Path, *, dataset: DatasetSettings, inputs: Sequence[ModelInput], classes: ClassList, store: Store
) -> LabelledSource:
    label_file = dataset.labels / f"{path.stem}.txt"
    if not label_file.is_file():
        raise DatasetError(
            f"{path}: there are no labels at {label_file}. Add the file, or remove the video from the split."
        )
    labels = read_labels(label_file, classes=classes)
    stored = find_stored(path, inputs=inputs, store=store)
    fitted = fit_labels(labels, num_frames=stored.video.facts.num_frames, source=label_file)
    return LabelledSource(
        stored=stored,
        labels=fitted.labels,
        label_digest=store.digests.digest(label_file),
        num_classes=len(classes),
        note=fitted.note,
    )
