"""Small Parquet tables whose schema carries a layout version and JSON metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.atomic import atomic_path
from storage.errors import CorruptArtefactError, MissingArtefactError

METADATA_KEY = b"factseg"
"""Key of our JSON in a Parquet file's schema metadata."""


def pack_metadata(layout: str, metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Schema metadata with the layout version and JSON-able facts."""
    facts = {"layout": layout, **metadata}
    return {METADATA_KEY: json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()}


def unpack_metadata(schema: pa.Schema, *, layout: str, path: Path) -> dict[str, Any]:
    """Facts stored by ``pack_metadata``.

    Raises:
        CorruptArtefactError: The file has no layout, or another one.
    """
    raw = (schema.metadata or {}).get(METADATA_KEY)
    facts: dict[str, Any] = json.loads(raw) if raw else {}
    found = facts.pop("layout", None)
    if found != layout:
        raise CorruptArtefactError(
            f"{path} has layout {found!r}; this program reads {layout!r}. "
            "Delete it and run the command again, or use the program that wrote it."
        )
    return facts


def open_parquet(path: Path) -> pq.ParquetFile:
    """The Parquet file at ``path``.

    Raises:
        MissingArtefactError: There is no such file.
        CorruptArtefactError: The file is no Parquet file.
    """
    if not path.is_file():
        raise MissingArtefactError(f"Nothing is stored at {path}. Run the step that makes it again.")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CorruptArtefactError:
    """The error for a file that Arrow cannot read."""
    return CorruptArtefactError(
        f"{path} cannot be read ({error}). Delete it and run the step that makes it again."
    )


def write_table(path: Path, table: pa.Table, *, layout: str, metadata: Mapping[str, Any]) -> None:
    """Write a whole table, with its metadata, so that a reader never sees a part of it."""
    with atomic_path(path) as scratch:
        pq.write_table(
            table.replace_schema_metadata(pack_metadata(layout, metadata)), scratch, compression="zstd"
        )


def read_table(path: Path, *, layout: str) -> tuple[pa.Table, dict[str, Any]]:
    """A table written by ``write_table`` and its metadata."""
    file = open_parquet(path)
    metadata = unpack_metadata(file.schema_arrow, layout=layout, path=path)
    try:
        return file.read(), metadata
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
