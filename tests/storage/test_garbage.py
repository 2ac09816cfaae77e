import os
import time
from dataclasses import replace

import numpy as np
import pytest

from storage.atomic import write_text_atomically
from storage.catalogue import CatalogueRow, update_catalogue
from storage.datasets import StoredDataset, StoredRecording, read_dataset, write_dataset
from storage.errors import MissingArtefactError, StoreError
from storage.feature_cache import read_mapped_features
from storage.feature_parts import parts_folder
from storage.features import read_features
from storage.folders import start_folder
from storage.garbage import CurrentKeys, find_garbage, remove_garbage
from storage.leases import Lease
from storage.places import name_within
from storage.segments import write_segments
from storage.store import Store
from storage.timelines import write_timeline
from storage.verify import verify_store
from tests.storage.samples import (
    EVALUATION,
    FEATURES,
    LABELS,
    PREDICTION,
    RUN,
    SEGMENT,
    TEXT,
    TIMELINE,
    VIDEO,
    put_features,
    put_folder,
    small_store,
)

CURRENT = CurrentKeys(timelines={TIMELINE}, extract_version=2, texts={("ViT-B-32", "cut")})
OTHER = "8" * 64


@pytest.fixture
def store(tmp_path):
    return small_store(tmp_path / "store")


def in_an_hour():
    """What was written just now is left alone, so the tests look later."""
    return time.time() + 3600


def reasons(store, current=CURRENT, **options):
    found = find_garbage(store, current, **{"clock": in_an_hour, **options})
    return {name_within(store.root, item.path): item.reason for item in found}


def make_old(path):
    for entry in (path, *path.rglob("*")):
        os.utime(entry, (1, 1))


def test_what_is_referred_to_is_no_garbage(store):
    assert reasons(store, min_age_days=0) == {}


def test_a_video_that_changed_leaves_its_old_features_timeline_and_predictions(store):
    update_catalogue(
        store.catalogue_path, [CatalogueRow(id="a", path="videos/a.mp4", status="ok", video_hash="99" * 32)]
    )
    found = find_garbage(store, CurrentKeys(timelines=(), extract_version=2), clock=in_an_hour)
    assert {item.path for item in found} == {
        store.feature_path("clip", FEATURES),
        store.timeline_path(TIMELINE),
        store.prediction_path(PREDICTION),
    }
    assert all("not in the catalogue" in item.reason for item in found)
    assert all(item.num_bytes == item.path.stat().st_size for item in found)


def test_features_by_an_earlier_version_of_the_code_are_superseded(store):
    put_features(store, OTHER, identity={"version": 1})
    put_features(store, "9" * 64, identity={"version": 2})
    assert reasons(store, clock=time.time) == {}
    assert reasons(store) == {f"features/clip/{OTHER}.parquet": "another version of the extraction made it"}


@pytest.mark.parametrize("change", [{"weights_digest": "ee" * 32}, {"identity": {"profile": "other"}}])
def test_features_that_no_run_uses_are_garbage_once_they_are_old(store, change):
    path = put_features(store, OTHER, **change)
    assert reasons(store) == {}
    make_old(path)
    assert list(reasons(store).values()) == ["no run uses this profile with these weights"]


def test_features_are_not_unused_while_no_run_is_there(store):
    path = put_features(store, OTHER, weights_digest="ee" * 32)
    make_old(path)
    (store.run_folder(RUN) / "manifest.json").unlink()
    assert not any(name.startswith("features") for name in reasons(store))


