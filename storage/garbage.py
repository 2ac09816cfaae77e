"""Artefacts that nothing refers to any more: found first, removed only when asked to.

What counts: features, timelines and predictions of videos that the catalogue no longer lists; features by another
version of the extraction; features by a profile and weights that no run uses, once they are old; evaluations and
predictions of runs that are gone; work that was begun and left lying; caches of content that changed. Finished runs,
labels, data sets and text embeddings are never garbage.
"""

import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.atomic import artefact_lock
from storage.catalogue import read_catalogue
from storage.errors import CorruptArtefactError, MissingArtefactError, StorageError, StoreError
from storage.feature_cache import CACHE_FOLDER, cache_path
from storage.feature_file import FeatureMetadata
from storage.features import read_feature_metadata
from storage.folders import is_finished, read_manifest
from storage.keys import digest_of
from storage.seal import parquet_digest
from storage.segments import read_segments
from storage.store import Store

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """Something that may be removed."""

    path: Path
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


def find_garbage(store: Store, current: CurrentKeys, *, min_age_days: float = 7) -> list[Garbage]:
    """Everything that may be removed, by path; nothing is touched.

    Args:
        store: The store.
        current: What the code of this version would look for.
        min_age_days: Younger than this, unused features and unfinished work are left alone: somebody may be about
            to use them.

    Raises:
        StoreError: The store is no local folder.
        MissingArtefactError: There is no catalogue, so nothing says which videos are wanted.
        CorruptArtefactError: The catalogue or a manifest is damaged; nothing may be judged by half the facts.
    """
    _local(store)
    if not store.catalogue_path.is_file():
        raise MissingArtefactError(
            f"{store.catalogue_path} is missing, so nothing says which videos are wanted. "
            "Run `factseg probe` on your videos first."
        )
    known = _Known.of(store)
    old = time.time() - min_age_days * _SECONDS_PER_DAY
    reasons = {
        **_features(store, known, current, old=old),
        **_caches(store),
        **{
            path: "its video is not in the catalogue, or an earlier version probed it"
            for path in _visible(store, "timelines/*.parquet")
            if path.stem not in current.timelines
        },
        **_predictions(store, known),
        **_folders(store, known, old=old),
        **_leftovers(store, old=old),
    }
    return [
        Garbage(path=path, reason=reason, num_bytes=_size(path)) for path, reason in sorted(reasons.items())
    ]


def _local(store: Store) -> Path:
    if not isinstance(store.root, Path):
        raise StoreError(
            f"{store.root} is an object store, which is not swept: another machine may be at work in it. "
            "Remove old objects by the rules of the bucket, or copy the store to a folder and sweep that."
        )
    return store.root


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
                shutil.rmtree(item.path)
            else:
                item.path.unlink(missing_ok=True)
            item.path.with_name(f".{item.path.name}.lock").unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What is referred to."""

    videos: Collection[str]
    """Content of every video in the catalogue."""
    runs: Collection[str]
    """Keys of finished runs."""
    features: Collection[str]
    """Keys of the features that runs were trained on, and of imported data sets."""

    @classmethod
    def of(cls, store: Store) -> "_Known":
        runs = {
            folder.name: read_manifest(folder) for folder in _visible(store, "runs/*") if is_finished(folder)
        }
        trained = {
            key for facts in runs.values() for keys in facts.get("videos", {}).values() for key in keys
        }
        return cls(
            videos={row.video_hash for row in read_catalogue(store.catalogue_path) if row.video_hash},
            runs=set(runs),
            features=trained,
        )


def _features(store: Store, known: _Known, current: CurrentKeys, *, old: float) -> dict[Path, str]:
    made: dict[Path, FeatureMetadata] = {}
    for path in _visible(store, "features/*/*.parquet"):
        try:
            made[path] = read_feature_metadata(path)
        except CorruptArtefactError:
            # What made it cannot be told; `factseg verify` names it with its remedy.
            continue
    # Imported features have no video; the data sets that name them are never garbage.
    extracted = {
        path: metadata for path, metadata in made.items() if metadata.identity.get("stage") != "import"
    }
    used = {_recipe(metadata) for path, metadata in extracted.items() if path.stem in known.features}
    reasons: dict[Path, str] = {}
    for path, metadata in extracted.items():
        if metadata.video_hash not in known.videos:
            reasons[path] = "its video is not in the catalogue"
        elif metadata.identity.get("version", current.extract_version) != current.extract_version:
            reasons[path] = "another version of the extraction made it"
        elif used and _recipe(metadata) not in used and path.stat().st_mtime < old:
            reasons[path] = "no run uses this profile with these weights"
    return reasons


def _recipe(metadata: FeatureMetadata) -> str:
    profile: Any = metadata.identity.get("profile", metadata.profile)
    return digest_of({"profile": profile, "weights": metadata.weights_digest})


def _caches(store: Store) -> dict[Path, str]:
    live = set()
    for path in _visible(store, "features/*/*.parquet"):
        try:
            digest = parquet_digest(path)
        except CorruptArtefactError:
            continue
        if digest is not None:
            live.add(cache_path(path, digest))
    caches = _local(store).glob(f"features/*/{CACHE_FOLDER}/*.f32")
    return {path: "its feature file changed or is gone" for path in caches if path not in live}


def _predictions(store: Store, known: _Known) -> dict[Path, str]:
    reasons = {}
    for path in _visible(store, "predictions/*.parquet"):
        try:
            _, facts = read_segments(path)
        except CorruptArtefactError:
            continue
        if facts.get("run") not in known.runs:
            reasons[path] = "its run is gone"
        elif facts.get("video") not in known.videos:
            reasons[path] = "its video is not in the catalogue"
    return reasons


def _folders(store: Store, known: _Known, *, old: float) -> dict[Path, str]:
    reasons = {}
    for path in (*_visible(store, "runs/*"), *_visible(store, "evaluations/*")):
        if not is_finished(path):
            if _newest(path) < old:
                reasons[path] = "it was begun and never finished"
        elif path.parent.name == "evaluations":
            try:
                run = read_manifest(path).get("run")
            except StorageError:
                continue
            if run not in known.runs:
                reasons[path] = "its run is gone"
    return reasons


def _leftovers(store: Store, *, old: float) -> dict[Path, str]:
    reasons = {
        path: "a killed writer left it"
        for path in _local(store).rglob(".*.part")
        if path.is_file() and path.stat().st_mtime < old
    }
    for path in _local(store).glob("features/*/.*.parquet.parts"):
        finished = path.with_name(path.name.removeprefix(".").removesuffix(".parts")).is_file()
        if finished or _newest(path) < old:
            reasons[path] = "parts of an extraction that is finished, or was given up"
    return reasons


def _visible(store: Store, pattern: str) -> Iterator[Path]:
    return (path for path in sorted(_local(store).glob(pattern)) if not path.name.startswith("."))


def _newest(folder: Path) -> float:
    """When something in the folder was last written, in seconds of the epoch."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
