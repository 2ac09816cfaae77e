"""Features at rest: one Parquet file per video and profile, a row per step."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.feature_file import (
    FEATURE_LAYOUT,
    ROWS_PER_GROUP,
    FeatureMetadata,
    FeaturePacking,
    Features,
    feature_schema,
    metadata_of,
)
from storage.feature_writer import FeatureWriter, write_features
from storage.places import Place
from storage.tables import open_parquet, unreadable

__all__ = [
    "FEATURE_LAYOUT",
    "ROWS_PER_GROUP",
    "FeatureMetadata",
    "FeaturePacking",
    "FeatureWriter",
    "Features",
    "feature_schema",
    "read_feature_metadata",
    "read_features",
    "read_many_features",
    "write_features",
]

_STEP_COLUMN, _TIME_COLUMN = 0, 1


def read_feature_metadata(path: Place) -> FeatureMetadata:
    """What made the file; reads only the footer.

    Raises:
        MissingArtefactError: There is no such file.
        CorruptArtefactError: The file is no feature file of a known layout.
    """
    with open_parquet(path) as file:
        return metadata_of(file, path)


def read_features(
    path: Place,
    *,
    start_seconds: float | None = None,
    stop_seconds: float | None = None,
    start_step: int | None = None,
    stop_step: int | None = None,
) -> Features:
    """Features of the steps in [start_seconds, stop_seconds) and in [start_step, stop_step), or of all of them.

    Row groups outside the range are not read.

    Raises:
        MissingArtefactError: There is no such file.
        CorruptArtefactError: The file is no feature file of a known layout, or a byte of it was changed.
    """
    ranges = {_STEP_COLUMN: (start_step, stop_step), _TIME_COLUMN: (start_seconds, stop_seconds)}
    with open_parquet(path) as file:
        metadata = metadata_of(file, path)
        groups = [
            group
            for group in range(file.num_row_groups)
            if all(
                _overlaps(file.metadata.row_group(group).column(index), *ranges[index]) for index in ranges
            )
        ]
        try:
            table = file.read_row_groups(groups)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error
    time = table.column("time").to_numpy()
    feature = _matrix(table.column("feature"))
    inside = _within(table.column("step").to_numpy(), start_step, stop_step)
    inside &= _within(time, start_seconds, stop_seconds)
    if not inside.all():
        time, feature = time[inside], feature[inside]
    return Features(time=time, feature=feature, metadata=metadata)


def read_many_features(paths: Iterable[Place], *, threads: int = 2) -> Iterator[Features]:
    """Features of many videos in the order of ``paths``; a few are read ahead, never all.

    Raises:
        MissingArtefactError: A file is missing; those before it were given.
        CorruptArtefactError: A file is damaged; those before it were given.
    """
    rest = iter(paths)
    with ThreadPoolExecutor(threads) as pool:
        ahead: list[Future[Features]] = [
            pool.submit(read_features, path) for path in islice(rest, threads + 1)
        ]
        while ahead:
            done = ahead.pop(0)
            ahead += [pool.submit(read_features, path) for path in islice(rest, 1)]
            yield done.result()


def _matrix(column: "pa.ChunkedArray[Any]") -> NDArray[np.float32]:
    width = column.type.list_size
    chunks = [cast("pa.FixedSizeListArray[Any]", chunk).flatten().to_numpy() for chunk in column.chunks]
    return np.concatenate([np.empty(0, np.float32), *chunks], dtype=np.float32).reshape(-1, width)


def _within(values: NDArray[Any], start: float | None, stop: float | None) -> NDArray[np.bool_]:
    inside = np.ones(len(values), dtype=bool)
    if start is not None:
        inside &= values >= start
    if stop is not None:
        inside &= values < stop
    return inside


def _overlaps(column: pq.ColumnChunkMetaData, start: float | None, stop: float | None) -> bool:
    statistics: Any = column.statistics
    if statistics is None:
        return True
    before = stop is not None and statistics.min >= stop
    after = start is not None and statistics.max < start
    return not before and not after
