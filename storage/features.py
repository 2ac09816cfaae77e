"""Features at rest: one Parquet file per video and profile, a row per step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.atomic import atomic_path
from storage.tables import open_parquet, pack_metadata, unpack_metadata, unreadable

FEATURE_LAYOUT = "features/1"
"""Version of the schema below; a reader refuses any other."""

ROWS_PER_GROUP = 1024
"""Rows of a row group: a time range is read without the rest of a long video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureMetadata:
    """What made a feature file."""

    profile: str
    """Name of the profile."""
    identity: dict[str, Any]
    """Every parameter of the profile and every version that can change a byte."""
    weights_digest: str
    """SHA-256 of the weights, or of the seed and architecture of random ones."""
    random_weights: bool
    """True where the weights are seeded random numbers and the features mean nothing beyond a test."""
    video_hash: str
    """SHA-256 of the video file."""
    decoder: str
    """Library that decoded the pictures."""
    fps: float
    """Average rate of the video in frames per second."""
    num_frames: int
    """Frames of the video."""
    window_frames: int
    """Video frames seen by a step."""
    stride_frames: int
    """Video frames between the centres of neighbouring steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Features of one video, or of a time range of it."""

    time: NDArray[np.float64]
    """(T,) centre of each step's window, in seconds from the first frame."""
    feature: NDArray[np.float32]
    """(T, D)"""
    metadata: FeatureMetadata

    def __post_init__(self) -> None:
        if self.time.shape != self.feature.shape[:1] or self.feature.ndim != 2:
            raise ValueError(
                f"{self.metadata.profile}: time stamps {self.time.shape} do not fit "
                f"features {self.feature.shape}; give (T,) and (T, D)."
            )


def feature_schema(
    *, width: int, dtype: Literal["float16", "float32"], metadata: FeatureMetadata
) -> pa.Schema:
    """Schema of a feature file: ``step``, ``time`` in seconds, ``feature`` of fixed width."""
    value = pa.float16() if dtype == "float16" else pa.float32()
    fields: list[pa.Field[Any]] = [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("time", pa.float64(), nullable=False),
        pa.field("feature", pa.list_(pa.field("element", value, nullable=False), width), nullable=False),
    ]
    return pa.schema(fields).with_metadata(pack_metadata(FEATURE_LAYOUT, asdict(metadata)))


class FeatureWriter:
    """Appends steps to a feature file; made by ``write_features``."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._pending: list[tuple[NDArray[np.float64], NDArray[np.generic]]] = []
        self._num_pending = 0
        self._num_written = 0

    @property
    def num_steps(self) -> int:
        """Steps appended so far."""
        return self._num_written + self._num_pending

    def append(self, time: NDArray[np.float64], feature: NDArray[np.floating[Any]]) -> None:
        """Append steps: ``time`` (n,) in seconds, ``feature`` (n, D).

        Raises:
            ValueError: The shapes do not fit, or a value is NaN or infinite.
        """
        field = self._schema.field("feature").type
        if feature.shape != (len(time), field.list_size):
            raise ValueError(
                f"Steps of shape {feature.shape} with {len(time)} time stamps; "
                f"this file takes (n, {field.list_size}) with n time stamps."
            )
        if not np.isfinite(feature).all():
            raise ValueError("A feature is NaN or infinite; the extractor's weights or input are broken.")
        self._pending.append((time, feature.astype(field.value_type.to_pandas_dtype())))
        self._num_pending += len(time)
        while self._num_pending >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def finish(self) -> None:
        """Write the last, shorter row group."""
        if self._num_pending:
            self._flush(self._num_pending)

    def _flush(self, count: int) -> None:
        time = np.concatenate([time for time, _ in self._pending])
        feature = np.concatenate([feature for _, feature in self._pending])
        step = np.arange(self._num_written, self._num_written + count, dtype=np.int32)
        field = self._schema.field("feature")
        values = pa.array(feature[:count].reshape(-1), type=field.type.value_type)
        rows = pa.FixedSizeListArray.from_arrays(values, type=field.type)
        self._writer.write_table(
            pa.Table.from_arrays([pa.array(step), pa.array(time[:count]), rows], schema=self._schema),
            row_group_size=count,
        )
        self._pending = [(time[count:], feature[count:])]
        self._num_pending -= count
        self._num_written += count


@contextmanager
def write_features(
    path: Path, *, width: int, metadata: FeatureMetadata, dtype: Literal["float16", "float32"] = "float16"
) -> Iterator[FeatureWriter]:
    """Write a feature file that appears only when the block succeeds.

    float16 with zstd and without byte-stream split is what DuckDB, Polars and pandas all read.
    """
    schema = feature_schema(width=width, dtype=dtype, metadata=metadata)
    with atomic_path(path) as scratch:
        with pq.ParquetWriter(scratch, schema, compression="zstd", use_dictionary=False) as parquet:
            writer = FeatureWriter(parquet, schema)
            yield writer
            writer.finish()
        if writer.num_steps == 0:
            raise ValueError(f"No step was appended to {path.name}; an empty feature file is never stored.")


def read_feature_metadata(path: Path) -> FeatureMetadata:
    """What made the file; reads only the footer.

    Raises:
        MissingArtefactError: There is no such file.
        CorruptArtefactError: The file is no feature file of a known layout.
    """
    return _metadata_of(open_parquet(path), path)


def read_features(
    path: Path, *, start_seconds: float | None = None, stop_seconds: float | None = None
) -> Features:
    """Features of the steps in [start_seconds, stop_seconds), or of all of them.

    Row groups outside the range are not read.

    Raises:
        MissingArtefactError: There is no such file.
        CorruptArtefactError: The file is no feature file of a known layout.
    """
    file = open_parquet(path)
    metadata = _metadata_of(file, path)
    groups = [
        group
        for group in range(file.num_row_groups)
        if _overlaps(file.metadata.row_group(group), start_seconds, stop_seconds)
    ]
    try:
        table = file.read_row_groups(groups)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    time = table.column("time").to_numpy()
    feature = _matrix(table.column("feature"))
    inside = np.ones(len(time), dtype=bool)
    if start_seconds is not None:
        inside &= time >= start_seconds
    if stop_seconds is not None:
        inside &= time < stop_seconds
    return Features(time=time[inside], feature=feature[inside], metadata=metadata)


def _matrix(column: "pa.ChunkedArray[Any]") -> NDArray[np.float32]:
    width = column.type.list_size
    chunks = [cast("pa.FixedSizeListArray[Any]", chunk).flatten().to_numpy() for chunk in column.chunks]
    return np.concatenate([np.empty(0, np.float32), *chunks], dtype=np.float32).reshape(-1, width)


def _metadata_of(file: pq.ParquetFile, path: Path) -> FeatureMetadata:
    return FeatureMetadata(**unpack_metadata(file.schema_arrow, layout=FEATURE_LAYOUT, path=path))


def _overlaps(group: pq.RowGroupMetaData, start_seconds: float | None, stop_seconds: float | None) -> bool:
    statistics: Any = group.column(1).statistics
    if statistics is None:
        return True
    before = stop_seconds is not None and statistics.min >= stop_seconds
    after = start_seconds is not None and statistics.max < start_seconds
    return not before and not after
