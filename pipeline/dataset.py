"""Features and labels of a split brought together, video by video; one bad video harms no other.

``survey_part`` looks at what there is without reading a feature, so that a run which has nothing to do finds
out quickly; ``load_labelled`` reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.alignment import join_by_time, step_labels, thin_out
from pipeline.catalogue import Video, open_address, videos_by_id
from pipeline.decode_rules import DecodeRules
from pipeline.errors import DatasetError, PipelineError
from pipeline.imported import Recording, RowFacts
from pipeline.input_rules import Pool
from pipeline.inputs import ModelInput, feature_key
from pipeline.label_segments import labels_of_segments
from pipeline.labels import ClassList, Split, fit_labels, read_labels, read_mapping, read_split
from pipeline.metrics import segment_bounds
from pipeline.outcome import VideoOutcome
from pipeline.remote_videos import DEFAULT_CACHE_GIB, VideoAddress, path_in, without_query
from pipeline.settings import DatasetSettings
from storage.datasets import StoredDataset, read_dataset
from storage.errors import MissingArtefactError, StorageError
from storage.feature_cache import read_mapped_features
from storage.features import read_feature_metadata, read_features
from storage.segments import read_segments
from storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredVideo:
    """A video, or a recording without one, whose features are in the store."""

    video: Video | Recording
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
    """SHA-256 of the label file, or the key of imported labels."""
    num_classes: int
    note: str
    """What was cut to make the labels fit, or an empty string."""
    dropped: tuple[int, ...] = ()
    """Ids of classes whose frames and steps are dropped: those held out of training."""

    @property
    def video(self) -> Video | Recording:
        """The video."""
        return self.stored.video

    @property
    def num_segments(self) -> int:
        """Runs of equal labels, dropped frames left out."""
        return len(segment_bounds(self.labels[self.kept])) - 1

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(n,) False where the frame's class is dropped."""
        return ~np.isin(self.labels, self.dropped)


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


def find_stored(
    address: VideoAddress,
    *,
    inputs: Sequence[ModelInput],
    store: Store,
    cache_gib: float = DEFAULT_CACHE_GIB,
    rules: DecodeRules | None = None,
) -> StoredVideo:
    """The features of a video in the store.

    Args:
        address: A file, or a URL, which is fetched only where the store does not know its content.
        inputs: Profiles with the weights behind them.
        store: Where features lie.
        cache_gib: GiB that fetched videos may take.
        rules: What becomes of a damaged file; without them it is taken as it was extracted.

    Raises:
        VideoError: The video cannot be read.
        MissingArtefactError: Features are missing; the message says how to make them.
        CorruptArtefactError: A feature file is damaged.
    """
    video = open_address(address, store=store, cache_gib=cache_gib, rules=rules)
    keys = tuple(feature_key(item, video) for item in inputs)
    for item, key in zip(inputs, keys, strict=True):
        target = store.feature_path(item.profile.name, key)
        if not target.is_file():
            raise MissingArtefactError(
                f"{without_query(str(address))}: {store.root} has no {item.profile.spec} features of this video by "
                "these weights. Run `factseg extract` with the same options first."
            )
        read_feature_metadata(target)
    return StoredVideo(video=video, inputs=tuple(inputs), keys=keys)


def stored_recording(video_id: str, dataset: StoredDataset, *, inputs: Sequence[ModelInput]) -> StoredVideo:
    """The features of an imported recording; it must be in the data set."""
    recording = dataset.recordings[video_id]
    facts = RowFacts.of(recording.num_frames, fps=dataset.fps)
    video = Recording(id=video_id, video_hash=recording.content, facts=facts)
    return StoredVideo(video=video, inputs=tuple(inputs), keys=(recording.features,))


