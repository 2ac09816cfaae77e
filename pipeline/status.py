"""What there is of every video, stage by stage: done, failed, stale or missing, and why.

Keys are asked of the functions that the stages themselves use, so that ``done`` means: the next run does nothing.
Nothing is probed, extracted, encoded or trained here.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.anywhere import FEATURES_STAGE
from pipeline.catalogue import Video, known_content, videos_by_id
from pipeline.dataset import dataset_classes, label_reader
from pipeline.errors import DatasetError, LabelError, WeightsError
from pipeline.extract import feature_identity
from pipeline.imported import ImportedProfile, Recording, RowFacts
from pipeline.inputs import ModelInput, feature_key, inputs_of_settings, weights_not_here
from pipeline.known_video import KnownVideo
from pipeline.labels import ClassList, fit_labels
from pipeline.listing import printable
from pipeline.profiles import Profile
from pipeline.run_files import SETTINGS_FILE, trained_at
from pipeline.settings import DatasetSettings, StatusSettings
from pipeline.status_models import evaluation_rows, prediction_rows, text_row
from storage.catalogue import CatalogueRow, read_catalogue
from storage.datasets import StoredDataset, dataset_names, read_dataset
from storage.errors import CorruptArtefactError, MissingArtefactError, StorageError
from storage.failures import failure_reasons, read_failures
from storage.features import read_feature_metadata
from storage.folders import is_finished
from storage.places import Place, is_url, listed
from storage.sealed_json import read_sealed_json
from storage.status import State, StatusRow, write_status
from storage.store import Store


def examine_videos(settings: StatusSettings) -> list[StatusRow]:
    """A row for every video and stage, also kept in the store as ``status.parquet`` where it can be written.

    Every imported data set is listed; texts, predictions and evaluations are those of the data set asked for.

    Raises:
        DatasetError: The folder of videos is missing or empty.
        LabelError: The mapping cannot be read.
        MissingArtefactError: There is no store, or no such data set was imported.
    """
    store = Store(settings.store, must_exist=True)
    dataset = settings.dataset
    if dataset is not None and dataset.has_features:
        found = read_dataset(store, dataset.imported)
        videos, rows = _recordings(found), list(_imported_rows(found, store=store))
    else:
        videos, rows = _videos(settings, store=store)
        rows += _feature_rows(videos, settings, store=store)
    if dataset is not None:
        classes = dataset_classes(dataset, store=store)
        if not dataset.has_features:
            rows += _label_rows(videos, dataset, classes=classes, store=store)
        texts = list(text_row(classes, settings, store=store))
        # Whether a run is there can only be told where its inputs can.
        known = all(row.key is not None for row in rows if row.stage == "features")
        ready = known and all(row.status == "done" for row in texts)
        rows += [*texts, *evaluation_rows(videos, settings, dataset, ready=ready, store=store)]
    rows += prediction_rows(videos, settings, store=store)
    for name in dataset_names(store):
        if dataset is None or name != dataset.imported:
            rows += _imported_rows(read_dataset(store, name), store=store)
    if not isinstance(store.root, Path) or os.access(store.root, os.W_OK):
        write_status(store.status_path, rows)
    return rows


def newest_settings(store: Store) -> dict[str, Any]:
    """The settings of the run that was finished last, as far as status is judged by them; empty where there is none."""
    runs = [folder for folder in listed(store.runs, "*") if is_finished(folder)]
    if not runs:
        return {}
    newest = max(runs, key=lambda folder: (trained_at(folder), folder.name))
    values = read_sealed_json(newest / SETTINGS_FILE)
    if values["dataset"]["imported"] and values["dataset"]["videos"] is None:
        # A dump holds every default, and features must not be given where the data set brings its own.
        values["extraction"].pop("features")
    return {name: values[name] for name in ("dataset", "extraction", "text", "training")}


def _recordings(found: StoredDataset) -> list[KnownVideo]:
    """The recordings of an imported data set that brings its features."""
    return [
        KnownVideo(
            id=name,
            path="",
            video=Recording(
                id=name,
                video_hash=recording.content,
                facts=RowFacts.of(recording.num_frames, fps=found.fps),
            ),
            former_hash=recording.content,
            features=(recording.features,),
        )
        for name, recording in found.recordings.items()
    ]


def _imported_rows(found: StoredDataset, *, store: Store) -> Iterator[StatusRow]:
    """A row for the features, where the data set brings them, and one for the labels of each recording."""
    profile = ImportedProfile(width=found.width)
    for name, recording in found.recordings.items():
        if recording.features:
            target = store.feature_path(profile.name, recording.features)
            yield _imported_row(name, "features", profile.spec, target, found.name)
        if recording.labels:
            yield _imported_row(name, "labels", found.name, store.label_path(recording.labels), found.name)


def _imported_row(video: str, stage: str, what: str, target: Place, dataset: str) -> StatusRow:
    there = target.exists()
    return StatusRow(
        video=video,
        path="",
        stage=stage,
        what=what,
        status="done" if there else "missing",
        reason=None if there else f"it was deleted; import data set {dataset!r} again",
        key=target.stem,
    )


def _videos(settings: StatusSettings, *, store: Store) -> tuple[list[KnownVideo], list[StatusRow]]:
    """Every video of the catalogue and of the data set, with a row each on its probing."""
    catalogue = {row.path: row for row in read_catalogue(store.catalogue_path) if row.status != "not a video"}
    paths: dict[str, CatalogueRow | None] = dict(catalogue)
    if settings.dataset is not None:
        for named in videos_by_id(settings.dataset.video_source).values():
            paths.setdefault(named if isinstance(named, str) else printable(named.absolute()), None)
    videos: list[KnownVideo] = []
    rows: list[StatusRow] = []
    for address, row in sorted(paths.items()):
        video, state, reason = _probed(address, row, settings=settings, store=store)
        name = row.id if row is not None else Path(address).stem
        former = (row.video_hash if row is not None else None) or ""
        videos.append(KnownVideo(id=name, path=address, video=video, former_hash=former))
        rows.append(
            StatusRow(
                video=name,
                path=address,
                stage="probe",
                what="",
                status=state,
                reason=reason,
                key=video.video_hash if video else None,
            )
        )
    return videos, rows


def _probed(
    address: str, row: CatalogueRow | None, *, settings: StatusSettings, store: Store
) -> tuple[Video | None, State, str | None]:
    path = Path(address)
    today = row.video_hash if row is not None else None
    if not is_url(address):
        if not path.is_file():
            return None, "missing", "the file is not there any more"
        try:
            today = store.digests.digest(path)
        except OSError as error:
            return None, "failed", f"the file cannot be read ({error.strerror})"
    rules = settings.extraction.decode_rules
    video = today and known_content(path, today, store=store, rules=rules)
    if video:
        return video, "done", None
    if row is None:
        return None, "missing", "it was never probed"
    if row.status == "failed":
        return None, "failed", row.error
    changed = "its content changed since it was probed"
    other = "it was probed by another version of this program, or under another rule for damaged videos"
    return None, "stale", changed if today != row.video_hash else other


def _feature_rows(
    videos: Sequence[KnownVideo], settings: StatusSettings, *, store: Store
) -> Iterator[StatusRow]:
    stored = _StoredFeatures(store)
    failed = failure_reasons([failure for failure in read_failures(store) if failure.stage == FEATURES_STAGE])
    profiles = settings.extraction.profiles
    try:
        # Whoever asks for the status waits for no download.
        networks = [network for profile in profiles for network in profile.networks]
        no_weights = weights_not_here(networks, settings.extraction, store=store)
        inputs: Sequence[ModelInput] = (
            () if no_weights else inputs_of_settings(settings.extraction, store=store)
        )
    except WeightsError as error:
        inputs, no_weights = (), str(error)
    for known in videos:
        for index, profile in enumerate(profiles):
            key: str | None = None
            reason: str | None
            if not inputs:
                state, reason = stored.of_content(profile.name, known.former_hash, otherwise=no_weights)
            elif not isinstance(known.video, Video):
                otherwise = "the video is not probed"
                state, reason = stored.of_content(profile.name, known.former_hash, otherwise=otherwise)
            else:
                key = feature_key(inputs[index], known.video)
                state, reason = stored.of_key(key, inputs[index], profile, known.video, failed=failed)
            yield StatusRow(
                video=known.id,
                path=known.path,
                stage="features",
                what=profile.spec,
                status=state,
                reason=reason,
                key=key,
            )


class _StoredFeatures:
    """The feature files of a store, looked through only where one is missing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_content: dict[str, dict[str, dict[str, Any]]] = {}

    def of_content(self, profile: str, video_hash: str, *, otherwise: str) -> tuple[State, str]:
        """State of features whose key cannot be known today."""
        if video_hash and video_hash in self._index(profile):
            return "stale", f"features of an earlier run are there, but {otherwise}"
        return "missing", otherwise

    def of_key(
        self, key: str, item: ModelInput, profile: Profile, video: Video, *, failed: dict[str, str]
    ) -> tuple[State, str | None]:
        """State of the features that the next run would use."""
        path = self._store.feature_path(profile.name, key)
        if path.exists():
            return _opens(path)
        if key in failed:
            return "failed", failed[key]
        other = self._index(profile.name).get(video.video_hash)
        if other is None:
            return "missing", "never extracted"
        wanted = feature_identity(
            profile,
            weights_digest=item.weights_digest,
            video_hash=video.video_hash,
            decoder=video.facts.reading,
        )
        return "stale", f"extracted before with {_difference(other, wanted)}"

    def _index(self, profile: str) -> dict[str, dict[str, Any]]:
        if profile not in self._by_content:
            found: dict[str, dict[str, Any]] = {}
            for path in listed(self._store.root / "features" / profile, "*.parquet"):
                try:
                    metadata = read_feature_metadata(path)
                except StorageError:
                    # `factseg doctor` names files that do not open; none of them is what is asked for here.
                    continue
                found[metadata.video_hash] = metadata.identity
            self._by_content[profile] = found
        return self._by_content[profile]


