"""The table of a stage: over the earlier one, and part of a store that verifies."""

import json

import pyarrow.parquet as pq

from storage.outcomes import OUTCOME_SCHEMA, write_outcomes
from storage.store import Store
from storage.verify import verify_store

ROW = {"video": "a", "status": "failed", "reason": 'line "one"\nline two', "path": "/videos/a.mp4"}


def test_both_files_hold_the_rows_and_nothing_more(tmp_path):
    parquet, text = write_outcomes(tmp_path, "extract", [{**ROW, "may_pass": True}])
    assert pq.read_table(parquet).to_pylist() == [ROW]
    assert json.loads(text.read_text())["videos"] == [ROW]


def test_the_next_run_writes_over_them_also_with_nothing(tmp_path):
    write_outcomes(tmp_path, "extract", [ROW, ROW])
    parquet, text = write_outcomes(tmp_path, "extract", [])
    assert pq.read_table(parquet).schema.equals(OUTCOME_SCHEMA)
    assert pq.read_table(parquet).num_rows == 0
    assert json.loads(text.read_text())["videos"] == []


def test_a_store_with_tables_verifies(tmp_path):
    store = Store(tmp_path / "store")
    write_outcomes(store.tables, "extract", [ROW])
    verification = verify_store(store)
    assert verification.findings == ()
    assert verification.num_files >= 2
