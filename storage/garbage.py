"""Artefacts that nothing refers to any more: found first, removed only when asked to.

What refers to what:

- the catalogue to the timelines, features and predictions of its videos;
- a finished run to the features and labels it was trained on, and to the texts of its classes;
- an imported data set to its features and labels;
- a run, while it is there, to its evaluations and predictions; a feature file to its cache.

What nothing refers to is garbage: videos that left the catalogue, and superseded versions of the extraction, at once;
features, labels, texts and unfinished work once they are old, because somebody may be about to refer to them.
Finished runs and data sets are never garbage.
"""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.atomic import artefact_lock
from storage.catalogue import read_catalogue
from storage.datasets import StoredRecording, dataset_names, read_dataset
from storage.errors import CorruptArtefactError, MissingArtefactError, StorageError, StoreError
from storage.feature_cache import CACHE_FOLDER, cache_path
from storage.feature_file import FeatureMetadata
from storage.features import read_feature_metadata
from storage.folders import is_finished, read_manifest
from storage.keys import digest_of
from storage.places import Place, listed, modified, remove_tree
from storage.seal import parquet_digest
from storage.segments import read_segments
from storage.store import Store
from storage.texts import read_text_table

_SECONDS_PER_DAY = 86_400

_SETTLED_SECONDS = 600
"""Younger things are left alone whatever refers to them: a timeline is written before its row in the catalogue."""

_LEASE_SECONDS = 3600
"""A lease is renewed every minute; one so old belongs to nobody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """Something that may be removed."""

    path: Place
    """A file, or a folder with all that is in it."""
    reason: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentKeys:
    """What the code of this version would look for."""

    timelines: Collection[str]
    """Keys of the timelines of the videos in the catalogue."""
    extract_version: int
    """Version of the extraction."""
    texts: Collection[tuple[str, str]] = ()
    """Model and sentence of every text that a finished run was trained with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ages:
    """Times of last change, in seconds of the epoch, before which something may be garbage."""

    settled: float
    old: float
    lease: float

    @classmethod
    def of(cls, now: float, *, min_age_days: float) -> "_Ages":
        old = now - min_age_days * _SECONDS_PER_DAY
        return cls(old=old, settled=max(old, now - _SETTLED_SECONDS), lease=min(old, now - _LEASE_SECONDS))


def find_garbage(
    store: Store,
    current: CurrentKeys,
    *,
    min_age_days: float = 7,
    clock: Callable[[], float] = time.time,
) -> list[Garbage]:
    """Everything that may be removed, by path; nothing is touched.

    Args:
        store: The store, a local folder or behind a URL.
        current: What the code of this version would look for.
        min_age_days: Younger than this, unused features, labels and texts and unfinished work are left alone. With 0
            even what was written a moment ago is judged: only while nothing else is at work in the store.
        clock: Seconds of the epoch; that of an object store should agree with it to within some minutes.

    Raises:
        MissingArtefactError: There is no catalogue, and there are artefacts of videos.
        CorruptArtefactError: The catalogue, a data set or a manifest is damaged; nothing may be judged by half the
            facts.
    """
    ages = _Ages.of(clock(), min_age_days=min_age_days)
    known = _Known.of(store)
    reasons = {
        **_features(store, known, current, ages),
        **_caches(store),
        **_timelines(store, known, current),
        **_predictions(store, known),
        **_labels(store, known, ages),
        **_texts(store, known, current, ages),
        **_folders(store, known, ages),
        **_checkpoints(store, known, ages),
        **_leftovers(store, ages),
    }
    return [
        Garbage(path=path, reason=reason, num_bytes=sum(file.stat().st_size for file in _files(path)))
        for path, reason in sorted(reasons.items(), key=lambda item: str(item[0]))
        if _newest(path) <= ages.settled
    ]