def _opens(path: Place) -> tuple[State, str | None]:
    try:
        read_feature_metadata(path)
    except CorruptArtefactError as error:
        return "failed", str(error)
    return "done", None


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    words = {
        "profile": "other settings of the profile",
        "weights": "other weights",
        "version": "another version of this program",
        "decoder": "another decoder",
    }
    differing = [text for name, text in words.items() if found.get(name) != wanted.get(name)]
    return " and ".join(differing) or "other settings"


def _label_rows(
    videos: Sequence[KnownVideo], dataset: DatasetSettings, *, classes: ClassList, store: Store
) -> Iterator[StatusRow]:
    source = dataset.video_source
    folder = source.rstrip("/") if isinstance(source, str) else str(source.absolute())
    labels_of = label_reader(dataset, classes=classes, store=store)
    for known in videos:
        address = known.path
        if (address.rpartition("/")[0] if is_url(address) else str(Path(address).parent)) != folder:
            continue
        state: State = "done"
        reason: str | None = None
        try:
            labels = labels_of(Path(known.path))
            if known.video is not None:
                fit_labels(labels.ids, num_frames=known.video.facts.num_frames, source=labels.source)
        except (DatasetError, MissingArtefactError) as error:
            state, reason = "missing", str(error)
        except (LabelError, StorageError) as error:
            state, reason = "failed", str(error)
        yield StatusRow(video=known.id, path=known.path, stage="labels", what="", status=state, reason=reason)
