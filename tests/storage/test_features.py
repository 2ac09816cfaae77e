import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.features import (
    ROWS_PER_GROUP,
    read_feature_metadata,
    read_features,
    read_many_features,
    write_features,
)
from tests.storage.samples import METADATA, rows


def write(path, feature, *, time=None, packing="exact", pieces=1):
    time = np.arange(len(feature)) * 0.16 if time is None else time
    with write_features(path, width=feature.shape[1], metadata=METADATA, packing=packing) as writer:
        for part_time, part in zip(
            np.array_split(time, pieces), np.array_split(feature, pieces), strict=True
        ):
            writer.append(part_time, part)
    return time


@given(steps=st.integers(1, 40), width=st.integers(1, 5), pieces=st.integers(1, 7), seed=st.integers(0, 9))
def test_what_is_written_is_read_back(tmp_path_factory, steps, width, pieces, seed):
    path = tmp_path_factory.mktemp("features") / "a.parquet"
    feature = np.random.default_rng(seed).standard_normal((steps, width)).astype(np.float32)
    time = write(path, feature, pieces=pieces)
    stored = read_features(path)
    np.testing.assert_array_equal(stored.feature, feature)
    np.testing.assert_array_equal(stored.time, time)
    assert stored.metadata == METADATA


def test_features_are_packed_compactly_unless_said_otherwise(tmp_path):
    with write_features(tmp_path / "a.parquet", width=2, metadata=METADATA) as writer:
        writer.append(np.zeros(1), np.zeros((1, 2), np.float32))
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.schema_arrow.field("feature").type.value_type == pa.float16()
    chunk = file.metadata.row_group(0).column(2)
    assert chunk.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" not in chunk.encodings


def test_float16_is_rounded_once(tmp_path):
    feature = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    write(tmp_path / "a.parquet", feature, packing="compact")
    np.testing.assert_array_equal(
        read_features(tmp_path / "a.parquet").feature, feature.astype(np.float16).astype(np.float32)
    )


