import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.features import (
    ROWS_PER_GROUP,
    FeatureMetadata,
    read_feature_metadata,
    read_features,
    write_features,
)

METADATA = FeatureMetadata(
    profile="clip",
    identity={"name": "clip", "stride_frames": 4},
    weights_digest="ab" * 32,
    random_weights=True,
    video_hash="cd" * 32,
    decoder="pyav",
    fps=25.0,
    num_frames=100,
    window_frames=1,
    stride_frames=4,
)


def write(path, feature, *, time=None, dtype="float32", pieces=1):
    time = np.arange(len(feature)) * 0.16 if time is None else time
    with write_features(path, width=feature.shape[1], metadata=METADATA, dtype=dtype) as writer:
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


def test_float16_is_rounded_once(tmp_path):
    feature = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    write(tmp_path / "a.parquet", feature, dtype="float16")
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


def test_a_range_without_a_step_is_empty(tmp_path):
    write(tmp_path / "a.parquet", np.ones((4, 2), np.float32))
    assert read_features(tmp_path / "a.parquet", start_seconds=99.0).feature.shape == (0, 2)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_tools_read_the_file(tmp_path, dtype):
    path = tmp_path / "a.parquet"
    feature = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float16).astype(np.float32)
    write(path, feature, dtype=dtype)
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