def test_imported_features_and_labels_are_kept_while_a_data_set_or_a_run_refers_to_them(store):
    features = put_features(store, OTHER, identity={"stage": "import", "version": 1}, video_hash="77" * 32)
    labels = store.label_path(OTHER)
    write_segments(labels, [SEGMENT], metadata={})
    names = {"features/clip": features, "labels": labels}
    for path in (*names.values(), store.label_path(LABELS)):
        make_old(path)
    unreferenced = {f"{folder}/{OTHER}.parquet": "no data set and no run refers to it" for folder in names}
    assert reasons(store) == unreferenced
    dataset = read_dataset(store, "toy")
    recording = StoredRecording(labels=OTHER, features=OTHER, content="77" * 32)
    write_dataset(store, replace(dataset, name="other", recordings={"b": recording}))
    assert reasons(store) == {}
    store.dataset_path("other").unlink()
    put_folder(store.run_folder("9" * 64), {"videos": {"b": [OTHER]}, "labels": {"b": OTHER}})
    assert reasons(store) == {}


def test_labels_of_an_import_that_is_going_on_are_kept(store):
    write_segments(store.label_path(OTHER), [SEGMENT], metadata={})
    assert reasons(store) == {}
    assert list(reasons(store, min_age_days=0)) == [f"labels/{OTHER}.parquet"]


def test_texts_that_no_run_was_trained_with_are_garbage_once_they_are_old(store):
    other = replace(CURRENT, texts={("ViT-B-32", "another sentence"), ("ViT-L-14", "cut")})
    assert reasons(store, other) == {}
    make_old(store.text_path(TEXT))
    assert reasons(store, other) == {
        f"texts/{TEXT}.parquet": "no run was trained with this sentence by this model"
    }
    (store.run_folder(RUN) / "manifest.json").unlink()
    assert not any(name.startswith("texts") for name in reasons(store, other))


def test_a_checkpoint_is_garbage_once_its_run_is_finished_or_it_is_old(store):
    finished, waiting = store.checkpoint_path(RUN), store.checkpoint_path(OTHER)
    finished.parent.mkdir()
    for path in (finished, waiting):
        path.write_bytes(b"x")
    assert list(reasons(store)) == [f"checkpoints/{RUN}.safetensors"]
    make_old(waiting)
    assert list(reasons(store)) == [f"checkpoints/{key}.safetensors" for key in (RUN, OTHER)]


def test_what_a_run_made_goes_with_the_run(store):
    folder = store.run_folder(RUN)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert sorted(reasons(store).values()) == ["its run is gone", "its run is gone"]


def test_unfinished_work_is_garbage_once_it_is_old(store):
    folder = store.run_folder(OTHER)
    start_folder(folder)
    (folder / "half").write_text("x")
    assert reasons(store) == {}
    make_old(folder)
    assert reasons(store) == {f"runs/{OTHER}": "it was begun and never finished"}


def test_parts_of_a_finished_file_and_old_scratch_files_are_garbage(store):
    parts = parts_folder(store.feature_path("clip", FEATURES))
    waiting = parts_folder(store.feature_path("clip", OTHER))
    for folder in (parts, waiting):
        start_folder(folder)
    scratch = store.root / "texts" / ".x.parquet.abc.part"
    scratch.write_text("half")
    assert set(reasons(store)) == {parts.relative_to(store.root).as_posix()}
    make_old(scratch)
    make_old(waiting)
    assert set(reasons(store)) == {
        path.relative_to(store.root).as_posix() for path in (parts, waiting, scratch)
    }


def test_a_cache_of_other_content_is_garbage(store):
    path = store.feature_path("clip", FEATURES)
    (cache,) = (path.parent / ".cache").iterdir()
    put_features(store, FEATURES, steps=5)
    assert reasons(store) == {cache.relative_to(store.root).as_posix(): "its feature file changed or is gone"}
    read_mapped_features(path)
    assert reasons(store) == {}


def test_a_timeline_by_an_earlier_prober_is_garbage(store):
    write_timeline(store.timeline_path(OTHER), frame_times=np.arange(3) / 25, facts={})
    assert "earlier version probed it" in reasons(store)[f"timelines/{OTHER}.parquet"]


def test_without_a_catalogue_no_artefact_of_a_video_is_judged(store):
    store.catalogue_path.unlink()
    with pytest.raises(MissingArtefactError, match="factseg probe"):
        reasons(store)


