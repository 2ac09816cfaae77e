import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import migrate
from storage.catalogue import read_catalogue
from storage.datasets import read_dataset
from storage.errors import CorruptArtefactError, StoreError
from storage.features import read_features
from storage.folders import read_manifest
from storage.migrate import migrate_store
from storage.seal import JSON_SEAL, SEAL_KEY
from storage.segments import read_segments
from storage.store import Store
from storage.texts import read_text_embedding
from storage.timelines import read_timeline
from storage.verify import verify_store
from tests.storage.samples import (
    EVALUATION,
    FEATURES,
    LABELS,
    PREDICTION,
    RUN,
    TEXT,
    TIMELINE,
    small_store,
)


def strip_seals(root):
    """Turn a store of this version into what version 1 wrote: the same files without any checksum."""
    for path in root.rglob("*.parquet"):
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        facts = {key: value for key, value in schema.metadata.items() if key != SEAL_KEY.encode()}
        with pq.ParquetWriter(
            path.with_suffix(".v1"), schema.with_metadata(facts), compression="zstd"
        ) as out:
            for group in range(file.num_row_groups):
                out.write_table(file.read_row_group(group).replace_schema_metadata(facts))
        path.with_suffix(".v1").replace(path)
    for path in (*root.glob("*/*/manifest.json"), *root.glob("datasets/*.json"), root / "store.json"):
        facts = json.loads(path.read_text())
        facts.pop(JSON_SEAL)
        if path.name == "store.json":
            facts["version"] = 1
        path.write_text(json.dumps(facts, indent=2) + "\n")
    for path in root.rglob("*.f32"):
        path.unlink()
    for path in (root / "digests").iterdir():
        path.unlink()
    (root / "digests").rmdir()
    (root / "champions.json").write_text('{"database": [1, 2], "champions": {}}\n')
    (root / "digests.sqlite").write_bytes(b"SQLite format 3\0")


@pytest.fixture
def old(tmp_path):
    """Folder of a version-1 store."""
    root = small_store(tmp_path / "store").root
    strip_seals(root)
    return root


def everything(store):
    """All that readers get out of the sample store."""
    features = read_features(store.feature_path("clip", FEATURES))
    timeline = read_timeline(store.timeline_path(TIMELINE))
    return {
        "catalogue": read_catalogue(store.catalogue_path),
        "time": features.time.tolist(),
        "feature": features.feature.tolist(),
        "metadata": features.metadata,
        "frame_times": timeline.frame_times.tolist(),
        "facts": timeline.facts,
        "text": read_text_embedding(store.text_path(TEXT)).tolist(),
        "labels": read_segments(store.label_path(LABELS)),
        "prediction": read_segments(store.prediction_path(PREDICTION)),
        "run": read_manifest(store.run_folder(RUN)),
        "evaluation": read_manifest(store.evaluation_folder(EVALUATION)),
        "dataset": read_dataset(store, "toy"),
    }


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_an_old_store_is_read_as_it_is_and_not_written(old):
    before = contents(old)
    assert everything(Store(old, read_only=True))["text"] == [1.0] * 4
    with pytest.raises(StoreError, match=r"version 1.*factseg migrate --dry-run"):
        Store(old)
    assert contents(old) == before


def test_migrating_seals_every_file_and_changes_no_value(old):
    before = everything(Store(old, read_only=True))
    assert not verify_store(Store(old, read_only=True)).is_whole
    done = migrate_store(old, dry_run=False)
    store = Store(old)
    assert everything(store) == before
    assert verify_store(store).findings == ()
    assert f"seal features/clip/{FEATURES}.parquet" in done
    assert done[-1] == "write store.json: version 2"
    assert migrate_store(old, dry_run=False) == []


def test_a_dry_run_says_what_migrating_does_and_does_nothing(old):
    before = contents(old)
    planned = migrate_store(old, dry_run=True)
    assert contents(old) == before
    assert planned == migrate_store(old, dry_run=False)


def test_row_groups_and_number_types_stay(old):
    path = Store(old, read_only=True).feature_path("clip", FEATURES)
    migrate_store(old, dry_run=False)
    with pq.ParquetFile(path) as file:
        assert file.schema_arrow.field("feature").type.value_type == pa.float16()
        assert file.num_row_groups == 1
    assert np.isfinite(read_features(path).feature).all()


def test_a_migration_that_was_stopped_goes_on(old, monkeypatch):
    before = everything(Store(old, read_only=True))
    sealed = []
    original = migrate._seal

    def stopped_after_three(path):
        if len(sealed) == 3:
            raise KeyboardInterrupt
        sealed.append(path)
        original(path)

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_seal", stopped_after_three)
        with pytest.raises(KeyboardInterrupt):
            migrate_store(old, dry_run=False)
    assert everything(Store(old, read_only=True)) == before
    planned = migrate_store(old, dry_run=True)
    assert not {f"seal {path.relative_to(old).as_posix()}" for path in sealed} & set(planned)
    migrate_store(old, dry_run=False)
    assert everything(Store(old)) == before


def test_a_damaged_file_stops_the_migration_by_name(old):
    path = Store(old, read_only=True).prediction_path(PREDICTION)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CorruptArtefactError, match=rf"{PREDICTION}.*Delete it"):
        migrate_store(old, dry_run=False)
    path.unlink()
    migrate_store(old, dry_run=False)
    assert verify_store(Store(old)).findings == ()