def load_features(
    stored: StoredVideo, *, sample_rate: int, store: Store, pool: Pool = "none", mapped: bool = False
) -> VideoFeatures:
    """Read the features of all profiles, join them by time, and keep every ``sample_rate``-th step.

    Args:
        stored: The video's features.
        sample_rate: Steps of which one is kept.
        store: Where they are.
        pool: What a kept step stands for, see ``thin_out``.
        mapped: Read through the mapped cache beside the feature files: for who reads them again and again.
    """
    paths = [
        store.feature_path(item.profile.name, key)
        for item, key in zip(stored.inputs, stored.keys, strict=True)
    ]
    if mapped:
        read = [read_mapped_features(path, read_only=store.read_only) for path in paths]
    else:
        read = [read_features(path) for path in paths]
    times, features = join_by_time([part.time for part in read], [part.feature for part in read])
    kept, rows = thin_out(times, features, every=sample_rate, pool=pool)
    return VideoFeatures(step_times=kept, features=rows)


def dataset_classes(dataset: DatasetSettings, *, store: Store) -> ClassList:
    """The classes of a data set, imported or in files.

    Raises:
        LabelError: The mapping cannot be read.
        MissingArtefactError: No such data set was imported.
    """
    if dataset.imported:
        return ClassList(read_dataset(store, dataset.imported).classes)
    return read_mapping(dataset.place("mapping"))


def dataset_split(dataset: DatasetSettings, *, store: Store) -> Split:
    """The chosen split of a data set, imported or in files.

    Raises:
        LabelError: A bundle cannot be used.
        DatasetError: The imported data set has no such split.
        MissingArtefactError: No such data set was imported.
    """
    if dataset.splits is not None:
        return read_split(dataset.splits, dataset.split)
    splits = read_dataset(store, dataset.imported).splits
    if dataset.split not in splits:
        known = ", ".join(splits) or "none"
        raise DatasetError(
            f"The imported data set {dataset.imported!r} has no split {dataset.split!r} (it has: {known}). "
            "Give one of them with --split, or a folder of bundles with --splits."
        )
    split = splits[dataset.split]
    return Split(name=dataset.split, train=split.train, test=split.test)


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
    survey = _imported_survey if dataset.has_features else _video_survey
    look = survey(dataset, inputs=inputs, classes=classes, store=store)
    sources: list[LabelledSource] = []
    outcomes: list[VideoOutcome] = []
    for video_id in video_ids:
        try:
            sources.append(look(video_id))
            outcomes.append(VideoOutcome(video=video_id, status="done"))
        except (PipelineError, StorageError) as error:
            outcomes.append(VideoOutcome(video=video_id, status="failed", reason=str(error)))
    return Survey(sources=tuple(sources), outcomes=tuple(outcomes))


def load_samples(
    sources: Sequence[LabelledSource], *, every: int, store: Store, pool: Pool = "none", mapped: bool = False
) -> list[tuple[VideoFeatures, NDArray[np.int64]]]:
    """Features and majority labels (T,) of every ``every``-th step, source by source; nothing is standardised.

    ``pool`` and ``mapped`` as for ``load_features``.

    Raises:
        DatasetError: All steps of a video have a class that is dropped.
    """
    return [_load_sample(source, every=every, store=store, pool=pool, mapped=mapped) for source in sources]


def _load_sample(
    source: LabelledSource, *, every: int, store: Store, pool: Pool, mapped: bool
) -> tuple[VideoFeatures, NDArray[np.int64]]:
    loaded = load_features(source.stored, sample_rate=every, store=store, pool=pool, mapped=mapped)
    labels_T = labels_by_step(source, loaded)
    if not source.dropped:
        return loaded, labels_T
    kept_T = ~np.isin(labels_T, source.dropped)
    if not kept_T.any():
        raise DatasetError(
            f"{source.video.id}: by majority each of its {len(labels_T)} steps has a class that is held out of "
            "training. Remove the video from the split, or take features of a smaller stride."
        )
    seen = VideoFeatures(step_times=loaded.step_times[kept_T], features=loaded.features[kept_T])
    return seen, labels_T[kept_T]