def test_a_time_range_is_half_open_and_reads_only_its_row_groups(tmp_path, monkeypatch):
    steps = 3 * ROWS_PER_GROUP + 5
    feature = np.arange(steps, dtype=np.float32)[:, None]
    write(tmp_path / "a.parquet", feature, time=np.arange(steps, dtype=float))
    asked = []
    original = pq.ParquetFile.read_row_groups

    def counted(self, groups, *args, **kwargs):
        asked.extend(groups)
        return original(self, groups, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    part = read_features(
        tmp_path / "a.parquet", start_seconds=ROWS_PER_GROUP + 3.0, stop_seconds=ROWS_PER_GROUP + 6.0
    )
    np.testing.assert_array_equal(part.feature[:, 0], ROWS_PER_GROUP + np.array([3, 4, 5]))
    assert asked == [1]


def test_a_step_range_and_a_time_range_meet(tmp_path):
    steps = 2 * ROWS_PER_GROUP
    write(tmp_path / "a.parquet", np.arange(steps, dtype=np.float32)[:, None], time=np.arange(steps) / 10)
    part = read_features(tmp_path / "a.parquet", start_step=1020, stop_step=1030, start_seconds=102.3)
    np.testing.assert_array_equal(part.feature[:, 0], np.arange(1023, 1030))


@given(bounds=st.tuples(st.integers(-5, 3100), st.integers(-5, 3100)), seconds=st.booleans())
def test_a_range_gives_what_slicing_all_of_it_gives(shared_file, bounds, seconds):
    path, feature = shared_file
    start, stop = bounds
    words = ("start_seconds", "stop_seconds") if seconds else ("start_step", "stop_step")
    part = read_features(path, **dict(zip(words, bounds, strict=True)))
    np.testing.assert_array_equal(part.feature, feature[max(start, 0) : max(stop, 0)])


@pytest.fixture(scope="module")
def shared_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("range") / "a.parquet"
    feature = rows(3000, 2)
    write(path, feature, time=np.arange(3000.0))
    return path, feature


def test_a_range_is_read_while_all_other_row_groups_are_destroyed(tmp_path):
    path = tmp_path / "a.parquet"
    feature = rows(4 * ROWS_PER_GROUP, 3)
    write(path, feature, time=np.arange(len(feature), dtype=float))
    groups = [pq.ParquetFile(path).metadata.row_group(index) for index in range(4)]
    content = bytearray(path.read_bytes())
    for group in (groups[0], groups[1], groups[3]):
        chunks = [group.column(index) for index in range(3)]
        start = min(chunk.data_page_offset for chunk in chunks)
        stop = max(chunk.data_page_offset + chunk.total_compressed_size for chunk in chunks)
        content[start:stop] = bytes(stop - start)
    path.write_bytes(content)
    part = read_features(path, start_step=2 * ROWS_PER_GROUP, stop_step=3 * ROWS_PER_GROUP)
    np.testing.assert_array_equal(part.feature, feature[2 * ROWS_PER_GROUP : 3 * ROWS_PER_GROUP])
    with pytest.raises(CorruptArtefactError, match=r"a\.parquet"):
        read_features(path)


def test_many_videos_are_read_in_order(tmp_path):
    features = [rows(3 + index, 2, seed=index) for index in range(9)]
    paths = [tmp_path / f"{index}.parquet" for index in range(9)]
    for path, feature in zip(paths, features, strict=True):
        write(path, feature)
    read = list(read_many_features(paths, threads=3))
    for stored, feature in zip(read, features, strict=True):
        np.testing.assert_array_equal(stored.feature, feature)


def test_of_many_videos_those_before_a_missing_one_are_given(tmp_path):
    write(tmp_path / "a.parquet", rows(3, 2))
    stream = read_many_features([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert len(next(stream).feature) == 3
    with pytest.raises(MissingArtefactError, match=r"b\.parquet"):
        next(stream)


def test_sizes_against_npy_are_as_promised(tmp_path):
    feature = np.random.default_rng(0).gamma(0.4, 0.5, (4000, 256)).astype(np.float32)
    feature[feature < 0.05] = 0
    sizes = {}
    for packing in ("compact", "exact", "fast"):
        write(tmp_path / "a.parquet", feature, packing=packing)
        sizes[packing] = (tmp_path / "a.parquet").stat().st_size / feature.nbytes
    assert sizes["compact"] <= 0.6
    assert sizes["exact"] <= 0.95
    assert 1 <= sizes["fast"] <= 1.05


def test_a_value_beyond_float16_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="packing 'exact'"):
        write(tmp_path / "a.parquet", np.full((2, 2), 70000.0, np.float32), packing="compact")
    write(tmp_path / "a.parquet", np.full((2, 2), 70000.0, np.float32), packing="exact")


@pytest.mark.parametrize("packing", ["compact", "exact", "fast"])
def test_a_read_after_any_flipped_byte_is_right_or_refused(tmp_path, packing):
    path = tmp_path / "a.parquet"
    feature = rows(20, 2).astype(np.float16).astype(np.float32)
    write(path, feature, packing=packing)
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    undetected = []
    # The footer is under one checksum, the pages and their headers are not: every byte of those.
    for place in (*range(footer), *range(footer, len(content), 29)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            stored = read_features(path)
        except CorruptArtefactError:
            continue
        if not (np.array_equal(stored.feature, feature) and stored.metadata == METADATA):
            undetected.append(place)
    assert undetected == []


def test_a_range_without_a_step_is_empty(tmp_path):
    write(tmp_path / "a.parquet", np.ones((4, 2), np.float32))
    assert read_features(tmp_path / "a.parquet", start_seconds=99.0).feature.shape == (0, 2)


@pytest.mark.parametrize("packing", ["compact", "exact", "fast"])
def test_other_tools_read_the_file(tmp_path, packing):
    path = tmp_path / "a.parquet"
    feature = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float16).astype(np.float32)
    write(path, feature, packing=packing)
    query = "SELECT feature::FLOAT[3] FROM read_parquet($path) ORDER BY step"
    rows = duckdb.sql(query, params={"path": str(path)}).fetchall()
    np.testing.assert_array_equal(np.array([row[0] for row in rows], np.float32), feature)
    column = pl.read_parquet(path)["feature"]
    assert isinstance(column.dtype, pl.Array)
    np.testing.assert_array_equal(column.to_numpy(), feature)
    np.testing.assert_array_equal(np.stack(pd.read_parquet(path)["feature"]), feature)


def test_a_feature_that_is_not_finite_is_refused_and_nothing_is_stored(tmp_path):
    with pytest.raises(ValueError, match="NaN or infinite"):
        write(tmp_path / "a.parquet", np.array([[1.0, np.nan]], np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_step_of_another_width_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=r"takes \(n, 2\)"),
        write_features(tmp_path / "a.parquet", width=2, metadata=METADATA) as writer,
    ):
        writer.append(np.zeros(1), np.zeros((1, 3), np.float32))


def test_no_step_at_all_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="No step"),
        write_features(tmp_path / "a.parquet", width=2, metadata=METADATA),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_missing_features_say_how_to_make_them(tmp_path):
    with pytest.raises(MissingArtefactError, match=r"a\.parquet"):
        read_features(tmp_path / "a.parquet")


@pytest.mark.parametrize("keep", [0, 10, 200, -9])
def test_a_truncated_file_is_named_with_the_remedy(tmp_path, keep):
    path = tmp_path / "a.parquet"
    write(path, np.ones((50, 4), np.float32))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptArtefactError, match=r"a.parquet cannot be read .* Delete it"):
        read_features(path)


def test_a_parquet_file_of_another_kind_is_refused(tmp_path):
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(CorruptArtefactError, match="layout None"):
        read_feature_metadata(tmp_path / "a.parquet")
