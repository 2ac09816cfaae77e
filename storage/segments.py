"""Segments at rest: labels and predictions as runs of frames, a Parquet row per segment."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from storage.places import Place
from storage.tables import read_table, write_table

SEGMENT_LAYOUT = "segments/1"
"""Version of the schema below."""

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("video", pa.string(), nullable=False),
    pa.field("start_frame", pa.int64(), nullable=False),
    pa.field("end_frame", pa.int64(), nullable=False),
    pa.field("start_seconds", pa.float64(), nullable=False),
    pa.field("end_seconds", pa.float64(), nullable=False),
    pa.field("class", pa.string(), nullable=False),
    pa.field("score", pa.float64()),
]
SEGMENT_SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A run of frames with one class."""

    video: str
    """Video id."""
    start_frame: int
    """First frame, from 0."""
    end_frame: int
    """Frame after the last."""
    start_seconds: float
    """Time of the first frame."""
    end_seconds: float
    """Time at which the next segment starts, or the video ends."""
    label: str
    """Class name."""
    score: float | None = None
    """Mean confidence over the frames, 0 to 1; None for labels given by people."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_frame < self.end_frame:
            raise ValueError(
                f"{self.video}: a segment from frame {self.start_frame} to {self.end_frame} holds no frame."
            )

    def to_row(self) -> dict[str, Any]:
        """The segment as a row of the schema, the class under ``class``."""
        row = asdict(self)
        row["class"] = row.pop("label")
        return {name: row[name] for name in SEGMENT_SCHEMA.names}


def write_segments(path: Place, segments: Sequence[Segment], *, metadata: Mapping[str, Any]) -> None:
    """Store segments with JSON-able facts about what made them."""
    table = pa.Table.from_pylist([segment.to_row() for segment in segments], schema=SEGMENT_SCHEMA)
    write_table(path, table, layout=SEGMENT_LAYOUT, metadata=metadata, once=True)


def read_segments(path: Place) -> tuple[list[Segment], dict[str, Any]]:
    """Segments and the facts about what made them.

    Raises:
        MissingArtefactError: There are none.
        CorruptArtefactError: The file holds no segments of a known layout.
    """
    table, metadata = read_table(path, layout=SEGMENT_LAYOUT)
    rows = table.to_pylist()
    return [Segment(label=row.pop("class"), **row) for row in rows], metadata
