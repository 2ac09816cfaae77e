import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from safetensors.numpy import save_file

from storage import verify
from storage.atomic import atomic_path
from storage.database_seal import database_problem, record_database
from storage.feature_parts import parts_folder
from storage.folders import start_folder
from storage.seal import BLANK_SAFETENSORS_SEAL, seal_safetensors
from storage.store import Store
from storage.verify import verify_store
from tests.storage.samples import EVALUATION, FEATURES, RUN, put_features, small_store

COMMANDS = {
    "timelines": "factseg probe",
    "features": "factseg extract",
    "texts": "factseg embed",
    "labels": "factseg import",
    "datasets": "factseg import",
    "predictions": "factseg segment",
    "runs": "factseg train",
    "evaluations": "factseg evaluate",
    "checkpoints": "factseg train",
    "catalogue.parquet": "factseg probe",
    "store.json": "factseg migrate",
    "tables": "the stage that the file is named after",
    "champions.json": "made anew",
    "digests": "made anew",
    ".cache": "made anew",
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    store = small_store(tmp_path_factory.mktemp("verify") / "store")
    checkpoint = store.checkpoint_path("8" * 64)
    with atomic_path(checkpoint) as scratch:
        save_file(
            {"weights": np.arange(5, dtype=np.float32)}, scratch, {"state": "{}"} | BLANK_SAFETENSORS_SEAL
        )
        seal_safetensors(scratch)
    return store


def artefacts(store):
    return sorted(
        path for path in store.root.rglob("*") if path.is_file() and path.suffix not in {".lock", ".part"}
    )


def named(findings):
    return {(finding.path, finding.kind) for finding in findings}


def kind_of(path, store):
    return ".cache" if path.parent.name == ".cache" else path.relative_to(store.root).parts[0]


def test_a_whole_store_has_every_kind_of_artefact_and_no_finding(sample):
    found = verify_store(sample)
    assert found.findings == ()
    assert found.is_whole
    assert {kind_of(path, sample) for path in artefacts(sample)} == set(COMMANDS)
    assert found.num_files == len(artefacts(sample))
    assert found.num_bytes == sum(path.stat().st_size for path in artefacts(sample))


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_every_byte_of_every_artefact_is_under_a_checksum(sample, stride):
    """Each file's own check, on each of its bytes; the walk over the store is the next test's."""
    for path in artefacts(sample):
        content = bytearray(path.read_bytes())
        try:
            for place in range(len(content) % stride, len(content), stride):
                content[place] ^= 1 << (place % 8)
                path.write_bytes(content)
                found = verify._examine(path, sample)
                assert found is not None, f"{path.name}: byte {place}"
                assert found.kind == "damaged", f"{path.name}: byte {place}"
                content[place] ^= 1 << (place % 8)
        finally:
            path.write_bytes(content)
    assert verify_store(sample).is_whole


def test_a_flipped_byte_is_named_with_the_command_that_makes_the_artefact_again(sample):
    for path in artefacts(sample):
        content = path.read_bytes()
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
        found = verify_store(sample)
        path.write_bytes(content)
        damaged = [finding for finding in found.findings if finding.kind == "damaged"]
        assert [finding.path for finding in damaged] == [path.relative_to(sample.root).as_posix()]
        assert COMMANDS[kind_of(path, sample)] in damaged[0].remedy


def test_damaged_rows_of_features_name_the_video(tmp_path):
    store = small_store(tmp_path / "store")
    path = store.feature_path("clip", FEATURES)
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    (finding,) = verify_store(store).findings
    assert "factseg extract videos/a.mp4" in finding.remedy
    assert "profile clip" in finding.remedy


def test_a_file_that_is_gone_and_one_that_is_no_ours_are_told_apart(tmp_path):
    store = small_store(tmp_path / "store")
    (store.run_folder(RUN) / "scores.json").unlink()
    (store.root / "notes.txt").write_text("mine")
    (store.evaluation_folder(EVALUATION) / "extra.txt").write_text("mine")
    assert named(verify_store(store).findings) == {
        (f"runs/{RUN}/scores.json", "damaged"),
        ("notes.txt", "unknown"),
        (f"evaluations/{EVALUATION}/extra.txt", "unknown"),
    }


def test_a_missing_manifest_is_unfinished_work_and_no_damage(tmp_path):
    store = small_store(tmp_path / "store")
    (store.run_folder(RUN) / "manifest.json").unlink()
    found = verify_store(store)
    assert named(found.findings) == {(f"runs/{RUN}", "unfinished")}
    assert found.is_whole
    assert "factseg gc" in found.findings[0].remedy


def test_an_empty_file_and_a_truncated_one_are_damaged(tmp_path):
    store = small_store(tmp_path / "store")
    path = store.feature_path("clip", FEATURES)
    content = path.read_bytes()
    for keep in (0, 5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        assert named(verify_store(store).findings) == {(path.relative_to(store.root).as_posix(), "damaged")}


def test_a_damaged_part_is_made_again_by_the_next_extraction(tmp_path):
    store = Store(tmp_path / "store")
    path = put_features(store, FEATURES)
    folder = parts_folder(path)
    start_folder(folder)
    shutil.copy(path, folder / "000000.parquet")
    assert verify_store(store).findings == ()
    (folder / "000000.parquet").write_bytes(path.read_bytes()[:-1])
    (finding,) = verify_store(store).findings
    assert "next `factseg extract`" in finding.remedy


def test_the_database_is_compared_with_the_note_of_it(tmp_path):
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
    assert "mlflow.db.json" in database_problem(database)
    record_database(database)
    assert database_problem(database) == ""
    content = database.read_bytes()
    for place in (0, 20, 100, len(content) - 1):
        database.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert "not what factseg last wrote" in database_problem(database)
