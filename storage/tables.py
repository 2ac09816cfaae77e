"""Small Parquet tables whose schema carries a layout version and JSON metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from storage.atomic import atomic_path
from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.places import Place
from storage.seal import BLANK_PARQUET_SEAL, parquet_digest, seal_parquet

METADATA_KEY = b"factseg"
"""Key of our JSON in a Parquet file's schema metadata."""


def pack_metadata(layout: str, metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Schema metadata with the layout version and JSON-able facts."""
    facts = {"layout": layout, **metadata}
    return {METADATA_KEY: json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()}


def unpack_metadata(schema: pa.Schema, *, layout: str, path: Place) -> dict[str, Any]:
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


def open_parquet(path: Place) -> pq.ParquetFile:
    """The Parquet file at ``path``.

    Raises:
        MissingArtefactError: There is no such file.
        CorruptArtefactError: The file is no Parquet file.
    """
    if not path.is_file():
        raise MissingArtefactError(f"Nothing is stored at {path}. Run the step that makes it again.")
    # The end of the file proves itself before anything in it is believed; pages carry checksums of their own.
    parquet_digest(path)
    try:
        if isinstance(path, Path):
            return pq.ParquetFile(path, page_checksum_verification=True)
        # Ranges are fetched as they are asked for: a footer or a row group costs no more than itself.
        to_arrow: Any = pa.fs.FSSpecHandler
        handler = pa.fs.PyFileSystem(to_arrow(path.fs))
        return pq.ParquetFile(path.path, filesystem=handler, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Place, error: Exception) -> CorruptArtefactError:
    """The error for a file that Arrow cannot read."""
    return CorruptArtefactError(
        f"{path} cannot be read ({error}). Delete it and run the step that makes it again."
    )


def write_table(
    path: Place, table: pa.Table, *, layout: str, metadata: Mapping[str, Any], once: bool = False
) -> None:
    """Write a whole table, with its metadata, so that a reader never sees a part of it.

    Args:
        path: Where it goes.
        table: The rows.
        layout: Version of its schema.
        metadata: JSON-able facts.
        once: As for ``atomic_path``: the name says all that can change the content.
    """
    with atomic_path(path, once=once) as scratch:
        whole = table.replace_schema_metadata(pack_metadata(layout, metadata))
        with pq.ParquetWriter(scratch, whole.schema, compression="zstd", write_page_checksum=True) as parquet:
            parquet.add_key_value_metadata(BLANK_PARQUET_SEAL)
            parquet.write_table(whole)
        seal_parquet(scratch)


def read_table(path: Place, *, layout: str) -> tuple[pa.Table, dict[str, Any]]:
    """A table written by ``write_table`` and its metadata."""
    file = open_parquet(path)
    metadata = unpack_metadata(file.schema_arrow, layout=layout, path=path)
    try:
        return file.read(), metadata
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