def remove_garbage(store: Store, garbage: Collection[Garbage]) -> None:
    """Remove what ``find_garbage`` found, each under its lock.

    Raises:
        StoreError: The store was opened read-only.
    """
    if store.read_only:
        raise StoreError(f"{store.root} was opened read-only; nothing is removed.")
    for item in garbage:
        with artefact_lock(item.path):
            if item.path.is_dir():
                remove_tree(item.path)
            else:
                item.path.unlink(missing_ok=True)
            if isinstance(item.path, Path):
                item.path.with_name(f".{item.path.name}.lock").unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What is referred to."""

    catalogued: bool
    """Whether there is a catalogue."""
    videos: Collection[str]
    """Content of every video in the catalogue and of every recording of a data set."""
    runs: Collection[str]
    """Keys of finished runs."""
    features: Collection[str]
    """Keys of the features that runs were trained on, and of imported data sets."""
    labels: Collection[str]
    """Keys of the labels that runs were trained on, and of imported data sets."""

    @classmethod
    def of(cls, store: Store) -> "_Known":
        runs = {
            folder.name: read_manifest(folder)
            for folder in listed(store.root, "runs/*")
            if is_finished(folder)
        }
        recordings: list[StoredRecording] = [
            recording
            for name in dataset_names(store)
            for recording in read_dataset(store, name).recordings.values()
        ]
        trained = {
            key for facts in runs.values() for keys in facts.get("videos", {}).values() for key in keys
        }
        labelled = {key for facts in runs.values() for key in facts.get("labels", {}).values()}
        catalogue = read_catalogue(store.catalogue_path)
        return cls(
            catalogued=store.catalogue_path.is_file(),
            videos={row.video_hash for row in catalogue if row.video_hash}
            | {recording.content for recording in recordings if recording.content},
            runs=set(runs),
            features=trained | {recording.features for recording in recordings},
            labels=labelled | {recording.labels for recording in recordings},
        )

    def need_catalogue(self, store: Store) -> None:
        """Refuse to judge the artefacts of videos where nothing says which videos are wanted."""
        if not self.catalogued:
            raise MissingArtefactError(
                f"{store.catalogue_path} is missing, so nothing says which videos are wanted. "
                "Run `factseg probe` on your videos first."
            )


def _features(store: Store, known: _Known, current: CurrentKeys, ages: _Ages) -> dict[Place, str]:
    made: dict[Place, FeatureMetadata] = {}
    for path in listed(store.root, "features/*/*.parquet"):
        try:
            made[path] = read_feature_metadata(path)
        except CorruptArtefactError:
            # What made it cannot be told; `factseg verify` names it with its remedy.
            continue
    imported = {path for path, metadata in made.items() if metadata.identity.get("stage") == "import"}
    extracted = {path: metadata for path, metadata in made.items() if path not in imported}
    if extracted:
        known.need_catalogue(store)
    used = {_recipe(metadata) for path, metadata in extracted.items() if path.stem in known.features}
    reasons: dict[Place, str] = {
        path: "no data set and no run refers to it"
        for path in imported
        if path.stem not in known.features and modified(path) <= ages.old
    }
    for path, metadata in extracted.items():
        if metadata.video_hash not in known.videos:
            reasons[path] = "its video is not in the catalogue"
        elif metadata.identity.get("version", current.extract_version) != current.extract_version:
            reasons[path] = "another version of the extraction made it"
        elif used and _recipe(metadata) not in used and modified(path) <= ages.old:
            reasons[path] = "no run uses this profile with these weights"
    return reasons


def _recipe(metadata: FeatureMetadata) -> str:
    profile: Any = metadata.identity.get("profile", metadata.profile)
    return digest_of({"profile": profile, "weights": metadata.weights_digest})


def _caches(store: Store) -> dict[Place, str]:
    if not isinstance(store.root, Path):
        # Features of a store by URL have no cache.
        return {}
    live = set()
    for path in store.root.glob("features/*/*.parquet"):
        try:
            digest = parquet_digest(path)
        except CorruptArtefactError:
            continue
        if digest is not None:
            live.add(cache_path(path, digest))
    caches = store.root.glob(f"features/*/{CACHE_FOLDER}/*.f32")
    return {path: "its feature file changed or is gone" for path in caches if path not in live}


def _timelines(store: Store, known: _Known, current: CurrentKeys) -> dict[Place, str]:
    timelines = listed(store.root, "timelines/*.parquet")
    if timelines:
        known.need_catalogue(store)
    return {
        path: "its video is not in the catalogue, or an earlier version probed it"
        for path in timelines
        if path.stem not in current.timelines
    }


def _predictions(store: Store, known: _Known) -> dict[Place, str]:
    reasons: dict[Place, str] = {}
    for path in listed(store.root, "predictions/*.parquet"):
        try:
            _, facts = read_segments(path)
        except CorruptArtefactError:
            continue
        if facts.get("run") not in known.runs:
            reasons[path] = "its run is gone"
        elif known.catalogued and facts.get("video") not in known.videos:
            reasons[path] = "its video is not in the catalogue"
    return reasons


def _labels(store: Store, known: _Known, ages: _Ages) -> dict[Place, str]:
    return {
        path: "no data set and no run refers to it"
        for path in listed(store.root, "labels/*.parquet")
        if path.stem not in known.labels and modified(path) <= ages.old
    }


def _texts(store: Store, known: _Known, current: CurrentKeys, ages: _Ages) -> dict[Place, str]:
    if not known.runs:
        # As with features: before the first run nothing says which sentences are wanted.
        return {}
    reasons: dict[Place, str] = {}
    for path in listed(store.root, "texts/*.parquet"):
        try:
            table = read_text_table(path)
        except CorruptArtefactError:
            continue
        if _sentence(table) not in current.texts and modified(path) <= ages.old:
            reasons[path] = "no run was trained with this sentence by this model"
    return reasons


def _sentence(table: pa.Table) -> tuple[str, str]:
    return table.column("model")[0].as_py(), table.column("prompt")[0].as_py()


def _folders(store: Store, known: _Known, ages: _Ages) -> dict[Place, str]:
    reasons: dict[Place, str] = {}
    for path in (*listed(store.root, "runs/*"), *listed(store.root, "evaluations/*")):
        if not is_finished(path):
            if _newest(path) <= ages.old:
                reasons[path] = "it was begun and never finished"
        elif path.parent.name == "evaluations":
            try:
                run = read_manifest(path).get("run")
            except StorageError:
                continue
            if run not in known.runs:
                reasons[path] = "its run is gone"
    return reasons


def _checkpoints(store: Store, known: _Known, ages: _Ages) -> dict[Place, str]:
    return {
        path: "its training is finished, or was given up"
        for path in listed(store.root, "checkpoints/*.safetensors")
        if path.stem in known.runs or modified(path) <= ages.old
    }


def _leftovers(store: Store, ages: _Ages) -> dict[Place, str]:
    if not isinstance(store.root, Path):
        leases = {path.parent for path in store.root.rglob("*") if path.parent.name.endswith(".lease")}
        return {path: "a killed process left its lease" for path in leases if _newest(path) <= ages.lease}
    reasons: dict[Place, str] = {
        path: "a killed writer left it"
        for path in store.root.rglob(".*.part")
        if path.is_file() and modified(path) <= ages.old
    }
    for path in store.root.glob("features/*/.*.parquet.parts"):
        finished = path.with_name(path.name.removeprefix(".").removesuffix(".parts")).is_file()
        if finished or _newest(path) <= ages.old:
            reasons[path] = "parts of an extraction that is finished, or was given up"
    return reasons


def _newest(place: Place) -> float:
    """When a file, or something in a folder, was last changed, in seconds of the epoch."""
    if isinstance(place, Path):
        return max(modified(path) for path in (place, *place.rglob("*")))
    return max((modified(file) for file in _files(place)), default=0.0)


def _files(place: Place) -> Iterator[Place]:
    """The file itself, or every file in a folder."""
    if place.is_file():
        yield place
        return
    yield from (path for path in place.rglob("*") if path.is_file())
