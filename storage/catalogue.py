"""The catalogue: one row per video file ever probed into the store."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
    pa.field("video_streams", pa.int32()),
    pa.field("stream_index", pa.int32()),
    pa.field("pixel_aspect", pa.float64()),
    pa.field("variable_rate", pa.bool_()),
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
    video_streams: int | None = None
    """Video streams of the file, without cover pictures; like what follows, unknown of files that an earlier version
    of this program probed and that were not opened since."""
    stream_index: int | None = None
    """The stream that is taken."""
    pixel_aspect: float | None = None
    """Width of a pixel over its height, upright; recorded, never applied."""
    variable_rate: bool | None = None
    """Whether the time stamps of the frames are unevenly spaced."""


def read_catalogue(path: Place) -> list[CatalogueRow]:
    """Every row, by path; an empty list where no video was ever probed."""
    if not path.exists():
        return []
    return [CatalogueRow(**row) for row in _read(path).to_pylist()]


def update_catalogue(
    path: Place, rows: Iterable[CatalogueRow], *, keep_failures: bool = False
) -> list[CatalogueRow]:
    """Add rows, or replace those of the same path; two processes may do so at once.

    Every video that is opened comes by here, so this costs little beside a catalogue of many thousand: rows of others
    are never looked at one by one, and read only where another process wrote since.

    Args:
        path: The catalogue.
        rows: What is known now.
        keep_failures: A row stays that says of the same content that it failed.

    Returns:
        The rows of these paths as they are in the catalogue now.
    """
    fresh = {row.path: row for row in rows}
    with artefact_lock(path):
        table = _last_written(path)
        ours = pc.is_in(table["path"], value_set=pa.array(list(fresh), pa.string()))
        known = {row["path"]: CatalogueRow(**row) for row in table.filter(ours).to_pylist()}
        if keep_failures:
            fresh |= {name: row for name, row in known.items() if _failed_alike(row, fresh[name])}
        if known == fresh:
            return list(fresh.values())
        added = pa.Table.from_pylist([asdict(row) for row in fresh.values()], schema=CATALOGUE_SCHEMA)
        updated = pa.concat_tables([table.filter(pc.invert(ours)), added]).sort_by("path").combine_chunks()
        write_table(path, updated, layout=CATALOGUE_LAYOUT, metadata={})
        _remember(path, updated)
    return list(fresh.values())


def _failed_alike(known: CatalogueRow, fresh: CatalogueRow) -> bool:
    return known.status == "failed" and known.video_hash is not None and known.video_hash == fresh.video_hash


_remembered: tuple[Path, tuple[int, int, int], pa.Table] | None = None
"""A catalogue that this process wrote or read last, and what its file was like then."""


def _last_written(path: Place) -> pa.Table:
    """The table at rest. Hold its lock."""
    if not path.exists():
        return CATALOGUE_SCHEMA.empty_table()
    if isinstance(path, Path) and _remembered is not None and _remembered[:2] == (path, _stamp(path)):
        return _remembered[2]
    table = _read(path)
    _remember(path, table)
    return table


def _read(path: Place) -> pa.Table:
    """The table at rest, in the columns of today: those that were not there when it was written are null."""
    table, _ = read_table(path, layout=CATALOGUE_LAYOUT)
    for field in CATALOGUE_SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(CATALOGUE_SCHEMA.names).replace_schema_metadata(None)


def _remember(path: Place, table: pa.Table) -> None:
    global _remembered  # noqa: PLW0603  (one catalogue for the process, as there is one store)
    if isinstance(path, Path):
        _remembered = (path, _stamp(path), table)


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes with every write: a file that is renamed into place is another one."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
