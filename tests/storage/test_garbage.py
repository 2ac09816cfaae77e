import os

import numpy as np
import pytest

from storage.catalogue import CatalogueRow, update_catalogue
from storage.errors import MissingArtefactError, StoreError
from storage.feature_cache import read_mapped_features
from storage.feature_parts import parts_folder
from storage.folders import start_folder
from storage.garbage import CurrentKeys, find_garbage, remove_garbage
from storage.store import Store
from storage.timelines import write_timeline
from storage.verify import verify_store
from tests.storage.samples import (
    FEATURES,
    PREDICTION,
    RUN,
    TIMELINE,
    put_features,
    small_store,
)

CURRENT = CurrentKeys(timelines={TIMELINE}, extract_version=2)
OTHER = "8" * 64


@pytest.fixture
def store(tmp_path):
    return small_store(tmp_path / "store")


def reasons(store, **options):
    found = find_garbage(store, CURRENT, **options)
    return {item.path.relative_to(store.root).as_posix(): item.reason for item in found}


def make_old(path):
    for entry in (path, *path.rglob("*")):
        os.utime(entry, (1, 1))


def test_what_is_referred_to_is_no_garbage(store):
    assert reasons(store, min_age_days=0) == {}


def test_a_video_that_changed_leaves_its_old_features_timeline_and_predictions(store):
    update_catalogue(
        store.catalogue_path, [CatalogueRow(id="a", path="videos/a.mp4", status="ok", video_hash="99" * 32)]
    )
    found = find_garbage(store, CurrentKeys(timelines=(), extract_version=2))
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


def test_imported_features_are_kept(store):
    make_old(put_features(store, OTHER, identity={"stage": "import", "version": 1}, video_hash="77" * 32))
    assert reasons(store) == {}


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


def test_without_a_catalogue_nothing_is_judged(store):
    store.catalogue_path.unlink()
    with pytest.raises(MissingArtefactError, match="factseg probe"):
        reasons(store)


def test_only_what_was_found_is_removed(store):
    path = put_features(store, OTHER, video_hash="77" * 32)
    parts = parts_folder(store.feature_path("clip", FEATURES))
    start_folder(parts)
    before = {entry for entry in store.root.rglob("*") if entry.is_file()}
    found = find_garbage(store, CURRENT)
    assert {entry for entry in store.root.rglob("*") if entry.is_file()} == before
    remove_garbage(store, found)
    assert not path.exists()
    assert not parts.exists()
    assert {entry for entry in before if not entry.exists()} == {path}
    assert verify_store(store).findings == ()
    assert find_garbage(store, CURRENT) == []


def test_a_read_only_store_is_never_swept(store):
    with pytest.raises(StoreError, match="read-only"):
        remove_garbage(Store(store.root, read_only=True), [])
