"""Writing feature files: steps are appended, and the file appears whole when all are there.

A long video can be written in parts: every so many steps a part file is finished under a hidden folder beside the
target, so that a killed run goes on after its last part. The finished file has the same bytes either way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.atomic import atomic_path
from storage.feature_file import (
    ROWS_PER_GROUP,
    FeatureMetadata,
    FeaturePacking,
    feature_schema,
    open_feature_writer,
)
from storage.feature_parts import FeatureParts
from storage.places import Place
from storage.seal import seal_parquet


class FeatureWriter:
    """Appends steps to a feature file; made by ``write_features``."""

    def __init__(self, schema: pa.Schema, emit: Callable[[pa.Table], None], *, num_steps: int = 0) -> None:
        self._schema = schema
        self._column: Any = schema.field("feature").type
        self._emit = emit
        self._num_steps = num_steps
        self._time = np.empty(ROWS_PER_GROUP, np.float64)
        self._feature = np.empty(
            (ROWS_PER_GROUP, self._column.list_size), self._column.value_type.to_pandas_dtype()
        )

    @property
    def num_steps(self) -> int:
        """Steps stored so far; more than 0 at the start where a killed run left parts: append what follows."""
        return self._num_steps

    def append(self, time: NDArray[np.float64], feature: NDArray[np.floating[Any]]) -> None:
        """Append steps: ``time`` (n,) in seconds, ``feature`` (n, D).

        Raises:
            ValueError: The shapes do not fit, or a value is NaN, infinite or too large for float16.
        """
        if feature.shape != (len(time), self._column.list_size):
            raise ValueError(
                f"Steps of shape {feature.shape} with {len(time)} time stamps; "
                f"this file takes (n, {self._column.list_size}) with n time stamps."
            )
        if not np.isfinite(feature).all():
            raise ValueError("A feature is NaN or infinite; the extractor's weights or input are broken.")
        done = 0
        while done < len(time):
            filled = self._num_steps % ROWS_PER_GROUP
            count = min(ROWS_PER_GROUP - filled, len(time) - done)
            self._time[filled : filled + count] = time[done : done + count]
            self._store(filled, feature[done : done + count])
            done += count
            self._num_steps += count
            if self._num_steps % ROWS_PER_GROUP == 0:
                self._flush(ROWS_PER_GROUP)

    def finish(self) -> None:
        """Hand on the last, shorter row group."""
        if self._num_steps == 0:
            raise ValueError("No step was appended; an empty feature file is never stored.")
        if rest := self._num_steps % ROWS_PER_GROUP:
            self._flush(rest)

    def _store(self, filled: int, feature: NDArray[np.floating[Any]]) -> None:
        rows = self._feature[filled : filled + len(feature)]
        with np.errstate(over="ignore"):
            rows[:] = feature
        if not np.isfinite(rows).all():
            raise ValueError(
                f"A feature of {np.abs(feature).max():g} is beyond float16 (65504). Store it with packing 'exact'."
            )

    def _flush(self, count: int) -> None:
        first = self._num_steps - count
        step = pa.array(np.arange(first, first + count, dtype=np.int32))
        values = pa.array(self._feature[:count].reshape(-1).copy(), type=self._column.value_type)
        rows = pa.FixedSizeListArray.from_arrays(values, type=self._column)
        time = pa.array(self._time[:count].copy())
        self._emit(pa.Table.from_arrays([step, time, rows], schema=self._schema))


@contextmanager
def write_features(
    path: Place,
    *,
    width: int,
    metadata: FeatureMetadata,
    packing: FeaturePacking = "compact",
    part_steps: int | None = None,
) -> Iterator[FeatureWriter]:
    """Write a feature file that appears only when the block succeeds.

    Args:
        path: The file.
        width: Values of a step.
        metadata: What makes it.
        packing: How the numbers are packed.
        part_steps: Finish a part every so many steps, a multiple of ``ROWS_PER_GROUP``, and go on where a killed
            run with the same metadata stopped: look at ``num_steps`` of the writer and append what follows. Hold
            the file's ``artefact_lock``. None: all or nothing.
    """
    schema = feature_schema(width=width, packing=packing, metadata=metadata)
    if part_steps is not None:
        parts = FeatureParts(path, schema, packing=packing, part_steps=part_steps)
        writer = FeatureWriter(schema, parts.add, num_steps=parts.num_steps)
        yield writer
        writer.finish()
        with atomic_path(path, once=True) as scratch:
            parts.join(scratch)
        parts.remove()
        return
    with atomic_path(path, once=True) as scratch:
        with open_feature_writer(scratch, schema, packing=packing) as parquet:
            writer = FeatureWriter(schema, partial(parquet.write_table, row_group_size=ROWS_PER_GROUP))
            yield writer
            writer.finish()
        seal_parquet(scratch)