def labels_by_step(source: LabelledSource, loaded: VideoFeatures) -> NDArray[np.int64]:
    """(T,) majority label of each step."""
    return step_labels(
        source.labels,
        frame_times=source.video.facts.frame_times[: len(source.labels)],
        step_times=loaded.step_times,
        num_classes=source.num_classes,
    )


def _video_survey(
    dataset: DatasetSettings, *, inputs: Sequence[ModelInput], classes: ClassList, store: Store
) -> Callable[[str], LabelledSource]:
    """How one video of a folder is looked at."""
    folder = dataset.video_source
    by_id = videos_by_id(folder)
    labels_of = label_reader(dataset, classes=classes, store=store)

    def look(video_id: str) -> LabelledSource:
        address = by_id.get(video_id)
        if address is None:
            raise DatasetError(
                f"{dataset.splits or dataset.imported}: split {dataset.split!r} names video {video_id!r}, which is "
                f"not in {folder}. Add the video, or remove the line from the split."
            )
        labels = labels_of(path_in(address))
        stored = find_stored(address, inputs=inputs, store=store, cache_gib=dataset.video_cache_gib)
        fitted = fit_labels(labels.ids, num_frames=stored.video.facts.num_frames, source=labels.source)
        return LabelledSource(
            stored=stored,
            labels=fitted.labels,
            label_digest=labels.digest,
            num_classes=len(classes),
            note=fitted.note,
        )

    return look


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameLabels:
    """Labels of one video, as they were given."""

    ids: NDArray[np.int64]
    """(N,) class ids."""
    digest: str
    """SHA-256 of the label file, or the key of imported labels."""
    source: str
    """Where they are, for messages."""


def label_reader(
    dataset: DatasetSettings, *, classes: ClassList, store: Store
) -> Callable[[Path], FrameLabels]:
    """How the labels of a video are read: from its file, or as they were imported."""
    if dataset.imported:
        found = read_dataset(store, dataset.imported)

        def imported(path: Path) -> FrameLabels:
            recording = found.recordings.get(path.stem)
            if recording is None:
                raise DatasetError(
                    f"{path}: no labels of this video were imported into data set {found.name!r}. "
                    "Import them, or remove the video from the split."
                )
            target = store.label_path(recording.labels)
            ids = labels_of_segments(read_segments(target)[0], classes=classes, source=str(target))
            return FrameLabels(ids=ids, digest=recording.labels, source=str(target))

        return imported
    folder = dataset.place("labels")

    def from_file(path: Path) -> FrameLabels:
        label_file = folder / f"{path.stem}.txt"
        if not label_file.is_file():
            raise DatasetError(
                f"{path}: there are no labels at {label_file}. Add the file, or remove the video from the split."
            )
        ids = read_labels(label_file, classes=classes)
        return FrameLabels(ids=ids, digest=store.digests.digest(label_file), source=str(label_file))

    return from_file


def _imported_survey(
    dataset: DatasetSettings, *, inputs: Sequence[ModelInput], classes: ClassList, store: Store
) -> Callable[[str], LabelledSource]:
    """How one recording of an imported data set is looked at."""
    found = read_dataset(store, dataset.imported)

    def look(video_id: str) -> LabelledSource:
        if video_id not in found.recordings:
            raise DatasetError(
                f"Split {dataset.split!r} names video {video_id!r}, which was not imported into data set "
                f"{found.name!r}. Import it again with features and labels of this video."
            )
        return _survey_recording(video_id, found, inputs=inputs, classes=classes, store=store)

    return look


def _survey_recording(
    video_id: str, found: StoredDataset, *, inputs: Sequence[ModelInput], classes: ClassList, store: Store
) -> LabelledSource:
    recording = found.recordings[video_id]
    for item in inputs:
        read_feature_metadata(store.feature_path(item.profile.name, recording.features))
    path = store.label_path(recording.labels)
    segments, _ = read_segments(path)
    return LabelledSource(
        stored=stored_recording(video_id, found, inputs=inputs),
        labels=labels_of_segments(segments, classes=classes, source=str(path)),
        label_digest=recording.labels,
        num_classes=len(classes),
        note=recording.note,
    )
