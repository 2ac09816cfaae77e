"""The catalogue: one row per video file ever probed into the store."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from storage.atomic import artefact_lock
from storage.places import Place
from storage.tables import read_table, write_table

CATALOGUE_LAYOUT = "catalogue/1"
"""Version of the schema below."""

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("path", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("video_hash", pa.string()),
    pa.field("size_bytes", pa.int64()),
    pa.field("container", pa.string()),
    pa.field("codec", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("rotation", pa.int32()),
    pa.field("fps", pa.float64()),
    pa.field("num_frames", pa.int64()),
    pa.field("duration_seconds", pa.float64()),
    pa.field("decoder", pa.string()),
]
CATALOGUE_SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueRow:
    """What is known of one video file."""

    id: str
    """The file's name without its ending."""
    path: str
    """Where the file was found."""
    status: str
    """``ok``, ``failed`` or ``not a video``."""
    error: str | None = None
    """Why it failed, or what of it is damaged, in one sentence."""
    video_hash: str | None = None
    """SHA-256 of the content."""
    size_bytes: int | None = None
    container: str | None = None
    codec: str | None = None
    width: int | None = None
    """Pixels, upright."""
    height: int | None = None
    """Pixels, upright."""
    rotation: int | None = None
    """Degrees by which the stored pictures are turned to stand upright."""
    fps: float | None = None
    """Average frames per second."""
    num_frames: int | None = None
    duration_seconds: float | None = None
    decoder: str | None = None
    """Library that decodes it right here."""


def read_catalogue(path: Place) -> list[CatalogueRow]:
    """Every row, by path; an empty list where no video was ever probed."""
    if not path.exists():
        return []
    table, _ = read_table(path, layout=CATALOGUE_LAYOUT)
    return [CatalogueRow(**row) for row in table.to_pylist()]


def update_catalogue(path: Place, rows: Iterable[CatalogueRow]) -> None:
    """Add rows, or replace those of the same path; two processes may do so at once."""
    with artefact_lock(path):
        by_path = {row.path: row for row in read_catalogue(path)}
        updated = by_path | {row.path: row for row in rows}
        if updated == by_path:
            return
        table = pa.Table.from_pylist(
            [asdict(updated[name]) for name in sorted(updated)], schema=CATALOGUE_SCHEMA
        )
        write_table(path, table, layout=CATALOGUE_LAYOUT, metadata={})
