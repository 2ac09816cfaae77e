"""A data set in the MS-TCN layout into the store: features, labels, classes and splits, no video needed."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import progress
from pipeline.errors import DatasetError, LabelError, SettingsError
from pipeline.import_features import FeatureFile, Orientation, feature_shape, import_features, orient
from pipeline.imported import RowFacts
from pipeline.label_segments import segments_of_labels
from pipeline.labels import ClassList, fit_labels, read_labels, read_mapping, read_split
from pipeline.outcome import VideoOutcome
from storage.atomic import artefact_lock
from storage.datasets import StoredDataset, StoredRecording, StoredSplit, write_dataset
from storage.keys import digest_of
from storage.segments import write_segments
from storage.store import Store

LABEL_VERSION = 1
"""Version of the code between a label file and its stored segments; part of every key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MstcnFolder:
    """Where the parts of a data set lie."""

    root: Path
    features: Path
    labels: Path
    mapping: Path
    splits: Path

    @classmethod
    def at(cls, root: Path) -> "MstcnFolder":
        """The published layout under one folder."""
        return cls(
            root=root,
            features=root / "features",
            labels=root / "groundTruth",
            mapping=root / "mapping.txt",
            splits=root / "splits",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOutcome:
    """What an import ended with."""

    dataset: StoredDataset
    outcomes: tuple[VideoOutcome, ...]
    """What became of every video, then of every split that cannot be used."""
    notes: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """Figures by name."""
        recordings = self.dataset.recordings.values()
        return {
            "dataset": self.dataset.name,
            "videos": len(recordings),
            "steps": sum(recording.num_frames for recording in recordings),
            "width": self.dataset.width,
            "classes": len(self.dataset.classes),
            "splits": len(self.dataset.splits),
            **self.dataset.source,
        }


@dataclass(slots=True)
class _Work:
    """What is known so far."""

    features: dict[str, FeatureFile] = field(default_factory=dict)
    labels: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plain_name(folder: Path) -> str:
    """The folder's name as far as it can name a data set.

    >>> plain_name(Path("sets/GTEA (2015)"))
    'GTEA _2015'
    """
    return re.sub(r"[^\w .-]", "_", folder.resolve().name)[:100].strip("_ .-") or "dataset"


def check_rate(fps: float | None) -> None:
    """Refuse what is no rate.

    Raises:
        SettingsError: It is zero, negative or not finite.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise SettingsError(
            f"--fps {fps} is no rate. Give frames, or rows of features, per second, such as 15."
        )


def import_mstcn(
    folder: MstcnFolder,
    *,
    name: str,
    store: Store,
    fps: float | None = None,
    orientation: Orientation | None = None,
) -> ImportOutcome:
    """Features, labels, classes and splits of a folder, under one name. A bad file harms no other.

    Args:
        folder: Where they lie.
        name: Name of the data set in the store.
        store: The store.
        fps: Rows of features per second, where known; else times count rows.
        orientation: Which axis of the files is time, where they cannot tell.

    Raises:
        SettingsError: ``fps`` is no rate.
        LabelError: The mapping cannot be read.
        DatasetError: There is no feature file, or none that can be used.
    """
    check_rate(fps)
    classes = read_mapping(folder.mapping)
    work = _Work()
    _read_all_labels(folder, classes, work)
    _read_shapes(folder, orientation, work)
    recordings: dict[str, StoredRecording] = {}
    for done, video in enumerate(sorted(work.features), start=1):
        try:
            recordings[video] = _import_one(video, folder, classes=classes, work=work, fps=fps, store=store)
        except LabelError as error:
            work.failed[video] = str(error)
        progress.report("import", done=done, total=len(work.features), unit="videos")
    if not recordings:
        raise DatasetError(
            f"None of the {len(work.failed)} videos in {folder.root} can be used; the first: "
            f"{next(iter(work.failed.values()))}"
        )
    splits = read_splits(folder.splits, recordings, failed=work.failed, notes=work.notes)
    dataset = StoredDataset(
        name=name,
        classes=classes.names,
        recordings=recordings,
        splits=splits,
        width=next(work.features[video].width for video in recordings),
        fps=fps,
        source={
            "format": "mstcn",
            "orientation": "/".join(sorted({work.features[video].orientation for video in recordings})),
        },
    )
    write_dataset(store, dataset)
    return _outcome(dataset, work)


def _read_all_labels(folder: MstcnFolder, classes: ClassList, work: _Work) -> None:
    for path in _files(folder.labels, ".txt", what="label files"):
        try:
            work.labels[path.stem] = read_labels(path, classes=classes)
        except LabelError as error:
            work.failed[path.stem] = str(error)


def _read_shapes(folder: MstcnFolder, orientation: Orientation | None, work: _Work) -> None:
    """Look at every feature file; what has no labels of its own still helps to tell the axes apart."""
    shapes: dict[Path, tuple[int, int]] = {}
    for path in _files(folder.features, ".npy", what="feature files"):
        try:
            shapes[path] = feature_shape(path)
        except LabelError as error:
            work.failed[path.stem] = str(error)
    counts = {path: len(work.labels[path.stem]) for path in shapes if path.stem in work.labels}
    found, refused = orient(shapes, counts, said=orientation)
    work.features = {path.stem: file for path, file in found.items() if path.stem in work.labels}
    for path, reason in refused.items():
        work.failed.setdefault(path.stem, reason)
    for path in found:
        if path.stem not in work.labels:
            missing = folder.labels / f"{path.stem}.txt"
            reason = f"{path}: there are no labels at {missing}. Add the file, or remove the features."
            work.failed.setdefault(path.stem, reason)
    seen = {path.stem for path in shapes}
    for video in sorted(set(work.labels) - seen):
        missing = folder.features / f"{video}.npy"
        reason = f"{folder.labels / video}.txt: there are no features at {missing}. Add them, or remove the labels."
        work.failed.setdefault(video, reason)


def _import_one(
    video: str, folder: MstcnFolder, *, classes: ClassList, work: _Work, fps: float | None, store: Store
) -> StoredRecording:
    file, path = work.features[video], folder.labels / f"{video}.txt"
    fitted = fit_labels(work.labels[video], num_frames=file.num_steps, source=path)
    stored = import_features(file, fps=fps, store=store)
    facts = RowFacts.of(file.num_steps, fps=fps)
    boundaries = np.append(facts.frame_times, facts.duration)
    identity = {
        "stage": "labels",
        "version": LABEL_VERSION,
        "format": "mstcn",
        "content": store.digests.digest(path),
        "video": video,
        "classes": list(classes.names),
        "frames": len(fitted.labels),
        "fps": fps,
    }
    key = digest_of(identity)
    target = store.label_path(key)
    with artefact_lock(target):
        if not target.exists():
            segments = segments_of_labels(fitted.labels, video=video, boundaries=boundaries, classes=classes)
            write_segments(target, segments, metadata=identity | {"source": path.name, "note": fitted.note})
    note = "; ".join(part for part in (fitted.note, stored.note) if part)
    if note:
        work.notes.append(note)
    return StoredRecording(
        labels=key, features=stored.key, content=stored.content, num_frames=file.num_steps, note=note
    )


def read_splits(
    folder: Path, recordings: Mapping[str, StoredRecording], *, failed: dict[str, str], notes: list[str]
) -> dict[str, StoredSplit]:
    """Every split of a folder of bundles; what cannot be used goes to ``failed`` and ``notes``."""
    bundle = re.compile(r"(?:train|test)\.(.+)\.bundle")
    names = sorted({match[1] for path in folder.glob("*") if (match := bundle.fullmatch(path.name))})
    if not names:
        notes.append(
            f"{folder}: there is no train.<split>.bundle; training needs one. Add it and import again."
        )
    splits: dict[str, StoredSplit] = {}
    for name in names:
        try:
            split = read_split(folder, name)
        except LabelError as error:
            failed[f"split {name}"] = str(error)
            continue
        splits[name] = StoredSplit(train=split.train, test=split.test)
        absent = [video for video in (*split.train, *split.test) if video not in recordings]
        if absent:
            notes.append(
                f"{folder}: split {name!r} names {len(absent)} videos that were not imported, first {absent[0]!r}"
            )
    return splits


def _outcome(dataset: StoredDataset, work: _Work) -> ImportOutcome:
    done = [VideoOutcome(video=video, status="done") for video in dataset.recordings]
    failed = [
        VideoOutcome(video=video, status="failed", reason=reason) for video, reason in work.failed.items()
    ]
    return ImportOutcome(dataset=dataset, outcomes=(*done, *failed), notes=tuple(work.notes))


def _files(folder: Path, suffix: str, *, what: str) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == suffix and path.is_file())
    except OSError as error:
        raise DatasetError(
            f"{folder}: the {what} cannot be listed ({error.strerror}). Check the path."
        ) from error
    if not files:
        raise DatasetError(f"{folder} holds no {suffix} file. Give the folder that holds the {what}.")
    return files
