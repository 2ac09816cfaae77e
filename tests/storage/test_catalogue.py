"""The catalogue: a row per path, whoever writes it, and cheap to write beside thousands of others."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import catalogue
from storage.catalogue import CATALOGUE_SCHEMA, CatalogueRow, read_catalogue, update_catalogue
from storage.tables import write_table

ADDED = ("video_streams", "stream_index", "pixel_aspect", "variable_rate")

ROWS = st.builds(
    CatalogueRow,
    id=st.just("v"),
    path=st.sampled_from(["a.mp4", "Z.mp4", "ä.mp4", "\U0001f600.mp4", "b,'c'.mp4"]),
    status=st.sampled_from(["ok", "failed"]),
    error=st.none() | st.text(max_size=3),
    num_frames=st.none() | st.integers(0, 9),
    fps=st.none() | st.floats(1, 60),
    variable_rate=st.none() | st.booleans(),
)


def row(number, **facts):
    return CatalogueRow(id=f"v{number}", path=f"/videos/v{number}.mp4", **{"status": "ok", **facts})


@given(updates=st.lists(st.tuples(st.lists(ROWS, max_size=3), st.booleans()), max_size=6))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_path_has_the_row_that_was_written_last_by_whichever_process(tmp_path_factory, updates):
    path = tmp_path_factory.mktemp("store") / "catalogue.parquet"
    expected = {}
    for rows, by_another_process in updates:
        if by_another_process:
            catalogue._remembered = None
        update_catalogue(path, rows)
        expected |= {each.path: each for each in rows}
    assert read_catalogue(path) == [expected[name] for name in sorted(expected)]


def test_what_another_process_wrote_meanwhile_is_kept(tmp_path):
    ours, theirs = tmp_path / "catalogue.parquet", tmp_path / "theirs.parquet"
    update_catalogue(ours, [row(1)])
    update_catalogue(theirs, [row(1), row(2)])
    update_catalogue(ours, [row(3)])
    # As another process does it: a file beside, renamed.
    shutil.copy(theirs, tmp_path / "scratch")
    (tmp_path / "scratch").replace(ours)
    update_catalogue(ours, [row(4)])
    assert [each.id for each in read_catalogue(ours)] == ["v1", "v2", "v4"]


def test_a_catalogue_of_an_earlier_layout_opens_and_is_completed(tmp_path):
    """As written before streams, pixel aspect and the kind of rate were columns."""
    path = tmp_path / "catalogue.parquet"
    former = [field for field in CATALOGUE_SCHEMA if field.name not in ADDED]
    assert [field.name for field in former][-2:] == ["duration_seconds", "decoder"]
    facts = {"status": "ok", "num_frames": 40, "decoder": "pyav", "error": None}
    rows = [{"id": name, "path": f"/videos/{name}.mp4", **facts} for name in ("a", "b")]
    write_table(path, pa.Table.from_pylist(rows, schema=pa.schema(former)), layout="catalogue/1", metadata={})
    expected = [CatalogueRow(**each) for each in rows]
    assert read_catalogue(path) == expected
    full = CatalogueRow(**rows[1], video_streams=2, stream_index=1, pixel_aspect=0.9, variable_rate=True)
    update_catalogue(path, [full])
    assert read_catalogue(path) == [expected[0], full]
    assert pq.read_schema(path).names == CATALOGUE_SCHEMA.names


def test_columns_of_a_later_layout_are_passed_over(tmp_path):
    path = tmp_path / "catalogue.parquet"
    update_catalogue(path, [row(1)])
    later = pq.read_table(path).append_column("colour", pa.array(["red"]))
    write_table(path, later, layout="catalogue/1", metadata={})
    assert read_catalogue(path) == [row(1)]


def test_a_row_that_is_there_is_neither_written_nor_are_the_others_read(tmp_path, monkeypatch):
    path = tmp_path / "catalogue.parquet"
    update_catalogue(path, [row(number) for number in range(100)])
    before = path.stat()
    monkeypatch.setattr(catalogue, "read_table", lambda *_, **__: pytest.fail("the whole file was read"))
    for number in range(100):
        update_catalogue(path, [row(number)])
    assert path.stat() == before
    update_catalogue(path, [row(7, status="failed")])
    monkeypatch.undo()
    assert [each.id for each in read_catalogue(path) if each.status == "failed"] == ["v7"]


def test_a_failure_stays_where_that_is_asked_for_and_the_content_is_the_same(tmp_path):
    path = tmp_path / "catalogue.parquet"
    failed = row(1, status="failed", error="hung", video_hash="aa")
    update_catalogue(path, [failed])
    assert update_catalogue(path, [row(1, video_hash="aa")], keep_failures=True) == [failed]
    assert read_catalogue(path) == [failed]
    other = row(1, video_hash="bb")
    assert update_catalogue(path, [other], keep_failures=True) == [other]
    update_catalogue(path, [failed])
    assert update_catalogue(path, [row(1, video_hash="aa")]) == [row(1, video_hash="aa")]
