"""What a feature file is: its schema, what made it, and the three ways its numbers are packed."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.places import Place
from storage.seal import BLANK_PARQUET_SEAL
from storage.tables import pack_metadata, unpack_metadata

FEATURE_LAYOUT = "features/1"
"""Version of the schema below; a reader refuses any other."""

ROWS_PER_GROUP = 1024
"""Rows of a row group: a time range is read without the rest of a long video."""

FeaturePacking = Literal["compact", "exact", "fast"]
"""How the numbers of a feature file are packed.

``compact``: float16 and zstd, about half the bytes of float32, rounded once; without byte-stream split, which DuckDB
does not read for float16. ``exact``: float32 bit for bit, byte-stream split and zstd. ``fast``: float32, not
compressed.
"""


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
    """Features of one video, or of a range of its steps."""

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


def feature_schema(*, width: int, packing: FeaturePacking, metadata: FeatureMetadata) -> pa.Schema:
    """Schema of a feature file: ``step``, ``time`` in seconds, ``feature`` of fixed width."""
    value = pa.float16() if packing == "compact" else pa.float32()
    fields: list[pa.Field[Any]] = [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("time", pa.float64(), nullable=False),
        pa.field("feature", pa.list_(pa.field("element", value, nullable=False), width), nullable=False),
    ]
    return pa.schema(fields).with_metadata(pack_metadata(FEATURE_LAYOUT, asdict(metadata)))


def open_feature_writer(path: Path, schema: pa.Schema, *, packing: FeaturePacking) -> pq.ParquetWriter:
    """A Parquet writer for row groups of ``schema``, with checksums of its pages and a blank seal."""
    writer = pq.ParquetWriter(
        path,
        schema,
        compression="none" if packing == "fast" else "zstd",
        use_dictionary=False,
        use_byte_stream_split=["feature.list.element"] if packing == "exact" else False,
        # Ranges are found by these; the smallest of two million feature values helps nobody.
        write_statistics=["step", "time"],
        write_page_checksum=True,
    )
    writer.add_key_value_metadata(BLANK_PARQUET_SEAL)
    return writer


def metadata_of(file: pq.ParquetFile, path: Place) -> FeatureMetadata:
    """What made the file.

    Raises:
        CorruptArtefactError: It is no feature file of a known layout.
    """
    return FeatureMetadata(**unpack_metadata(file.schema_arrow, layout=FEATURE_LAYOUT, path=path))
