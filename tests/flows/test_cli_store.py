import json

import pytest

from flows.cli import run_command
from storage.catalogue import CatalogueRow, update_catalogue
from tests.storage.samples import FEATURES, LABELS, put_features, small_store
from tests.storage.test_migrate import strip_seals


@pytest.fixture
def store(tmp_path):
    return small_store(tmp_path / "store")


def run(capsys, *words, store):
    code = run_command([*words, "--store", str(store.root), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_verify_fails_and_names_the_damaged_artefact_and_its_remedy(store, capsys):
    code, findings, err = run(capsys, "verify", store=store)
    assert (code, findings) == (0, [])
    assert "0 damaged" in err
    path = store.label_path(LABELS)
    content = path.read_bytes()
    path.write_bytes(content[:30] + bytes([content[30] ^ 4]) + content[31:])
    code, findings, err = run(capsys, "verify", store=store)
    assert code == 1
    assert [(row["path"], row["kind"]) for row in findings] == [(f"labels/{LABELS}.parquet", "damaged")]
    assert "then run `factseg import` with --name 'toy' as before" in findings[0]["remedy"]
    assert "1 damaged" in err


def test_verify_of_no_store_makes_none(tmp_path, capsys):
    assert run_command(["verify", "--store", str(tmp_path / "none")]) == 1
    assert "no store at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_gc_looks_first_and_then_removes(store, capsys):
    # The sample's timeline has a key that no prober of today would look for.
    update_catalogue(
        store.catalogue_path, [CatalogueRow(id="b", path="b.mp4", status="ok", video_hash="0f" * 32)]
    )
    gone = put_features(store, "8" * 64, video_hash="77" * 32)
    assert run(capsys, "gc", store=store)[:2] == (0, [])  # too new to be judged
    code, planned, err = run(capsys, "gc", "--dry-run", "--min-age-days", "0", store=store)
    assert code == 0
    assert str(gone) in [row["path"] for row in planned]
    assert "would be removed" in err
    assert gone.exists()
    code, removed, _ = run(capsys, "gc", "--min-age-days", "0", store=store)
    assert (code, removed) == (0, planned)
    assert not gone.exists()
    assert store.feature_path("clip", FEATURES).exists()
    assert run(capsys, "gc", "--min-age-days", "0", store=store)[1] == []


def test_migrate_looks_first_and_then_seals(store, capsys):
    strip_seals(store.root)
    code, planned, _ = run(capsys, "migrate", "--dry-run", store=store)
    assert code == 0
    assert run(capsys, "verify", store=store)[0] == 1
    assert run(capsys, "migrate", store=store)[:2] == (0, planned)
    assert run(capsys, "verify", store=store)[:2] == (0, [])
    assert "of this version already" in run(capsys, "migrate", store=store)[2]