def test_a_store_of_imported_data_needs_no_catalogue(tmp_path):
    store = Store(tmp_path / "store")
    imported = put_features(store, FEATURES, identity={"stage": "import"}, video_hash="77" * 32)
    recording = StoredRecording(labels=LABELS, features=FEATURES, content="77" * 32)
    write_segments(store.label_path(LABELS), [SEGMENT], metadata={})
    write_dataset(
        store, StoredDataset(name="toy", classes=("cut",), recordings={"b": recording}, splits={}, source={})
    )
    put_folder(store.run_folder(RUN), {"videos": {"b": [FEATURES]}})
    write_segments(store.prediction_path(PREDICTION), [SEGMENT], metadata={"run": RUN, "video": "77" * 32})
    make_old(store.root)
    assert reasons(store) == {}
    store.dataset_path("toy").unlink()
    assert list(reasons(store)) == [f"labels/{LABELS}.parquet"]
    assert imported.exists()


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_store_by_url_is_swept_as_a_folder_is(kind, request):
    root = "memory://test-garbage/store" if kind == "memory" else f"{request.getfixturevalue('bucket')}/store"
    store = Store(root)
    row = CatalogueRow(id="a", path="s3://videos/a.mp4", status="ok", video_hash=VIDEO)
    update_catalogue(store.catalogue_path, [row])
    kept = put_features(store, FEATURES)
    gone = put_features(store, OTHER, video_hash="77" * 32)
    write_segments(store.label_path(LABELS), [SEGMENT], metadata={})
    put_folder(store.run_folder(RUN), {"videos": {"a": [FEATURES]}, "labels": {"a": LABELS}})
    write_text_atomically(store.run_folder(OTHER) / "half", "x")
    put_folder(store.evaluation_folder(EVALUATION), {"run": "99" * 32})
    abandoned = Lease(store.run_folder(OTHER))
    assert abandoned.take()
    assert reasons(store, clock=time.time) == {}
    late = {"clock": lambda: time.time() + 30 * 86_400}
    assert reasons(store, **late) == {
        f"features/clip/{OTHER}.parquet": "its video is not in the catalogue",
        f"evaluations/{EVALUATION}": "its run is gone",
        f"runs/{OTHER}": "it was begun and never finished",
        f"runs/.{OTHER}.lease": "a killed process left its lease",
    }
    abandoned.release()
    remove_garbage(store, find_garbage(store, CURRENT, **late))
    assert reasons(store, **late) == {}
    assert not gone.exists()
    assert len(read_features(kept).feature) == 12
    assert verify_store(store).findings == ()
    left = {name_within(store.root, path) for path in store.root.rglob("*") if path.is_file()}
    assert left == {
        *("store.json", "catalogue.parquet", f"features/clip/{FEATURES}.parquet", f"labels/{LABELS}.parquet"),
        *(f"runs/{RUN}/{name}" for name in ("scores.json", "manifest.json")),
    }
    if kind == "memory":
        store.root.fs.rm(store.root.path, recursive=True)


def test_only_what_was_found_is_removed(store):
    path = put_features(store, OTHER, video_hash="77" * 32)
    parts = parts_folder(store.feature_path("clip", FEATURES))
    start_folder(parts)
    before = {entry for entry in store.root.rglob("*") if entry.is_file()}
    found = find_garbage(store, CURRENT, clock=in_an_hour)
    assert {entry for entry in store.root.rglob("*") if entry.is_file()} == before
    remove_garbage(store, found)
    assert not path.exists()
    assert not parts.exists()
    assert {entry for entry in before if not entry.exists()} == {path}
    assert verify_store(store).findings == ()
    assert find_garbage(store, CURRENT, clock=in_an_hour) == []


def test_a_read_only_store_is_never_swept(store):
    with pytest.raises(StoreError, match="read-only"):
        remove_garbage(Store(store.root, read_only=True), [])
